"""Parameters that every score by a kernel has, and what a score needs of its kernel: it says so beside itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from prune_cli.core.params import param

Mode = Literal["exact", "partition", "nystrom"]
EXACT_ROWS = 20_000
"""Up to here ``mode=auto`` is exact: minutes on two cores."""


@dataclass(frozen=True)
class KernelParams:
    """Parameters of every score that goes by a kernel."""

    kernel: str = param("relu", "relu; relu:L, L hidden layers; nt:fc3, nt:cnn5, nt:myrtle5, nt:FILE.py:FUNCTION (extra ntk)")
    mode: Literal["auto", "sampled", "exact", "partition", "nystrom"] = param(
        "auto", f"all samples at once, in blocks, or by landmarks; auto: exact up to {EXACT_ROWS:,} rows, else partition"
    )
    block_size: int = param(8192, "partition: samples of a block", low=2)
    blocks: Literal["random", "kmeans"] = param("random", "partition: drawn, or near each other (balanced two-means tree)")
    landmarks: int = param(2048, "nystrom: samples that stand for all", low=1)
    repeats: int | None = param(
        None, "draws to average over: of the other classes (none: 10), the blocks, or the landmarks (none: 1)", low=1
    )
    center: bool = param(False, "embeddings: subtract their mean first")

    def draws(self, mode: Mode | None) -> int:
        """Return how many draws are averaged; None stands for ``sampled``."""
        return self.repeats or (SAMPLED_DRAWS if mode is None else 1)


SAMPLED_DRAWS = 10
"""Draws of the other classes, where nobody says how many: one draw is noise, see docs/methods.md."""


def resolve_mode(params: KernelParams, n_samples: int, otherwise: Mode | None = "partition") -> Mode | None:
    """Return how all classes are solved at once, None where each is sampled.

    ``auto`` goes by the number of samples; the machine has no say, so that the same command gives the same scores.

    Args:
        params: of the score.
        n_samples: N.
        otherwise: what ``auto`` is where all at once would take too long.
    """
    if params.mode == "auto":
        return "exact" if n_samples <= EXACT_ROWS else otherwise
    return None if params.mode == "sampled" else params.mode


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
