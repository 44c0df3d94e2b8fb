"""The two kinds of rows: pixels, which stay bytes until a tile needs them, and embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import BoolArray, FloatArray, IntArray, chunks
from prune_cli.core.errors import InputError
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

    def load(self, part: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (C, rows, D / C) float32 whole numbers; (rows,) float64 offsets; (rows,) float64, 1 / length."""
        return self._planes[:, part].float().sub_(self._centre), self._offset[part], self._inverse[part]

    def cosines(self, left: tuple[torch.Tensor, ...], right: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        import torch

        (our_planes, our_offset, our_inverse), (their_planes, their_offset, their_inverse) = left, right
        exact = torch.empty(out.shape, dtype=torch.float32, device=out.device)
        torch.add(our_offset[:, None], their_offset, out=out)
        for weight, terms, ours, theirs in zip(self._weight, self._terms, our_planes, their_planes, strict=True):
            for first in range(0, ours.shape[1], terms):
                torch.mm(ours[:, first : first + terms], theirs[:, first : first + terms].T, out=exact)
                out.add_(exact, alpha=weight)
        out.mul_(our_inverse[:, None]).mul_(their_inverse)


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

    def __init__(self, rows: EmbeddingRows, positions: IntArray, inverse_b: FloatArray, dtype: torch.dtype, device: torch.device) -> None:
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


def make_rows(values_nd: NDArray[Any], channels: int | None = None, center: bool = False) -> Rows:
    """Return the samples with what standardises them: exact, and the same whatever the order of the rows.

    Pixels: (x - mean) / standard deviation, both of the whole data set for each channel, from whole-number sums; a
    channel that never varies does not count. Embeddings: as they are, or minus their mean with ``center``.

    Args:
        values_nd: (N, D) uint8 pixels, each row a flattened H x W x C picture, channel last; or (N, D) float32 or
            float64 embeddings, finite. Kept, not copied.
        channels: C for pixels, None for embeddings.
        center: subtract the mean of the embeddings.
    Raises:
        InputError: another shape or dtype, or ``center`` with pixels.
    Cost:
        One pass for pixels, none for embeddings, a sort of each column with ``center``.
    """
    if values_nd.ndim != 2 or 0 in values_nd.shape:
        raise InputError(f"the samples have shape {values_nd.shape}", "give a (samples, features) array, not empty")
    if channels is None:
        if values_nd.dtype not in (np.float32, np.float64):
            raise InputError(f"embeddings are {values_nd.dtype}", "give float32 or float64")
        return EmbeddingRows(values_nd, column_means(values_nd) if center else None)
    if values_nd.dtype != np.uint8 or channels < 1 or values_nd.shape[1] % channels:
        raise InputError(
            f"pixels are {values_nd.dtype} in rows of {values_nd.shape[1]} with {channels} channel(s)",
            "give uint8 rows of height x width x channels numbers, channel last",
        )
    if center:
        raise InputError("center=true was given with pixels", "leave it out: pixels are always standardised")
    mean, variance = channel_moments(values_nd, channels)
    return PixelRows(values_nd, mean, np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0))


def unpack_rows(arrays: Mapping[str, NDArray[Any]]) -> Rows:
    """Return the rows that `Rows.pack` made arrays of: standardised as they were among all of them."""
    if "weight" in arrays:
        return PixelRows(arrays["rows"], arrays["mean"], arrays["weight"])
    return EmbeddingRows(arrays["rows"], arrays.get("mean"))
