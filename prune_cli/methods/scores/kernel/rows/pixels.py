"""Rows of pixels, which stay bytes until a tile needs them.

With z = x - m, m the mean rounded to a whole number, 256 products of two z, and mostly 500 or more, sum exactly in float32 (in any
order; z is exact in TF32 and bfloat16 as well). What is left of the mean, and the standard deviation, come in afterwards in float64:
faster than a float64 product, and more exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.methods.arrays import BoolArray, FloatArray, IntArray
from prune_cli.methods.scores.kernel.rows.contract import NO_LENGTH, ROUNDING_STEPS, RowBlock, Rows

if TYPE_CHECKING:
    import torch

_EXACT_FLOAT32 = 1 << 24  # whole numbers up to here are exact in float32


@dataclass(frozen=True, eq=False)
class PixelRows(Rows):
    """Pixels.

    Args:
        mean: (C,) float64, mean of each channel.
        weight: (C,) float64, 1 / variance of each channel, 0 where it never varies.
    """

    mean: FloatArray
    weight: FloatArray

    @property
    def channels(self) -> int:
        """Number of channels, C."""
        return len(self.mean)

    @property
    def centre(self) -> NDArray[np.int32]:
        """(C,) the mean of each channel, rounded to a whole number; z is a pixel minus it."""
        return np.rint(self.mean).astype(np.int32)

    def pack(self, positions: IntArray) -> dict[str, NDArray[Any]]:
        return {"rows": self.values_nd[positions], "mean": self.mean, "weight": self.weight}

    def standardised(self, positions: IntArray) -> FloatArray:
        planes = self.planes(positions) - self.mean
        planes *= np.sqrt(self.weight)
        return planes.reshape(len(positions), -1)

    def squared_lengths(self, positions: IntArray) -> tuple[FloatArray, BoolArray]:
        sums, sums_of_squares = _whole_sums(self.planes(positions), self.centre)
        squares = np.asarray(sums_of_squares @ self.weight + 2.0 * self.offsets(sums))
        largest = 255.0**2 * (self.n_features // self.channels) * self.weight.sum()
        return squares, ~(squares > NO_LENGTH**2 * largest)

    def planes(self, positions: IntArray) -> NDArray[np.uint8]:
        """Return the pixels as (B, D / C, C)."""
        return self.values_nd[positions].reshape(len(positions), -1, self.channels)

    def offsets(self, sums: FloatArray) -> FloatArray:
        """Return what each row adds to all of its inner products, from the sums s of its z.

        With r the mean of z and P pixels a channel: ``sum_c weight_c (P r_c^2 / 2 - r_c s_c)``, twice in a product.
        """
        rest = self.mean - self.centre
        return np.asarray((self.n_features // self.channels * rest**2 / 2.0 - rest * sums) @ self.weight)

    def _block(self, positions: IntArray, inverse_b: FloatArray, dtype: torch.dtype, device: torch.device) -> RowBlock:
        return _PixelBlock(self, positions, inverse_b, device)


@dataclass(frozen=True)
class _LoadedPixels:
    planes: torch.Tensor  # (C, rows, D / C) float32, whole numbers
    offset: torch.Tensor  # (rows,) float64
    inverse: torch.Tensor  # (rows,) float64, 1 / length


class _PixelBlock(RowBlock):
    """Bytes: the inner product of two standardised rows is ``sum_c weight_c z_i . z_j + offset_i + offset_j``."""

    def __init__(self, rows: PixelRows, positions: IntArray, inverse_b: FloatArray, device: torch.device) -> None:
        import torch

        pixels = rows.n_features // rows.channels
        self._planes = torch.empty((rows.channels, len(positions), pixels), dtype=torch.uint8, device=device)
        self._offset = torch.empty(len(positions), dtype=torch.float64, device=device)
        self._inverse = torch.from_numpy(inverse_b).to(device)
        self._centre = torch.from_numpy(rows.centre).to(device)[:, None, None]
        self._weight = rows.weight.tolist()
        self._terms = [_EXACT_FLOAT32 // max(c, 255 - c) ** 2 for c in rows.centre.tolist()]
        self.rounding = ROUNDING_STEPS * torch.finfo(torch.float64).eps
        done = 0
        for chunk in rows.chunks(positions):
            planes, part = rows.planes(chunk), slice(done, done := done + len(chunk))
            self._planes[:, part].copy_(torch.from_numpy(planes).to(device).permute(2, 0, 1))
            self._offset[part].copy_(torch.from_numpy(rows.offsets(_whole_sums(planes, rows.centre)[0])))

    def load(self, part: slice) -> _LoadedPixels:
        planes = self._planes[:, part].float().sub_(self._centre)
        return _LoadedPixels(planes, self._offset[part], self._inverse[part])

    def cosines(self, left: _LoadedPixels, right: _LoadedPixels, out: torch.Tensor) -> None:
        import torch

        exact = torch.empty(out.shape, dtype=torch.float32, device=out.device)
        torch.add(left.offset[:, None], right.offset, out=out)
        for weight, terms, ours, theirs in zip(self._weight, self._terms, left.planes, right.planes, strict=True):
            for first in range(0, ours.shape[1], terms):
                torch.mm(ours[:, first : first + terms], theirs[:, first : first + terms].T, out=exact)
                out.add_(exact, alpha=weight)
        out.mul_(left.inverse[:, None]).mul_(right.inverse)


def _whole_sums(planes_bpc: NDArray[np.uint8], centre: NDArray[np.int32]) -> FloatArray:
    """Return (2, B, C) sums of z and of z^2, z = x - ``centre``: whole numbers, exact in float64."""
    sums = np.empty((2, len(planes_bpc), len(centre)))
    for channel, middle in enumerate(centre):
        z = np.subtract(planes_bpc[:, :, channel], middle, dtype=np.float64)
        sums[0, :, channel] = z.sum(axis=1)
        sums[1, :, channel] = np.einsum("bp,bp->b", z, z)
    return sums


def channel_moments(values_nd: NDArray[Any], channels: int) -> tuple[FloatArray, FloatArray]:
    """Return the mean and the variance of each channel, correctly rounded from whole-number sums."""
    raw = PixelRows(values_nd, np.zeros(channels), np.zeros(channels))
    totals = np.zeros((2, channels), np.int64)
    for positions in raw.chunks(np.arange(len(values_nd))):
        totals += _whole_sums(raw.planes(positions), raw.centre).sum(axis=1).astype(np.int64)
    count = values_nd.size // channels
    mean, variance = zip(*((s / count, (count * q - s * s) / count**2) for s, q in totals.T.tolist()), strict=True)
    return np.array(mean), np.array(variance)
