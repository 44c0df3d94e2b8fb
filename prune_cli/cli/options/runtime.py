"""Options of where and how a run goes, and of what it writes and prints."""

from pathlib import Path
from typing import Annotated, Any

import typer

from prune_cli.cli import choices
from prune_cli.cli.groups import As, Flags
from prune_cli.cli.options.texts import parse_limit
from prune_cli.core.errors import InputError
from prune_cli.core.runtime import ENGINES, Runtime


class OutputFlags(Flags):
    """Where the result goes, and whether it is made."""

    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="PATH", help="Where the result goes; - is standard output.", show_default="from the input's name"
        ),
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False
    plan: Annotated[bool, typer.Option("--plan", help="Print rows, passes, peak memory, disk and algorithm, then stop.")] = False


class WorkFlags(OutputFlags):
    """The same of a command that goes on where it was killed."""

    work_dir: Annotated[
        Path | None,
        typer.Option(
            "--work-dir", metavar="DIR", help="Keeps finished blocks for a re-run after a kill.", show_default="beside the output"
        ),
    ] = None


class PrintFlags(Flags):
    """What is printed; every command has these."""

    json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object on standard output.")] = False
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Results and errors alone.")] = False
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="More; -vv shows tracebacks.", show_default=False)] = 0

    @property
    def level(self) -> int:
        """Return how much is said, as `Console` takes it."""
        return -1 if self.quiet else self.verbose


BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, metavar="N", help="Samples a step.", show_default="the method's")]

Workers = Annotated[
    int, typer.Option("--workers", min=0, metavar="N", help="Processes or threads that decode, or compute blocks of work; 0 is one a core.")
]


class RuntimeFlags(Flags):
    """The machine, the precision and the seed of a run."""

    device: Annotated[
        str, typer.Option("--device", metavar="auto|cpu|cuda|cuda:1", help="Where it runs.", autocompletion=choices.devices)
    ] = "auto"
    precision: Annotated[
        str,
        typer.Option(
            "--precision", metavar="NAME", help="float32, float64 or bfloat16, as the method takes.", autocompletion=choices.precisions
        ),
    ] = "auto"
    workers: Workers = 0
    memory_limit: Annotated[
        str | None,
        typer.Option("--memory-limit", metavar="SIZE", help="Memory the run may use, as 4GiB.", show_default="3/4 of what is free"),
        As(read=parse_limit),
    ] = None
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="INT", help="Seed of every random draw.")] = 0
    batch_size: BatchSize = None

    def runtime(self, **more: Any) -> Runtime:
        """Return the runtime, from the texts of the command line; ``more`` are fields that a command states by itself."""
        return Runtime(**{**self.named(), **more})


class BlockFlags(RuntimeFlags):
    """The same of a command whose blocks of work may run elsewhere."""

    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="local|ray",
            help="Where blocks of work run: here, or on a Ray cluster (extra ray).",
            autocompletion=choices.engines,
        ),
    ] = "local"
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="HOST:PORT", help="The Ray cluster to join.", show_default="RAY_ADDRESS, else one of this machine alone"
        ),
    ] = None

    def runtime(self, **more: Any) -> Runtime:
        """Return the runtime; see `RuntimeFlags.runtime`.

        Raises:
            InputError: an engine that is not known, or an address that means nothing to it.
        """
        if self.engine not in ENGINES:
            raise InputError(f"unknown --engine '{self.engine}'", f"use one of: {', '.join(ENGINES)}")
        if self.address is not None and self.engine == "local":
            raise InputError("--address names a Ray cluster, and --engine is local", "add --engine ray")
        return super().runtime(**more)
