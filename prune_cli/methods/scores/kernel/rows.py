"""Samples as a kernel sees them: standardised rows of unit length, and the cosines between them, tile by tile.

Pixels stay bytes until a tile needs them. With z = x - m, m the mean rounded to a whole number, 256 products of two z,
and mostly 500 or more, sum exactly in float32 (in any order; z is exact in TF32 and bfloat16 as well). What is left of
the mean, and the standard deviation, come in afterwards in float64: faster than a float64 product, and more exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError, NumericalError

if TYPE_CHECKING:
    import torch

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

_EXACT_FLOAT32 = 1 << 24  # whole numbers up to here are exact in float32
_CHUNK_NUMBERS = 1 << 22  # numbers in a chunk of rows: no pass over the data takes more memory than a few tiles
_NO_LENGTH = 2.0**-40  # a length this small against the numbers it is the difference of is rounding
_SAME_PLACE = 1e-12  # unit rows this near are one direction, but for rounding
_ROUNDING_STEPS = 16  # error of a computed cosine, in units in the last place


@dataclass(frozen=True, eq=False)
class Rows(ABC):
    """The samples, and what standardises them: see `make_rows`.

    Args:
        values_nd: (N, D) the samples as they are stored.
    """

    values_nd: NDArray[Any]

    @property
    def n_samples(self) -> int:
        """Number of samples, N."""
        return int(self.values_nd.shape[0])

    @property
    def n_features(self) -> int:
        """Numbers a sample, D."""
        return int(self.values_nd.shape[1])

    def unit(self, positions: IntArray, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Return the (B, D) standardised rows at ``positions``, each divided by its length."""
        import torch

        rows = torch.from_numpy(self.standardised(positions)).to(device)
        return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True)).to(dtype)

    def block(self, positions: IntArray, dtype: torch.dtype, device: torch.device) -> RowBlock:
        """Return the rows at ``positions``, made ready on the device for `RowBlock.cosines`.

        Raises:
            NumericalError: a row without a direction (zero, NaN or infinite), see `zero_rows`.
        """
        measured = [self.squared_lengths(chunk) for chunk in self.chunks(positions)]
        squares_b, zero_b = (np.concatenate(arrays) for arrays in zip(*measured, strict=True))
        if zero_b.any():
            raise NumericalError(
                f"{zero_b.sum()} row(s) are zero, NaN or infinite after standardisation, "
                f"the first at position {positions[zero_b][0]}",
                "leave these rows out before scoring: they are bad rows",
            )
        return self._block(positions, 1.0 / np.sqrt(squares_b), dtype, device)

    def some(self, positions: IntArray) -> NDArray[np.float32]:
        """Return the (B, D) float32 unit rows at a few positions, as a tree of two-means asks for them."""
        import torch

        return self.unit(positions, torch.float32, torch.device("cpu")).numpy()

    def along(self, positions: IntArray, direction_d: FloatArray) -> FloatArray:
        """Return (B,) float64 products of the unit rows with a direction."""
        import torch

        direction, cpu = torch.from_numpy(direction_d), torch.device("cpu")
        found = [(self.unit(chunk, torch.float64, cpu) @ direction).numpy() for chunk in self.chunks(positions)]
        return np.concatenate(found)

    def chunks(self, positions: IntArray) -> Iterator[IntArray]:
        """Yield ``positions`` in parts whose rows take little memory."""
        step = max(1, _CHUNK_NUMBERS // self.n_features)
        for first in range(0, len(positions), step):
            yield positions[first : first + step]

    @abstractmethod
    def pack(self, positions: IntArray) -> dict[str, NDArray[Any]]:
        """Return the rows at ``positions`` and what standardises them, as `unpack_rows` takes them."""

    @abstractmethod
    def standardised(self, positions: IntArray) -> FloatArray:
        """Return the (B, D) rows at ``positions``, standardised but not yet divided by their lengths."""

    @abstractmethod
    def squared_lengths(self, positions: IntArray) -> tuple[FloatArray, BoolArray]:
        """Return the squared lengths of the standardised rows, and which are no more than rounding or not finite."""

    @abstractmethod
    def _block(
        self, positions: IntArray, inverse_b: FloatArray, dtype: torch.dtype, device: torch.device
    ) -> RowBlock: ...


class RowBlock(ABC):
    """Some of the rows, ready for cosines between any two ranges of them: their stored values, on the device."""

    rounding: float
    """Error of a cosine."""

    @abstractmethod
    def load(self, part: slice) -> Any:
        """Return these rows of the block in the form that `cosines` takes."""

    @abstractmethod
    def cosines(self, left: Any, right: Any, out: torch.Tensor) -> None:
        """Write the cosines of two loaded ranges to ``out``, float64."""


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
        return EmbeddingRows(values_nd, _column_means(values_nd) if center else None)
    if values_nd.dtype != np.uint8 or channels < 1 or values_nd.shape[1] % channels:
        raise InputError(
            f"pixels are {values_nd.dtype} in rows of {values_nd.shape[1]} with {channels} channel(s)",
            "give uint8 rows of height x width x channels numbers, channel last",
        )
    if center:
        raise InputError("center=true was given with pixels", "leave it out: pixels are always standardised")
    mean, variance = _channel_moments(values_nd, channels)
    return PixelRows(values_nd, mean, np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0))


