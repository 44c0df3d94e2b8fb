"""Subsets of the samples, as unions of cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Subsets:
    """Subsets of the samples, as unions of cells that do not overlap.

    Args:
        cell_n: (N,) int64 cell of each sample, -1 for samples that are in no subset.
        member_wk: (W, K) bool, the cells that each of the W subsets is made of.
    """

    cell_n: np.ndarray
    member_wk: np.ndarray

    def __len__(self) -> int:
        return len(self.member_wk)

    def sizes(self) -> np.ndarray:
        """Return (W,) int64 samples in each subset."""
        sizes: np.ndarray = self.member_wk.astype(np.int64) @ self.cell_sizes()
        return sizes

    def cell_sizes(self) -> np.ndarray:
        """Return (K,) int64 samples in each cell."""
        return np.bincount(self.cell_n[self.cell_n >= 0], minlength=self.member_wk.shape[1])

    def by_cell(self) -> np.ndarray:
        """Return (N,) int64 the samples by cell."""
        return np.argsort(self.cell_n, kind="stable")


def subsets_of(member_wn: np.ndarray) -> Subsets:
    """Return subsets given sample by sample: samples that are in the same ones share a cell.

    Args:
        member_wn: (W, N) bool.
    Example:
        >>> found = subsets_of(np.array([[True, True, False], [True, True, True]]))
        >>> len(np.unique(found.cell_n)), found.sizes().tolist()
        (2, [2, 3])
    """
    packed = np.packbits(member_wn, axis=0).T
    rows = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, cell_n = np.unique(rows, return_index=True, return_inverse=True)
    return Subsets(cell_n.astype(np.int64), member_wn[:, first])
