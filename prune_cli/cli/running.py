"""One stage, run for one command: progress shown, Ctrl-C heeded, the outcome printed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

import typer

from prune_cli.cli.console import Console
from prune_cli.cli.options.output import PrintFlags
from prune_cli.core.errors import InterruptedRun
from prune_cli.core.launch import read_launch
from prune_cli.core.progress import Progress, silent
from prune_cli.stages.frame.outcome import Outcome

Stage = Callable[[Progress], Outcome]
"""The work of a command, its options settled."""


def run(stage: Stage, printing: PrintFlags) -> None:
    """Run one stage and print what it did, unless another process leads.

    Raises:
        typer.Exit: with the exit code, unless another process leads; errors go through.
    """
    if not read_launch(os.environ).leads:
        _follow(stage)
        return
    console = Console(printing.level, printing.json)
    try:
        with console.progress() as progress, _interruptible(progress) as watched:
            outcome = stage(watched)
    except KeyboardInterrupt:
        raise InterruptedRun("interrupted") from None
    console.show(outcome)
    raise typer.Exit(0 if outcome.verdict else 1)


def _follow(stage: Stage) -> None:
    """Run one stage in a process that another leads: it prints errors only, but for the wish to stop, which the other tells."""
    try:
        stage(silent)
    except InterruptedRun as error:
        raise typer.Exit(error.exit_code) from None


@contextlib.contextmanager
def _interruptible(progress: Progress) -> Iterator[Progress]:
    """Yield the progress sink, made to remember a Ctrl-C: some libraries swallow the first one while they are imported."""
    heard = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        heard = True
        raise KeyboardInterrupt

    def watched(task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
        if heard:
            raise KeyboardInterrupt
        progress(task, done, total, facts)

    try:
        before = signal.signal(signal.SIGINT, remember)
    except ValueError:  # not the main thread, which alone hears signals
        yield watched
        return
    try:
        yield watched
    finally:
        signal.signal(signal.SIGINT, before)
