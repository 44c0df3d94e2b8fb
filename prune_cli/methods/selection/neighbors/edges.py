"""The edges of a graph of samples, row by row."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Edges(NamedTuple):
    """Who is near a sample, and how near; compiled loops take it as it is.

    Args:
        begin_n, end_n: (N,) int64 where the row of each sample lies; begin is -1 where it is not there.
        samples_e: (E,) int32.
        similarities_e: (E,) float32 or float64.
    """

    begin_n: np.ndarray
    end_n: np.ndarray
    samples_e: np.ndarray
    similarities_e: np.ndarray

    def counts_of(self, chosen: np.ndarray) -> np.ndarray:
        """Return (K,) int64 how many edges the rows of some samples have."""
        counts: np.ndarray = self.end_n[chosen] - self.begin_n[chosen]
        return counts

    def places_of(self, chosen: np.ndarray) -> np.ndarray:
        """Return the places of the edges of some samples, row after row."""
        return ranges(self.begin_n[chosen], self.counts_of(chosen))


def ranges(begin_k: np.ndarray, counts_k: np.ndarray) -> np.ndarray:
    """Return the whole numbers of some ranges, one after the other.

    Example:
        >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    before = np.cumsum(counts_k) - counts_k
    found: np.ndarray = np.repeat(begin_k - before, counts_k) + np.arange(int(counts_k.sum()))
    return found


def edge_bytes(dtype: Any) -> int:
    """Return the bytes of an edge in one direction."""
    return 4 + int(np.dtype(dtype).itemsize)
