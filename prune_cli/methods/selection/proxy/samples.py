"""What a proxy is fitted to and judged by: labelled vectors, and subsets of them as unions of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prune_cli.methods.devices import tensor_of
from prune_cli.methods.selection.contract import Features

if TYPE_CHECKING:
    import torch

_BLOCK_NUMBERS = 1 << 23  # numbers in a block of features


@dataclass(frozen=True)
class LabelledVectors:
    """N samples.

    Args:
        features: N vectors of D numbers.
        codes_n: (N,) int64 class of each sample, 0 to C - 1.
        order_n: (N,) int64 order to read the vectors in where that can be: by cell.
    """

    features: Features
    codes_n: np.ndarray
    order_n: np.ndarray

    @property
    def width(self) -> int:
        """D."""
        return self.features.shape[1]

    @property
    def n_classes(self) -> int:
        """C."""
        return int(self.codes_n.max(initial=0)) + 1


def block_rows(width: int) -> int:
    """Return the rows of a block: enough that its sums are smaller than itself."""
    return max(_BLOCK_NUMBERS // width, 4 * width)


def with_bias(rows: torch.Tensor, bias: bool) -> torch.Tensor:
    """Return the rows, with a feature more that is 1 everywhere where that is wanted."""
    import torch

    return torch.cat([rows, rows.new_ones((len(rows), 1))], dim=1) if bias else rows


def one_hot(codes_b: np.ndarray, n_classes: int, device: torch.device) -> torch.Tensor:
    """Return (B, C) float64, 1 for the class of each sample."""
    import torch

    codes = tensor_of(codes_b).to(device)
    return torch.nn.functional.one_hot(codes, n_classes).to(torch.float64)


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
