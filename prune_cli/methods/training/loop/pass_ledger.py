"""Loss and accuracy of each pass of a training, read from the device now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from prune_cli.core.errors import NumericalError
from prune_cli.methods.training.data.inputs import FloatArray, IntArray
from prune_cli.methods.training.loop.observer import Observer
from prune_cli.methods.training.loop.recording import Recorder
from prune_cli.methods.training.loop.timetable import StepPlan

if TYPE_CHECKING:
    from torch import Tensor

READ_EVERY = 20
"""Steps between two readings of loss and accuracy, the only moments at which the device is waited for."""


@dataclass
class PassLedger:
    """Loss and accuracy of each pass: values stay on the device until they are read, rows are told at its end."""

    plan: StepPlan
    n_steps: int
    observer: Observer
    recorder: Recorder | None = None
    more: Callable[[], Mapping[str, Any]] = dict
    number: int = 0
    samples: int = 0
    loss: float = 0.0
    correct: float = 0.0
    last_step: int = 0
    last_rate: float = 0.0
    facts: dict[str, float] = field(default_factory=dict)
    pending: list[tuple[int, float, IntArray, Tensor]] = field(default_factory=list)

    def add(self, step: int, rate: float, passes: IntArray, values_2b: Tensor) -> None:
        """Take the losses and the hits of one step, and read now and then."""
        self.pending.append((step, rate, passes, values_2b))
        ends_pass = (self.plan.bounds(step)[1] // self.plan.n_selected) > passes[0]
        if ends_pass or len(self.pending) >= READ_EVERY or step + 1 == self.n_steps:
            self.read()

    def read(self) -> None:
        """Fetch what is pending, check it, and tell the rows of the passes that are over.

        Raises:
            NumericalError: a loss is NaN or infinite.
        """
        import torch

        if not self.pending:
            return
        pending, self.pending = self.pending, []
        values = torch.cat([entry[3] for entry in pending], dim=1).double().cpu().numpy()
        sizes = [len(entry[2]) for entry in pending]
        for (step, rate, passes, _), (losses, hits) in zip(pending, _columns(values, sizes), strict=True):
            if not np.isfinite(losses).all():
                epoch = int(passes[np.flatnonzero(~np.isfinite(losses))[0]]) + 1
                raise NumericalError(
                    f"the training loss is no longer finite at step {step + 1} (epoch {epoch})",
                    "lower the learning rate (-p lr=), or warm up longer (-p warmup_fraction=)",
                )
            self.last_step, self.last_rate = step + 1, rate
            for number in range(int(passes[0]), int(passes[-1]) + 1):
                mine = passes == number
                self.samples += int(mine.sum())
                self.loss += float(losses[mine].sum())
                self.correct += float(hits[mine].sum())
                if self.samples == self.plan.n_selected:
                    self._tell()
        n = values.shape[1]
        self.facts = {"loss": float(values[0].sum()) / n, "accuracy": float(values[1].sum()) / n, "lr": self.last_rate}
        if self.recorder is not None:
            self.recorder.flush()

    def finish(self) -> None:
        """Tell the row of the pass that the budget ends in."""
        self.read()
        if self.samples:
            self._tell()

    def _tell(self) -> None:
        row = {
            "epoch": self.number + 1,
            "step": self.last_step,
            "samples": self.number * self.plan.n_selected + self.samples,
            "lr": self.last_rate,
            "train_loss": self.loss / self.samples,
            "train_accuracy": self.correct / self.samples,
            **self.more(),
        }
        self.number, self.samples, self.loss, self.correct = self.number + 1, 0, 0.0, 0.0
        self.observer.on_pass(row)

    def sums(self) -> dict[str, Any]:
        """Return the sums of the pass under way, for a checkpoint."""
        return {"pass": self.number, "samples": self.samples, "loss": self.loss, "correct": self.correct}

    def take_up(self, sums: Mapping[str, Any]) -> None:
        """Put back what `sums` returned."""
        self.number, self.samples = int(sums["pass"]), int(sums["samples"])
        self.loss, self.correct = float(sums["loss"]), float(sums["correct"])


def _columns(values: FloatArray, sizes: list[int]) -> Iterator[FloatArray]:
    return iter(np.split(values, np.cumsum(sizes)[:-1], axis=1))