def unpack_rows(arrays: Mapping[str, NDArray[Any]]) -> Rows:
    """Return the rows that `Rows.pack` made arrays of: standardised as they were among all of them."""
    values, mean, weight = arrays["rows"], arrays.get("mean"), arrays.get("weight")
    if weight is None:
        return EmbeddingRows(values, mean)
    assert mean is not None
    return PixelRows(values, mean, weight)


def zero_rows(rows: Rows) -> BoolArray:
    """Return (N,) bool, True for each row without a direction: no score can be computed for it.

    That is a row which is zero after standardisation (a picture in the mean colour, an embedding of zeros), to 12
    digits of the numbers whose difference it is; or one which is not finite.

    Cost:
        One pass, a chunk of rows at a time.
    """
    return np.concatenate([rows.squared_lengths(part)[1] for part in rows.chunks(np.arange(rows.n_samples))])


def has_duplicates(rows: Rows, positions: IntArray) -> bool:
    """Return whether any two rows have the same direction, up to rounding: their kernel is singular then.

    Rows are told apart by their place along one random direction; those at one place are compared.

    Cost:
        One pass, and a sort.
    """
    import torch

    cpu = torch.device("cpu")
    axis = torch.from_numpy(np.random.Generator(np.random.PCG64(0)).normal(size=rows.n_features))
    places = np.concatenate([(rows.unit(part, torch.float64, cpu) @ axis).numpy() for part in rows.chunks(positions)])
    order = np.argsort(places, kind="stable")
    near = np.flatnonzero(np.diff(places[order]) <= _SAME_PLACE)
    for first in range(0, len(near), 1024):
        part = near[first : first + 1024]
        left, right = (rows.unit(positions[order[part + k]], torch.float64, cpu) for k in (0, 1))
        if bool((torch.linalg.vector_norm(left - right, dim=1) < _SAME_PLACE).any()):
            return True
    return False


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
            return squares, ~(squares > _NO_LENGTH**2 * magnitudes)

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
        self.rounding = _ROUNDING_STEPS * torch.finfo(dtype).eps

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
        return squares, ~(squares > _NO_LENGTH**2 * largest)

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
        self.rounding = _ROUNDING_STEPS * torch.finfo(torch.float64).eps
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


def _channel_moments(values_nd: NDArray[Any], channels: int) -> tuple[FloatArray, FloatArray]:
    """Return the mean and the variance of each channel, correctly rounded from whole-number sums."""
    raw = PixelRows(values_nd, np.zeros(channels), np.zeros(channels))
    totals = np.zeros((2, channels), np.int64)
    for positions in raw.chunks(np.arange(len(values_nd))):
        totals += _whole_sums(raw.planes(positions), raw.centre).sum(axis=1).astype(np.int64)
    count = values_nd.size // channels
    mean, variance = zip(*((s / count, (count * q - s * s) / count**2) for s, q in totals.T.tolist()), strict=True)
    return np.array(mean), np.array(variance)


def _column_means(values_nd: NDArray[Any]) -> FloatArray:
    """Return the mean of each column, summed in sorted order: the order of the rows does not reach the last digit."""
    step = max(1, _CHUNK_NUMBERS // len(values_nd))
    means = []
    for first in range(0, values_nd.shape[1], step):
        columns = np.sort(np.ascontiguousarray(values_nd[:, first : first + step].T), axis=1)
        means.append(columns.sum(axis=1, dtype=np.float64) / len(values_nd))
    return np.concatenate(means)
