"""Options of what a command writes and prints."""

from pathlib import Path
from typing import Annotated

import typer

from prune_cli.cli.groups import Flags


class OutputFlags(Flags):
    """Where the result goes, and whether it is made."""

    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="Where the result goes; - is standard output.",
            show_default="from the input's name",
        ),
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False
    plan: Annotated[
        bool, typer.Option("--plan", help="Print rows, passes, peak memory, disk and algorithm, then stop.")
    ] = False


class WorkFlags(OutputFlags):
    """The same of a command that goes on where it was killed."""

    work_dir: Annotated[
        Path | None,
        typer.Option(
            "--work-dir",
            metavar="DIR",
            help="Keeps finished blocks for a re-run after a kill.",
            show_default="beside the output",
        ),
    ] = None


class PrintFlags(Flags):
    """What is printed; every command has these."""

    json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object on standard output.")] = (
        False
    )
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Results and errors alone.")] = False
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="More; -vv shows tracebacks.", show_default=False)
    ] = 0

    @property
    def level(self) -> int:
        """Return how much is said, as `Console` takes it."""
        return -1 if self.quiet else self.verbose
