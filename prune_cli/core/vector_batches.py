"""A batch of vectors: some of many, that are read together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class VectorBatch:
    """Some of the samples, whose vectors are read together.

    Args:
        positions: (B,) int64.
        read: returns their vectors, (B, D) float32, not to be changed; quickest for one part after the other.
    """

    positions: np.ndarray
    read: Callable[[], np.ndarray]
