"""What a recipe makes of a batch: its losses, and what it knows of every sample. The loop does the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prune_cli.methods.training.loop.structure import Change

if TYPE_CHECKING:
    from torch import Tensor

Forward = Callable[..., "Tensor"]
"""``forward(k, inputs_b)``: logits (B, C) float32 of network k in training; with ``guess=True`` in eval mode and without a gradient.

``copy`` is a copy of network k that answers in its place, in the mode it is in.
"""


@dataclass(frozen=True)
class Part:
    """Samples of one step, all of them or, for want of memory, some.

    Args:
        positions_b: (B,) int64 positions in the training set, on the device.
        labels_b: (B,) int64 given labels.
        views: each (B, ...) inputs as a network takes them, one for each augmentation of the recipe.
        step: of the run, from 0.
        epoch: pass that the first of the samples belongs to, from 0.
        whole: how many samples the step has in all.
    """

    positions_b: Tensor
    labels_b: Tensor
    views: tuple[Tensor, ...]
    step: int
    epoch: int
    whole: int


class Learner:
    """The part of training that recipes differ in; this one does nothing but say so.

    Networks take turns in every step: losses, gradient, optimiser's step, `update`, then the next network.
    """

    n_networks = 1

    def losses(self, turn: int, forward: Forward, part: Part) -> tuple[Tensor, Tensor]:
        """Return logits (B, C) to be reported and losses (B,), whose mean is minimised over the weights of network ``turn``."""
        raise NotImplementedError

    def update(self, turn: int) -> None:
        """Bring what is known of samples up to date, after the optimiser's step of a network."""

    def restart(self) -> None:
        """Forget what `losses` noted since the last `update`: the batch is done again, in smaller parts."""

    def begin_pass(self, number: int, look: Callable[[int], Tensor]) -> None:
        """Take note that a pass begins; ``look(k)`` is network k's logits (M, C) of all samples, in eval mode."""

    def reshape(self, turn: int, change: Change) -> None:
        """Make copies of network ``turn`` smaller, as it has just become."""

    def arrays(self) -> Mapping[str, Tensor]:
        """Return what a checkpoint must hold, by name; `load` puts it back in place."""
        return {}

    def load(self, arrays: Mapping[str, Tensor]) -> None:
        """Put back what `arrays` returned."""
        for name, tensor in self.arrays().items():
            tensor.copy_(arrays[name])


class CrossEntropy(Learner):
    """Cross-entropy with the given labels.

    Args:
        label_smoothing: share of each label spread over all classes.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self._label_smoothing = label_smoothing

    def losses(self, turn: int, forward: Forward, part: Part) -> tuple[Tensor, Tensor]:
        """Return the logits and the cross-entropy of each sample."""
        import torch.nn.functional as F

        logits_bc = forward(turn, part.views[0])
        return logits_bc, F.cross_entropy(
            logits_bc, part.labels_b, reduction="none", label_smoothing=self._label_smoothing
        )
