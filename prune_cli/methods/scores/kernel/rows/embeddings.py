"""Rows of embeddings: products of unit rows in the dtype of the computation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.methods.arrays import BoolArray, FloatArray, IntArray, chunks
from prune_cli.methods.scores.kernel.rows.contract import NO_LENGTH, ROUNDING_STEPS, RowBlock, Rows

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class EmbeddingRows(Rows):
    """Embeddings.

    Args:
        mean: (D,) float64, subtracted; None to leave the embeddings as they are.
    """

    mean: FloatArray | None

    def pack(self, positions: IntArray) -> dict[str, NDArray[Any]]:
        mean = {} if self.mean is None else {"mean": self.mean}
        return {"rows": self.values_nd[positions], **mean}

    def standardised(self, positions: IntArray) -> FloatArray:
        values = self.values_nd[positions].astype(np.float64)
        return values if self.mean is None else values - self.mean

    def squared_lengths(self, positions: IntArray) -> tuple[FloatArray, BoolArray]:
        values = self.values_nd[positions].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = magnitudes = np.einsum("bd,bd->b", values, values)
            if self.mean is not None:
                magnitudes = squares + self.mean @ self.mean
                values -= self.mean
                squares = np.einsum("bd,bd->b", values, values)
            return squares, ~(squares > NO_LENGTH**2 * magnitudes)

    def _block(self, positions: IntArray, inverse_b: FloatArray, dtype: torch.dtype, device: torch.device) -> RowBlock:
        return _EmbeddingBlock(self, positions, inverse_b, dtype, device)


class _EmbeddingBlock(RowBlock):
    """Unit rows in the dtype of the computation, and their products."""

    def __init__(
        self, rows: EmbeddingRows, positions: IntArray, inverse_b: FloatArray, dtype: torch.dtype, device: torch.device
    ) -> None:
        import torch

        self._values = torch.from_numpy(rows.values_nd[positions]).to(device)
        self._mean = None if rows.mean is None else torch.from_numpy(rows.mean).to(device)
        self._inverse = torch.from_numpy(inverse_b).to(device)
        self._dtype = dtype
        self.rounding = ROUNDING_STEPS * torch.finfo(dtype).eps

    def load(self, part: slice) -> torch.Tensor:
        rows = self._values[part].double()
        if self._mean is not None:
            rows = rows - self._mean
        return (rows * self._inverse[part, None]).to(self._dtype)

    def cosines(self, left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
        import torch

        if left.dtype == out.dtype:
            torch.mm(left, right.T, out=out)
        else:
            out.copy_(left @ right.T)


def column_means(values_nd: NDArray[Any]) -> FloatArray:
    """Return the (D,) mean of each column, summed in sorted order: the order of the rows does not reach the last digit."""
    means = []
    for part in chunks(values_nd.shape[1], len(values_nd)):
        columns = np.sort(np.ascontiguousarray(values_nd[:, part].T), axis=1)
        means.append(columns.sum(axis=1, dtype=np.float64) / len(values_nd))
    return np.concatenate(means)
