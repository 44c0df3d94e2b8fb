"""Arrays by what they hold, and passes over them a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class VectorBatch:
    """Some of the samples, whose vectors are read together.

    Args:
        positions: (B,) int64.
        read: returns their vectors, (B, D) float32, not to be changed; quickest for one part after the other.
    """

    positions: np.ndarray
    read: Callable[[], np.ndarray]


FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

_CHUNK_NUMBERS = 1 << 22  # numbers in a chunk: no pass over the data takes more memory than a few times 32 MiB


def chunks(length: int, width: int) -> Iterator[slice]:
    """Yield slices that cover ``length`` items of ``width`` numbers each, a chunk at a time."""
    step = max(1, _CHUNK_NUMBERS // width)
    for first in range(0, length, step):
        yield slice(first, min(first + step, length))
