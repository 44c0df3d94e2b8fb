"""Who watches a training, and what it is given to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray


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
