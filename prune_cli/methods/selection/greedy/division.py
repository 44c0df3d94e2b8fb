"""Into how many partitions samples are cut, and what of others counts in each: what the user may say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_cli.core.params import param


@dataclass(frozen=True)
class Division:
    """Partitions of near samples that are picked from on their own at first.

    Args:
        count: of the partitions.
        overlap: samples of others that count in a partition, a share of its own for each level of cuts.
        oversample: how many times its share of the budget a partition picks.
    """

    count: int
    overlap: float
    oversample: float

    def sizes(self, n_samples: int) -> tuple[int, int]:
        """Return how many samples a partition has of its own, and about how many its halo has."""
        own = -(-n_samples // self.count)
        return own, min(n_samples - own, round(self.overlap * np.log2(self.count) * own))

    def words(self, n_samples: int) -> str:
        """Return in words how so many samples are cut, for ``--plan``."""
        own, halo = self.sizes(n_samples)
        return (
            f"{self.count} partitions of about {own:,} rows, each with about {halo:,} more of others near it; each picks "
            f"{self.oversample:g} times its share of the budget, then one greedy run over what they picked"
        )


class Partitioned:
    """Parameters of a method that can go by partitions: the fields are made by `parts_param` and the two after it."""

    parts: int | None
    overlap: float
    oversample: float

    @property
    def division(self) -> Division | None:
        """How samples are cut; None: they are not."""
        if self.parts is None or self.parts == 1:
            return None
        return Division(self.parts, self.overlap, self.oversample)


def parts_param() -> Any:
    """Return the field ``parts``."""
    help = "partitions of near samples that are picked from on their own at first; none: all samples at once"
    return param(None, help, low=1)


def overlap_param() -> Any:
    """Return the field ``overlap``."""
    help = "with parts, samples of others that count in a partition, a share of its own for each level of cuts"
    return param(0.1, help, low=0.0, high=1.0)


def oversample_param() -> Any:
    """Return the field ``oversample``."""
    return param(2.0, "with parts, how many times its share of the budget a partition picks", low=1.0)
