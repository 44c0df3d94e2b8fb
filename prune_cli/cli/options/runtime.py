"""Options of where and how a run goes, and of what it writes and prints."""

from pathlib import Path
from typing import Annotated, Any

import typer

from prune_cli.cli import choices
from prune_cli.cli.groups import As, Flags, opt
from prune_cli.cli.options.texts import parse_limit
from prune_cli.core.errors import InputError
from prune_cli.core.runtime import ENGINES, Runtime


class OutputFlags(Flags):
    """Where the result goes, and whether it is made."""

    output: Annotated[
        str | None, opt("-o --output", "PATH", "Where the result goes; - is standard output.", default="from the input's name")
    ] = None
    force: Annotated[bool, opt("--force", None, "Replace an existing output.")] = False
    plan: Annotated[bool, opt("--plan", None, "Print rows, passes, peak memory, disk and algorithm, then stop.")] = False


class WorkFlags(OutputFlags):
    """The same of a command that goes on where it was killed."""

    work_dir: Annotated[
        Path | None, opt("--work-dir", "DIR", "Keeps finished blocks for a re-run after a kill.", default="beside the output")
    ] = None


class PrintFlags(Flags):
    """What is printed; every command has these."""

    json: Annotated[bool, opt("--json", None, "Print the summary as one JSON object on standard output.")] = False
    quiet: Annotated[bool, opt("-q --quiet", None, "Results and errors alone.")] = False
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="More; -vv shows tracebacks.", show_default=False)] = 0

    @property
    def level(self) -> int:
        """Return how much is said, as `Console` takes it."""
        return -1 if self.quiet else self.verbose


BatchSize = Annotated[int | None, opt("--batch-size", "N", "Samples a step.", default="the method's", min=1)]

Workers = Annotated[int, opt("--workers", "N", "Processes or threads that decode, or compute blocks of work; 0 is one a core.", min=0)]


class RuntimeFlags(Flags):
    """The machine, the precision and the seed of a run."""

    device: Annotated[str, opt("--device", "auto|cpu|cuda|cuda:1", "Where it runs.", complete=choices.among(("auto", "cpu", "cuda")))] = (
        "auto"
    )
    precision: Annotated[
        str,
        opt(
            "--precision",
            "NAME",
            "float32, float64 or bfloat16, as the method takes.",
            complete=choices.among(("auto", "float32", "float64", "bfloat16")),
        ),
    ] = "auto"
    workers: Workers = 0
    memory_limit: Annotated[
        str | None, opt("--memory-limit", "SIZE", "Memory the run may use, as 4GiB.", default="3/4 of what is free"), As(read=parse_limit)
    ] = None
    seed: Annotated[int, opt("--seed", "INT", "Seed of every random draw.", min=0)] = 0
    batch_size: BatchSize = None

    def runtime(self, **more: Any) -> Runtime:
        """Return the runtime, from the texts of the command line; ``more`` are fields that a command states by itself."""
        return Runtime(**{**self.named(), **more})


class BlockFlags(RuntimeFlags):
    """The same of a command whose blocks of work may run elsewhere."""

    engine: Annotated[
        str,
        opt("--engine", "local|ray", "Where blocks of work run: here, or on a Ray cluster (extra ray).", complete=choices.among(ENGINES)),
    ] = "local"
    address: Annotated[
        str | None, opt("--address", "HOST:PORT", "The Ray cluster to join.", default="RAY_ADDRESS, else one of this machine alone")
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
