"""Tiles of similarities: how alike two samples are, products of some rows with others, and the pairs among them above a threshold."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from prune_cli.methods.devices import resolve_device, tensor_of
from prune_cli.methods.selection.neighbors.nearest import Metric

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "float64", "bfloat16"]

FLOAT64_ROWS = 16_384
"""Up to this many samples ``auto`` computes similarities in float64: every digit counts in a short order."""

_CHUNK = 65_536


@dataclass(frozen=True)
class Similarity:
    """How alike two samples are: ``s(x, v) = 1 - h_x - h_v + x . v / 2``, 1 for a sample and itself.

    Args:
        rows_nd: (N, D) float32 or float64: at length 1 (cosine), or less their mean and divided by their scale.
        half_n: (N,) of the same dtype, a quarter of the squared length of each row.
        device: where products run.
        half_precision: compute products in bfloat16.
    """

    rows_nd: np.ndarray
    half_n: np.ndarray
    device: str = "auto"
    half_precision: bool = False

    def __len__(self) -> int:
        return len(self.rows_nd)

    def take(self, order_n: np.ndarray) -> Similarity:
        """Return the same of the samples in another order."""
        return dataclasses.replace(self, rows_nd=self.rows_nd[order_n], half_n=self.half_n[order_n])


def resolve_precision(precision: Precision, n_samples: int) -> Precision:
    """Return what ``auto`` means for so many samples: float64 up to 16,384 and float32 beyond."""
    if precision != "auto":
        return precision
    return "float64" if n_samples <= FLOAT64_ROWS else "float32"


def prepare_similarity(
    features_nd: np.ndarray,
    metric: Metric = "cosine",
    precision: Precision = "auto",
    device: str = "auto",
    spread: tuple[np.ndarray, float] | None = None,
) -> Similarity:
    """Return the rows scaled so that one formula gives both similarities.

    Cosine: ``s = 1/2 + cos / 2``. Euclidean: ``s = 1 - |x - v|^2 / (4 r^2)`` with r the root mean square distance to the mean:
    the same number as the cosine's where the samples lie on a sphere around their mean.

    Args:
        features_nd: (N, D) float32, finite, no row of zeros for the cosine.
        metric: ``cosine`` or ``euclidean``.
        precision: of the products; ``auto`` is float64 up to 16,384 samples and float32 beyond.
        device: where products run.
        spread: for the euclidean, (D,) mean and r^2 of the samples that these are some of; None: these are all.
    Example:
        >>> found = prepare_similarity(np.array([[2.0, 0.0], [0.0, 3.0]], np.float32))
        >>> float(1 - found.half_n.sum() + found.rows_nd[0] @ found.rows_nd[1] / 2)
        0.5
    """
    n_samples = len(features_nd)
    in_float64 = resolve_precision(precision, n_samples) == "float64"
    rows_nd = np.array(features_nd, np.float64 if in_float64 else np.float32)
    half_n = np.full(n_samples, 0.25, rows_nd.dtype)
    if metric == "cosine":
        for start in range(0, n_samples, _CHUNK):
            part = rows_nd[start : start + _CHUNK]
            lengths = np.linalg.norm(part.astype(np.float64), axis=1, keepdims=True)
            np.divide(part, np.where(lengths > 0, lengths, 1.0).astype(rows_nd.dtype), out=part)
    elif n_samples:
        if spread is None:
            total = sum(rows_nd[s : s + _CHUNK].sum(axis=0, dtype=np.float64) for s in range(0, n_samples, _CHUNK))
        mean_d = total / n_samples if spread is None else spread[0]
        np.subtract(rows_nd, mean_d.astype(rows_nd.dtype), out=rows_nd)
        squares = np.concatenate([(rows_nd[s : s + _CHUNK].astype(np.float64) ** 2).sum(axis=1) for s in range(0, n_samples, _CHUNK)])
        scale = (squares.mean() if spread is None else spread[1]) or 1.0
        np.divide(rows_nd, rows_nd.dtype.type(np.sqrt(scale)), out=rows_nd)
        half_n = (squares / scale / 4).astype(rows_nd.dtype)
    return Similarity(rows_nd, half_n, device, precision == "bfloat16")


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


@functools.cache
def compile_tile() -> tuple[Callable[..., Any], ...]:
    """Return ``count``, ``fill`` and ``copy``; see where they are called."""
    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def count(tile, half_r, half_c, threshold, own_r, both, of_rows, of_columns):  # type: ignore[no-untyped-def]
        for r in range(tile.shape[0]):
            base, found = 1 - half_r[r], 0
            for c in range(tile.shape[1]):
                tile[r, c] = base - half_c[c] + tile[r, c] / 2
            if own_r[r] >= 0:
                tile[r, own_r[r]] = -1
            for c in range(tile.shape[1]):
                found += tile[r, c] > threshold
            of_rows[r] = found
            if both:
                for c in range(tile.shape[1]):
                    of_columns[c] += tile[r, c] > threshold

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def fill(tile, threshold, both, next_column, columns, of_row, rows, of_column):  # type: ignore[no-untyped-def]
        at = 0
        for r in range(tile.shape[0]):
            for c in range(tile.shape[1]):
                value = tile[r, c]
                if value > threshold:
                    columns[at], of_row[at] = c, value
                    at += 1
                    if both:
                        to = next_column[c]
                        rows[to], of_column[to] = r, value
                        next_column[c] = to + 1

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def copy(counts_r, numbers, values, names, next_r, samples, similarities):  # type: ignore[no-untyped-def]
        at = 0
        for r in range(len(counts_r)):
            to = next_r[r]
            for _ in range(counts_r[r]):
                samples[to], similarities[to] = names[numbers[at]], values[at]
                to += 1
                at += 1
            next_r[r] = to

    return count, fill, copy


@dataclass(frozen=True)
class TileEdges:
    """The edges of some rows to a block: how many each row has, then to whom (numbers in the block), how near."""

    counts: np.ndarray
    numbers: np.ndarray
    values: np.ndarray


class Products:
    """Tiles of dot products on a device, each a product of its own: the same bits however many run at a time."""

    def __init__(self, similarity: Similarity) -> None:
        import torch

        self.device = resolve_device(similarity.device)
        self.rows, self.half_n = tensor_of(similarity.rows_nd).to(self.device), similarity.half_n
        self.dtype = self.rows.dtype
        self.computed_in = torch.bfloat16 if similarity.half_precision else self.dtype

    def dots(self, a: slice | np.ndarray, b: slice) -> torch.Tensor:
        """Return the dot products of some rows with others."""
        return (self.rows[a].to(self.computed_in) @ self.rows[b].to(self.computed_in).T).to(self.dtype)

    def edges(self, a: slice | np.ndarray, b: slice, threshold: float, both: bool) -> tuple[TileEdges, TileEdges]:
        """Return the edges from samples a to block b, and with ``both`` those from b to a."""
        rows = np.arange(len(self.half_n))[a]
        own_r = np.where((rows >= b.start) & (rows < b.stop), rows - b.start, -1)
        if self.device.type == "cpu":
            return self._edges_cpu(rows, a, b, threshold, own_r, both)
        return self._edges_gpu(rows, a, b, threshold, own_r, both)

    def _edges_cpu(
        self, rows: np.ndarray, a: slice | np.ndarray, b: slice, threshold: float, own_r: np.ndarray, both: bool
    ) -> tuple[TileEdges, TileEdges]:
        count, fill, _ = compile_tile()
        tile = self.dots(a, b).numpy()
        of_rows, of_columns = np.zeros(tile.shape[0], np.int64), np.zeros(tile.shape[1] if both else 0, np.int64)
        limit = tile.dtype.type(threshold)
        count(tile, self.half_n[rows], self.half_n[b], limit, own_r, both, of_rows, of_columns)
        found = int(of_rows.sum())
        back = found if both else 0
        numbers, values = np.empty(found, np.int32), np.empty(found, tile.dtype)
        numbers_back, values_back = np.empty(back, np.int32), np.empty(back, tile.dtype)
        fill(tile, limit, both, np.cumsum(of_columns) - of_columns, numbers, values, numbers_back, values_back)
        return TileEdges(of_rows, numbers, values), TileEdges(of_columns, numbers_back, values_back)

    def _edges_gpu(
        self, rows: np.ndarray, a: slice | np.ndarray, b: slice, threshold: float, own_r: np.ndarray, both: bool
    ) -> tuple[TileEdges, TileEdges]:
        import torch

        half_r, half_c = (tensor_of(self.half_n[part]).to(self.device) for part in (rows, b))
        tile = (1 - half_r)[:, None] - half_c + self.dots(a, b) / 2
        mine = np.flatnonzero(own_r >= 0)
        tile[torch.from_numpy(mine).to(self.device), torch.from_numpy(own_r[mine]).to(self.device)] = -1.0
        pieces = []
        for values in (tile, tile.T if both else tile[:0]):
            near = values > threshold
            numbers = near.nonzero(as_tuple=True)[1].to(torch.int32)
            pieces.append(TileEdges(near.sum(dim=1).cpu().numpy(), numbers.cpu().numpy(), values[near].cpu().numpy()))
        return pieces[0], pieces[1]
