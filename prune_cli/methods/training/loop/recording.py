"""What a training run keeps of every sample and of every pass, gathered on the device and handed on pass by pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import NumericalError
from prune_cli.core.measures import MEASURES, PROB_CHANGE, Mode
from prune_cli.methods.training.data.inputs import IntArray, TrainingSet, as_tensor
from prune_cli.methods.training.loop.contract import Observer
from prune_cli.methods.training.loop.timetable import StepPlan

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_cli.methods.training.networks.network import Network

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
        for (step, rate, passes, _), (losses, hits) in zip(pending, np.split(values, np.cumsum(sizes)[:-1], axis=1), strict=True):
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
        loss, accuracy = (float(row.sum()) / values.shape[1] for row in values)
        self.facts = {"loss": loss, "accuracy": accuracy, "lr": self.last_rate}
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


class RecordSink(Protocol):
    """Who keeps a record."""

    def on_record(self, mode: Mode, epoch: int, columns: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep one epoch of one mode: (M,) float32 a column, in the order of the training set.

        An epoch that was handed over before (a run that was resumed repeats what it lost) takes the place of the first.
        """


@dataclass(frozen=True)
class Watch:
    """What is recorded of a run.

    Args:
        sink: who keeps it.
        eval_epochs: passes after which every sample is looked at un-augmented and in eval mode.
        at_end: whether that is also done after the last step.
        prob_change: whether to record how the probabilities moved since the pass before; takes M x C numbers.
        gradient_norms: network, un-augmented inputs and labels of a batch -> (B,) norms, for `GRADIENT_NORM` at ``gradient_epochs``.
        gradient_epochs: passes after which that is done, a part of ``eval_epochs``.
    """

    sink: RecordSink
    eval_epochs: frozenset[int] = frozenset()
    at_end: bool = True
    prob_change: bool = False
    gradient_norms: Callable[[Network, Tensor, Tensor], Tensor] | None = None
    gradient_epochs: frozenset[int] = frozenset()


def measure(logits_bc: Tensor, labels_b: Tensor) -> Tensor:
    r"""Return what a record keeps of each sample, from its logits z and its label y; p = softmax(z).

    ``p_label``: p_y. ``margin_logit``: z_y - max_{j != y} z_j. ``margin_prob``: the same of p. ``error_norm``:
    |p - onehot(y)|_2. ``loss``: -log p_y, nats. ``correct``: whether z_y is the highest (the first of equals).
    ``entropy``: -sum p log p, nats. ``confidence``: max p. ``top_gap``: the highest p less the second.

    Args:
        logits_bc: (B, C) float32 or float64; -inf for a probability of 0.
        labels_b: (B,) int64.
    Returns:
        (len(MEASURES), B) in the dtype of the logits.
    """
    import torch

    column_b1 = labels_b[:, None]
    log_probs_bc = logits_bc.log_softmax(1)
    probs_bc = log_probs_bc.exp()
    log_p_b = log_probs_bc.gather(1, column_b1)[:, 0]
    p_b = probs_bc.gather(1, column_b1)[:, 0]
    rival_b = logits_bc.scatter(1, column_b1, -torch.inf).max(1).values
    rival_p_b = probs_bc.scatter(1, column_b1, -torch.inf).max(1).values
    top_b2 = probs_bc.topk(2, dim=1).values
    error_b = (probs_bc - torch.nn.functional.one_hot(labels_b, probs_bc.shape[1])).norm(dim=1)
    return torch.stack(
        [
            p_b,
            logits_bc.gather(1, column_b1)[:, 0] - rival_b,
            p_b - rival_p_b,
            error_b,
            -log_p_b,
            logits_bc.argmax(1).eq(labels_b).to(logits_bc.dtype),
            torch.special.entr(probs_bc).sum(1),
            top_b2[:, 0],
            top_b2[:, 0] - top_b2[:, 1],
        ]
    )


@dataclass
class Recorder:
    """Gathers the rows of each pass on the device: a batch's logits wait there until some can be measured at once.

    A pass is handed to the sink when every sample was presented in it; the begun one that a budget ends in is not.
    """

    data: TrainingSet
    watch: Watch
    device: torch.device
    number: int = 0
    seen: int = 0
    finished: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        import torch

        m = len(self.data)
        self._rows = torch.zeros((len(MEASURES) + 1, m), device=self.device)
        shape = (m, self.data.n_classes) if self.watch.prob_change else (0, 0)
        self._log_probs = torch.full(shape, torch.nan, device=self.device)
        self._labels = as_tensor(self.data.labels_m).to(self.device)
        self._pending: list[tuple[IntArray, IntArray, Tensor]] = []

    def add(self, positions: IntArray, passes: IntArray, logits_bc: Tensor) -> None:
        """Take one batch: where its samples are, the pass each belongs to, its logits."""
        self._pending.append((positions, passes, logits_bc.detach()))

    def flush(self) -> None:
        """Measure what is waiting, and hand on the passes that are over."""
        import torch

        if not self._pending:
            return
        pending, self._pending = self._pending, []
        passes = np.concatenate([entry[1] for entry in pending])
        positions = torch.from_numpy(np.concatenate([entry[0] for entry in pending])).to(self.device)
        logits_bc = torch.cat([entry[2] for entry in pending]).float()
        values_kb = measure(logits_bc, self._labels[positions])
        for number in np.unique(passes).tolist():
            first, last = np.searchsorted(passes, [number, number + 1]).tolist()
            here = positions[first:last]
            self._rows[:-1, here] = values_kb[:, first:last]
            if self.watch.prob_change:
                log_probs_bc = logits_bc[first:last].log_softmax(1)
                change_bc = log_probs_bc.exp() * (log_probs_bc - self._log_probs[here])
                self._rows[-1, here] = change_bc.abs().sum(1)
                self._log_probs[here] = log_probs_bc
            self.seen += last - first
            if self.seen == len(self.data):
                self._hand_on()

    def _hand_on(self) -> None:
        self.number, self.seen = self.number + 1, 0
        names = (*MEASURES, PROB_CHANGE) if self.watch.prob_change and self.number > 1 else MEASURES
        rows = self._rows.cpu().numpy()
        self.watch.sink.on_record("train", self.number, {name: rows[i].copy() for i, name in enumerate(names)})
        self.finished.append(self.number)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
        """Return what a checkpoint needs to go on in the middle of a pass."""
        self.flush()
        arrays = {"record/rows": self._rows.cpu().numpy().copy()}
        if self.watch.prob_change:
            arrays["record/log_probs"] = self._log_probs.cpu().numpy().copy()
        return arrays, {"pass": self.number, "seen": self.seen}

    def take_up(self, arrays: Mapping[str, NDArray[Any]], state: Mapping[str, int]) -> None:
        """Put back what `state` returned."""
        import torch

        self._rows.copy_(torch.from_numpy(np.array(arrays["record/rows"])))
        if self.watch.prob_change:
            self._log_probs.copy_(torch.from_numpy(np.array(arrays["record/log_probs"])))
        self.number, self.seen = int(state["pass"]), int(state["seen"])


def record_bytes(n_samples: int, n_classes: int, n_epochs: int, prob_change: bool) -> tuple[int, int]:
    """Return the memory that recording takes, and at most what the file of that many epochs takes on disk, in bytes."""
    held = 4 * n_samples * (2 * (len(MEASURES) + 1) + (n_classes if prob_change else 0))
    return held, 4 * n_samples * n_epochs * (len(MEASURES) + 1)
