"""What a score of the record needs of a training: each score says it beside itself, and everything that trains or looks goes by it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Self

from prune_cli.core.errors import InputError
from prune_cli.core.measures import Mode
from prune_cli.core.params import param


@dataclass(frozen=True)
class TrainingParams:
    """Parameters of the training that the scores of a record share; how it trains is the recipe's."""

    epochs: int = param(200, "passes of the training (--epochs), as published; --preset fast is 20", low=1)
    runs: int = param(1, "trainings with seeds of their own, whose scores are averaged", low=1)
    augment: Literal["none", "strong"] = param("none", "what the features are taken of: pictures as they are, or augmented")


Variant = Literal["full", "last_layer"]
"""What the norms of gradients are taken over."""


@dataclass(frozen=True)
class GradientLook:
    """The norms of the samples' gradients, recorded once.

    Args:
        epoch: pass after which; 0 of a network that was not watched.
        variant: over all parameters, or the last layer.
    """

    epoch: int
    variant: Variant


@dataclass(frozen=True)
class RecordNeeds:
    """What a score reads of the record of a training.

    Args:
        mode: ``train``: what was recorded while it trained; ``eval``: looks at un-augmented samples.
        epochs: passes of training after which it has all it needs.
        looks: passes after which it needs a look.
        at_end: whether it needs a look after the last step.
        gradients: the norms of gradients it needs, None for none.
        prob_change: whether it needs how the probabilities moved between passes.
    """

    mode: Mode
    epochs: int
    looks: tuple[int, ...] = ()
    at_end: bool = False
    gradients: GradientLook | None = None
    prob_change: bool = False

    @property
    def watches(self) -> bool:
        """Return whether no single look at the samples can give the score."""
        return self.mode == "train"

    @property
    def of_probabilities(self) -> bool:
        """Return whether the probabilities of any one model give the score."""
        return not self.watches and self.gradients is None


class RecordParams(ABC):
    """Parameters of a score of the record."""

    @abstractmethod
    def needs(self, epochs: int) -> RecordNeeds:
        """Return what the score needs of a training of so many passes; 0: of one model, looked at once.

        Raises:
            InputError: more passes than there are.
        """

    def resolved(self, epochs: int) -> Self:
        """Return the parameters with what a training of so many passes decides filled in."""
        return self


@dataclass(frozen=True)
class EarlyParams(RecordParams):
    """Parameters of a score that is taken once, early in training."""

    epoch: int | None = param(None, "pass after which it is taken; none: a tenth of the epochs (20 of 200)", low=1)

    def look(self, method: str, epochs: int) -> int:
        """Return the pass that is looked at; 0 where there are none."""
        return within(method, "epoch", self.epoch or early_epoch(epochs), epochs) if epochs else 0

    def resolved(self, epochs: int) -> Self:
        """Return the parameters with the pass told: a tenth of the schedule, wherever the training stops."""
        return self if self.epoch is not None else dataclasses.replace(self, epoch=early_epoch(epochs))


def early_epoch(n_epochs: int) -> int:
    """Return the pass that el2n and grand look at where nothing else is said: a tenth of the training, 20 of 200.

    >>> early_epoch(200), early_epoch(20), early_epoch(3)
    (20, 2, 1)
    """
    return max(1, round(n_epochs / 10))


def within(method: str, parameter: str, wanted: int, epochs: int) -> int:
    """Return the passes that are wanted, which a training of so many has; where there is no training it is left to the record.

    Raises:
        InputError: there are fewer.
    """
    if wanted > epochs > 0:
        raise InputError(f"{method}: {parameter}={wanted} of a training of {epochs}", "train for more epochs (--epochs)")
    return wanted
