"""Who watches a training run: bars, history here and elsewhere, checkpoints by the clock, and the user's wish to stop."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress
from prune_cli.io.runs.events import EventFolder, EventWriter, require
from prune_cli.io.runs.folder import RunBuilder
from prune_cli.io.stores.locations import require_local
from prune_cli.methods.training.loop.contract import Checkpoint

TENSORBOARD = "tensorboard"


def event_folder(report_to: str | None, output: Path) -> EventFolder | None:
    """Return where events go: beside the output, or in a folder of its name below the one that is named.

    Not inside a run folder, which appears whole or not at all and is the same with and without a report.

    Args:
        report_to: ``tensorboard`` or ``tensorboard:DIR``; None for nowhere.
    Raises:
        InputError: another name.
        UnavailableError: the package is missing.
    """
    if report_to is None:
        return None
    name, colon, folder = report_to.partition(":")
    if name != TENSORBOARD or (colon and not folder):
        raise InputError(f"--report-to {report_to!r} is not known", f"use {TENSORBOARD} or {TENSORBOARD}:DIR")
    require_local(folder, f"--report-to {name}")
    require()
    return EventFolder(Path(folder) / output.name if folder else output.with_name(f"{output.name}.tensorboard"))


class RunObserver:
    """Watches one training run.

    Args:
        builder: of the run folder, opened.
        found: the checkpoint that opening it gave, or None.
        events: where the history also goes, row by row; nowhere if None.
    """

    def __init__(
        self,
        builder: RunBuilder,
        found: tuple[dict[str, np.ndarray], dict[str, Any]] | None,
        progress: Progress,
        *,
        checkpoint_seconds: float,
        task: str = "training",
        events: EventFolder | None = None,
    ) -> None:
        self.builder = builder
        self.resume = Checkpoint(found[0], found[1]["loop"]) if found else None
        self.history: list[dict[str, Any]] = list(found[1]["history"]) if found else []
        self.notes: list[str] = []
        self._progress, self._checkpoint_seconds, self._task = progress, checkpoint_seconds, task
        self._folder = events
        self._events: EventWriter | None = None
        self._stop = False
        self._started = self._pass_started = self._saved = time.perf_counter()
        self._samples = self._seen = 0
        self._pass_samples = self.history[-1]["samples"] if self.history else 0

    def on_step(self, step: int, steps: int, samples: int, facts: Mapping[str, float]) -> None:
        """Show how far the run is."""
        if self._seen == 0:
            self._started = time.perf_counter()
            self._first = samples
        self._seen = samples
        self._samples = samples - self._first
        self._progress(self._task, step, steps, {**facts, "samples/s": self.rate()})

    def on_pass(self, row: Mapping[str, float | int]) -> None:
        """Keep one row of the history."""
        now = time.perf_counter()
        seconds = now - self._pass_started
        passed = int(row["samples"]) - self._pass_samples
        self._pass_started, self._pass_samples = now, int(row["samples"])
        self.history.append({**row, "seconds": seconds, "samples_per_second": passed / seconds if seconds > 0 else 0.0})
        if self._events is not None:
            try:
                self._events.add(self.history[-1])
            except OSError as error:
                self._events = None
                self.notes.append(f"events are not written any more: {error.strerror or error}")

    def should_checkpoint(self) -> bool:
        """Return whether the time between checkpoints is over."""
        return time.perf_counter() - self._saved >= self._checkpoint_seconds

    def save_checkpoint(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Write the checkpoint."""
        self.builder.save_checkpoint(tensors, {"loop": state, "history": self.history})
        self._saved = time.perf_counter()

    def on_note(self, note: str) -> None:
        """Keep what the user is told when the run is over."""
        self.notes.append(note)

    def should_stop(self) -> bool:
        """Return whether the user asked to stop."""
        return self._stop

    def rate(self) -> float:
        """Return samples per second since the first step."""
        seconds = time.perf_counter() - self._started
        return self._samples / seconds if seconds > 0 else 0.0

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Write each row of the history to event files too, after those of the training that this one goes on from."""
        if self._folder is None:
            yield
            return
        with self._folder.writing(self.history) as self._events:
            yield

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM as the wish to stop after this step; a second Ctrl-C stops at once."""

        def wish(number: int, frame: FrameType | None) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = True

        old = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(ValueError):  # not the main thread: a library caller keeps its own handlers
                    old[number] = signal.signal(number, wish)
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
