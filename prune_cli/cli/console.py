"""The only place that prints: results to standard output, everything else to standard error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from prune_cli.cli.streams import abandon
from prune_cli.core.errors import ClosedPipeError
from prune_cli.core.progress import Progress, silent

if TYPE_CHECKING:
    from prune_cli.stages.frame.outcome import Outcome

_PAGE = 120
"""Columns of a table that people paste elsewhere."""

_ENDLESS = 100_000
"""Columns enough for any table: a row is a line, which grep finds."""


class Console:
    """Prints for one command.

    Args:
        level: -1 with ``-q`` (results and errors alone), 0, 1 with ``-v``, 2 with ``-vv`` (tracebacks).
        as_json: the summary as one JSON object on standard output instead of the paths.
    """

    def __init__(self, level: int = 0, as_json: bool = False) -> None:
        self.level = level
        self.as_json = as_json

    def result(self, text: str) -> None:
        """Print a line of the result to standard output."""
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            raise ClosedPipeError("standard output is closed") from None
        except OSError as error:
            abandon(sys.stdout)
            self.error(f"standard output cannot be written: {error.strerror}; the files are whole")

    def say(self, text: str) -> None:
        """Print a line for people to standard error, unless quiet."""
        if self.level >= 0:
            sys.stderr.write(text + "\n")

    def error(self, message: str) -> None:
        """Print an error and its cure to standard error."""
        sys.stderr.write(f"prune: {message}\n")

    def show(self, outcome: Outcome) -> None:
        """Print what a stage did: warnings and tables to standard error, paths or JSON to standard output."""
        for warning in outcome.warnings:
            self.say(f"prune: warning: {warning}")
        if self.level >= 0:
            for title, rows in outcome.tables.items():
                width = None if sys.stderr.isatty() or "COLUMNS" in os.environ else 160
                sys.stderr.write(_drawn(title, rows, sys.stderr, width=width) + "\n")
        if self.level >= 1 and not self.as_json:
            self.say(json.dumps(outcome.summary, indent=1))
        if self.as_json:
            self.result(json.dumps({**outcome.summary, "warnings": outcome.warnings}, allow_nan=False, default=str))
        else:
            for title, rows in outcome.results.items():
                self.tabulate(title, rows, width=_PAGE)
            for output in outcome.outputs:
                if output != "-":
                    self.result(output)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Progress]:
        """Yield a progress sink: bars on a terminal, nothing elsewhere."""
        if self.level < 0 or not sys.stderr.isatty():
            yield silent
            return
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}"),
            console=RichConsole(stderr=True),
            transient=True,
        )
        tasks: dict[str, Any] = {}

        def advance(task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total, facts="")
            shown = "  ".join(f"{k} {v:.4g}" for k, v in (facts or {}).items())
            bars.update(tasks[task], completed=done, total=total, facts=shown)

        with bars:
            yield advance

    def tabulate(self, title: str | None, rows: list[list[str]], *, width: int = _ENDLESS) -> None:
        """Print a table of the result to standard output; nothing of it is cut off.

        Args:
            title: a line above it, or None.
            rows: texts; the first row is the heading.
            width: columns to fold it to where there is no terminal that says; as wide as it is unless told.
        """
        self.result(_drawn(title, rows, sys.stdout, width=None if sys.stdout.isatty() else width))


def _drawn(title: str | None, rows: list[list[str]], to: TextIO, *, width: int | None) -> str:
    """Return a table as text for a stream: plain unless it is a terminal and ``NO_COLOR`` is not set."""
    from rich import box
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for i, heading in enumerate(rows[0]):
        numeric = all(_is_number(row[i]) for row in rows[1:])
        table.add_column(Text(heading), justify="right" if numeric else "left", overflow="fold")
    for row in rows[1:]:
        table.add_row(*(Text(cell) for cell in row))
    styled = to.isatty() and not os.environ.get("NO_COLOR")
    console = RichConsole(
        file=to, width=width, highlight=False, force_terminal=styled, color_system="auto" if styled else None, legacy_windows=False
    )
    with console.capture() as drawn:
        if title is not None:
            console.print(Text(title, style="bold"))
        console.print(table)
    return "\n".join(line.rstrip() for line in drawn.get().rstrip().split("\n")) + "\n"


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "").rstrip("%"))
    except ValueError:
        return False
    return True
