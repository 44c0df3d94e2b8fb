"""What a score of a kernel needs of it: each score says it beside itself, and everything that plans or computes goes by it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from prune_cli.methods.scores.kernel.params import KernelParams, Mode


@dataclass(frozen=True)
class KernelNeeds:
    """How a kernel is solved for a score.

    Args:
        mode: how all classes are solved at once; None: each class against a draw of the others.
        ridge: added to the diagonal; None: the one that predicts best is chosen.
        predictions: whether the score goes by what the other samples predict for each; only where all classes are solved at once.
        ratio: with mode None, the samples drawn for each sample of a class.
    """

    mode: Mode | None
    ridge: float | None
    predictions: bool
    ratio: float = 1.0

    def __post_init__(self) -> None:
        if self.predictions and self.mode is None:
            raise ValueError("a draw of the other classes gives no predictions")


@dataclass(frozen=True)
class KernelScoreParams(KernelParams, ABC):
    """Parameters of a score of a kernel."""

    @abstractmethod
    def needs(self, n_samples: int) -> KernelNeeds:
        """Return what the score needs of a kernel of so many samples."""
