"""What the loop leaves to others: a recipe brings a `Learner`, what shrinks networks a `Structure`, and an observer looks on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_cli.methods.training.networks.network import Network


class Observer(Protocol):
    """Who watches a run: shows it, keeps its history and checkpoints, and may end it."""

    def on_step(self, step: int, steps: int, samples: int, facts: Mapping[str, float]) -> None:
        """Take note that ``step`` of ``steps`` are done, ``samples`` presentations in all.

        The facts (``loss``, ``accuracy``, ``lr``) are those read last, and none before the first reading.
        """

    def on_pass(self, row: Mapping[str, float | int]) -> None:
        """Take one row of history: a whole pass over the selection, or the begun one that the budget ends in.

        Keys: ``epoch`` (from 1), ``step`` (steps done when it ended), ``samples`` (presentations until then), ``lr``
        (of its last step), ``train_loss`` (mean of what was minimised in the pass), ``train_accuracy`` (of the network
        as it was in training, on augmented inputs).
        """

    def should_checkpoint(self) -> bool:
        """Return whether to save a checkpoint now; asked after every step but the last."""

    def save_checkpoint(self, tensors: dict[str, NDArray[Any]], state: dict[str, Any]) -> None:
        """Keep a checkpoint: arrays by name and JSON values."""

    def should_stop(self) -> bool:
        """Return whether to stop now; asked after every step but the last."""

    def on_note(self, note: str) -> None:
        """Tell the user something once, as that batches go through the device in smaller pieces."""


@dataclass(frozen=True)
class Checkpoint:
    """What `Observer.save_checkpoint` was given, to go on from."""

    tensors: Mapping[str, NDArray[Any]]
    state: Mapping[str, Any]


Change = Callable[["Network", "torch.optim.Optimizer | None"], None]
"""Makes a network smaller in place, and cuts its optimiser's state alike; the same for every copy of it."""

Forward = Callable[..., "Tensor"]
"""``forward(k, inputs_b)``: logits (B, C) float32 of network k in training; with ``guess=True`` in eval mode and without a gradient.

``copy`` is a copy of network k that answers in its place, in the mode it is in.
"""


@dataclass(frozen=True)
class StepSamples:
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

    def losses(self, turn: int, forward: Forward, samples: StepSamples) -> tuple[Tensor, Tensor]:
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


class Structure:
    """Decides, while networks train, which of their units and layers stay. This one keeps all.

    Calls come in this order in a step, for each network in turn: `begin_step`, `gated` around each forward pass, `update` after the
    optimiser's step.
    """

    asks_losses = False
    """Whether `probe` wants to be called, with the batch, before each gradient."""

    def gated(self, turn: int, network: Network, *, learning: bool) -> AbstractContextManager[None]:
        """Return a block within which a network, or a copy of it, computes as its gates are: drawn, or as expected."""
        return contextlib.nullcontext()

    def begin_step(self, turn: int, step: int) -> None:
        """Draw the gates of a step."""

    def restart(self, turn: int) -> None:
        """Forget the gradient of the gates: the batch is done again, in smaller parts."""

    def probe(self, turn: int, loss: Callable[[], float]) -> None:
        """Ask for losses of the batch under other gates; ``loss()`` is that under the gates as they are, and leaves no trace."""

    def update(self, turn: int, step: int, network: Network) -> Change | None:
        """Learn from the gradient of the gates, and return what is to be cut now, if anything."""
        return None

    def finish(self, turn: int, network: Network) -> Change | None:
        """Return what is to be cut when the last step is done, if anything is undecided."""
        return None

    def facts(self) -> Mapping[str, Any]:
        """Return JSON values for a row of the history: the first network's size, what is live in it."""
        return {}

    def described(self) -> Mapping[str, Any]:
        """Return JSON values for the model: the first network's size, and what `take_shape` must know to build it."""
        return {}

    def arrays(self) -> Mapping[str, Tensor]:
        """Return what a checkpoint must hold, by name."""
        return {}

    def state(self) -> Any:
        """Return the JSON values a checkpoint must hold."""
        return None

    def restore(
        self, turn: int, network: Network, arrays: Mapping[str, Tensor], state: Any, shapes: Mapping[str, Sequence[int]]
    ) -> Change | None:
        """Take up what `arrays` and `state` returned, and return what gives a whole network its shape then.

        Args:
            turn, network: which one, whole.
            shapes: of the network's tensors in it.
        """
        return None


StructureMaker = Callable[["Sequence[Network]", tuple[int, ...], int, int, "torch.device"], Structure]
"""Makes the structure of a training of whole networks on the CPU, their input shape, the steps of the whole budget, the run's seed and
the device where they will train; raises `InputError` where nothing can be cut out of them."""
