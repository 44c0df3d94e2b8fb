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


_PLAIN = 2.0**30
"""Up to this size, and down to its inverse, float32 holds the squares of features and their sums."""

_OFFSET = 100.0  # how far the squared mean may be above the variance: beyond, differences lose digits of products in float32


def power_of_two(values_nd: NDArray[np.floating], center_d: FloatArray | float = 0.0) -> float:
    """Return the factor that brings all values, less a center, to [-1, 1]; exact, for it is a power of two.

    >>> power_of_two(np.array([[3.0, -5.0]])), power_of_two(np.zeros((2, 2)))
    (0.125, 1.0)
    """
    largest = 0.0
    for part in chunks(*values_nd.shape):
        largest = max(largest, float(np.abs(values_nd[part] - center_d).max(initial=0.0)))
    return float(2.0 ** -np.frexp(largest)[1]) if largest else 1.0


def conditioned(values_nd: NDArray[np.floating], centered: bool = True) -> tuple[NDArray[np.float32], float]:
    """Return rows between which distances can be computed in float32 by products, and the factor they were multiplied by.

    Where the values are neither tiny, huge nor far from 0 beside their spread these are the rows as they are. Otherwise they are less
    their mean, and brought to [-1, 1] by a power of two: squares then neither overflow, vanish nor cancel, and distances are those of
    the rows as they were, times the factor.

    Args:
        values_nd: (N, D) finite.
        centered: whether the mean may be subtracted: it is no part of a distance.
    Example:
        >>> rows, factor = conditioned(np.array([[5000.0], [5001.0], [5003.0]]))
        >>> float(rows[2, 0] - rows[0, 0]) / factor
        3.0
    """
    center_d, square = np.zeros(values_nd.shape[1]), 0.0
    if centered:
        for part in chunks(*values_nd.shape):
            center_d += values_nd[part].sum(axis=0, dtype=np.float64) / len(values_nd)
        for part in chunks(*values_nd.shape):
            square += float(((values_nd[part] - center_d) ** 2).sum()) / len(values_nd)
    factor, offset = power_of_two(values_nd), float(center_d @ center_d)
    if offset <= _OFFSET * square and 1 / _PLAIN <= factor <= _PLAIN:
        return np.ascontiguousarray(values_nd, np.float32), 1.0
    factor = power_of_two(values_nd, center_d)
    rows_nd = np.empty(values_nd.shape, np.float32)
    for part in chunks(*values_nd.shape):
        rows_nd[part] = (values_nd[part] - center_d) * factor
    return rows_nd, factor
