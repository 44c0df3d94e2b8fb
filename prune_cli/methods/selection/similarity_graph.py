"""The graph of all pairs of samples more alike than a threshold: built by tiles of products, or row by row as needed."""

from __future__ import annotations

import collections
import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from prune_cli.core.progress import Progress, silent
from prune_cli.core.rng import generator, stream_seed
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.selection.neighbors import Metric

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "float64", "bfloat16"]

FLOAT64_ROWS = 16_384
"""Up to this many samples ``auto`` computes similarities in float64: every digit counts in a short order."""

_TILE_ROWS = 1024
_BLOCK_NUMBERS = 1 << 26  # similarities of a block of rows computed on demand
_CHUNK = 65_536

_Task = TypeVar("_Task")
_Answer = TypeVar("_Answer")


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
        squares = np.concatenate(
            [(rows_nd[s : s + _CHUNK].astype(np.float64) ** 2).sum(axis=1) for s in range(0, n_samples, _CHUNK)]
        )
        scale = (squares.mean() if spread is None else spread[1]) or 1.0
        np.divide(rows_nd, rows_nd.dtype.type(np.sqrt(scale)), out=rows_nd)
        half_n = (squares / scale / 4).astype(rows_nd.dtype)
    return Similarity(rows_nd, half_n, device, precision == "bfloat16")


@dataclass(frozen=True)
class Rows:
    """Rows of a symmetric graph without loops: who is near a sample, and how near.

    Args:
        begin_n, end_n: (N,) int64 where the row of each sample lies; begin is -1 where it is not there.
        samples_e: (E,) int32.
        similarities_e: (E,) float32 or float64, above the threshold.
    """

    begin_n: np.ndarray
    end_n: np.ndarray
    samples_e: np.ndarray
    similarities_e: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of the edges."""
        return len(self.samples_e) * edge_bytes(self.similarities_e.dtype)


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
def _compile_tile() -> tuple[Callable[..., Any], ...]:
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
class _Piece:
    """The edges of some rows to a block: how many each row has, then to whom (numbers in the block), how near."""

    counts: np.ndarray
    numbers: np.ndarray
    values: np.ndarray


class _Products:
    """Tiles of dot products on a device, each a product of its own: the same bits however many run at a time."""

    def __init__(self, similarity: Similarity, order_n: np.ndarray | None) -> None:
        import torch

        rows_nd = similarity.rows_nd if order_n is None else similarity.rows_nd[order_n]
        self.half_n = similarity.half_n if order_n is None else similarity.half_n[order_n]
        self.device = resolve_device(similarity.device)
        self.rows = torch.from_numpy(rows_nd).to(self.device)
        self.dtype = self.rows.dtype
        if similarity.half_precision:
            self.rows = self.rows.to(torch.bfloat16)

    def dots(self, a: slice | np.ndarray, b: slice) -> torch.Tensor:
        """Return the dot products of some rows with others."""
        return (self.rows[a] @ self.rows[b].T).to(self.dtype)

    def edges(self, a: slice | np.ndarray, b: slice, threshold: float, both: bool) -> tuple[_Piece, _Piece]:
        """Return the edges from samples a to block b, and with ``both`` those from b to a."""
        rows = np.arange(len(self.half_n))[a]
        own_r = np.where((rows >= b.start) & (rows < b.stop), rows - b.start, -1)
        if self.device.type == "cpu":
            return self._edges_cpu(rows, a, b, threshold, own_r, both)
        return self._edges_gpu(rows, a, b, threshold, own_r, both)

    def _edges_cpu(
        self, rows: np.ndarray, a: slice | np.ndarray, b: slice, threshold: float, own_r: np.ndarray, both: bool
    ) -> tuple[_Piece, _Piece]:
        count, fill, _ = _compile_tile()
        tile = self.dots(a, b).numpy()
        of_rows, of_columns = np.zeros(tile.shape[0], np.int64), np.zeros(tile.shape[1] if both else 0, np.int64)
        limit = tile.dtype.type(threshold)
        count(tile, self.half_n[rows], self.half_n[b], limit, own_r, both, of_rows, of_columns)
        found = int(of_rows.sum())
        back = found if both else 0
        numbers, values = np.empty(found, np.int32), np.empty(found, tile.dtype)
        numbers_back, values_back = np.empty(back, np.int32), np.empty(back, tile.dtype)
        fill(tile, limit, both, np.cumsum(of_columns) - of_columns, numbers, values, numbers_back, values_back)
        return _Piece(of_rows, numbers, values), _Piece(of_columns, numbers_back, values_back)

    def _edges_gpu(
        self, rows: np.ndarray, a: slice | np.ndarray, b: slice, threshold: float, own_r: np.ndarray, both: bool
    ) -> tuple[_Piece, _Piece]:
        import torch

        half_r, half_c = (torch.from_numpy(self.half_n[part]).to(self.device) for part in (rows, b))
        tile = (1 - half_r)[:, None] - half_c + self.dots(a, b) / 2
        mine = np.flatnonzero(own_r >= 0)
        tile[torch.from_numpy(mine).to(self.device), torch.from_numpy(own_r[mine]).to(self.device)] = -1.0
        pieces = []
        for values in (tile, tile.T if both else tile[:0]):
            near = values > threshold
            numbers = near.nonzero(as_tuple=True)[1].to(torch.int32)
            pieces.append(_Piece(near.sum(dim=1).cpu().numpy(), numbers.cpu().numpy(), values[near].cpu().numpy()))
        return pieces[0], pieces[1]


@contextlib.contextmanager
def _one_thread_each() -> Iterator[int]:
    """Let torch run each product on one thread, and say how many may run at a time."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def build_graph(
    similarity: Similarity,
    threshold: float,
    *,
    max_bytes: int | None = None,
    cells: Cells | None = None,
    progress: Progress = silent,
) -> Rows | None:
    """Return every pair with a similarity above the threshold, or None where these take more bytes than allowed.

    Args:
        similarity: N samples.
        threshold: strict.
        max_bytes: of the edges of both directions.
        cells: compare only samples of cells that are near each other; None: all pairs.
        progress: told of the tiles that are done.
    Cost:
        N^2 D flops: each pair once. 8 bytes an edge and direction (12 in float64), and of the tiles whose other side has
        not come yet as much again at most.
    """
    n_samples = len(similarity)
    if cells is None:
        edges = np.append(np.arange(0, n_samples, _TILE_ROWS), n_samples)
        order_n: np.ndarray | None = None
        pairs: list[Sequence[int]] = [range(a, len(edges) - 1) for a in range(len(edges) - 1)]
    else:
        edges, order_n, pairs = cells.edges, cells.order_n, cells.pairs()
    products = _Products(similarity, order_n)
    blocks = [slice(int(edges[a]), int(edges[a + 1])) for a in range(len(edges) - 1)]
    dtype = similarity.rows_nd.dtype
    room = n_samples * max(0, n_samples - 1)
    if max_bytes is not None:
        room = min(room, max_bytes // edge_bytes(dtype))
    samples, similarities = np.empty(room, np.int32), np.empty(room, dtype)  # pages are taken as they are written
    begin_n, end_n = np.zeros(n_samples, np.int64), np.zeros(n_samples, np.int64)
    waiting: dict[int, list[tuple[int, _Piece]]] = collections.defaultdict(list)
    used, total, done, held = 0, sum(len(p) for p in pairs), 0, 0
    tiles = ((a, b) for a, others in enumerate(pairs) for b in others)
    everyone = np.arange(n_samples) if order_n is None else order_n
    _, _, copy = _compile_tile()

    def compute(pair: tuple[int, int]) -> tuple[_Piece, _Piece]:
        a, b = pair
        return products.edges(blocks[a], blocks[b], threshold, both=a != b)

    for (a, b), (own, back) in _in_order(compute, tiles, products.device.type == "cpu"):
        waiting[a].append((b, own))
        if a != b:
            waiting[b].append((a, back))
        held += len(own.values) + len(back.values)
        done += 1
        progress("neighbors", done, total)
        if used + held > room:
            return None
        if b != pairs[a][-1]:
            continue
        pieces = waiting.pop(a)
        counts = np.sum([piece.counts for _, piece in pieces], axis=0)
        ends = used + np.cumsum(counts)
        begin_n[everyone[blocks[a]]], end_n[everyone[blocks[a]]] = ends - counts, ends
        next_r = ends - counts
        for other, piece in pieces:
            copy(piece.counts, piece.numbers, piece.values, everyone[blocks[other]], next_r, samples, similarities)
            held -= len(piece.values)
        used = int(ends[-1]) if len(ends) else used
    return Rows(begin_n, end_n, samples[:used], similarities[:used])


def _in_order(
    compute: Callable[[_Task], _Answer], tasks: Iterable[_Task], on_threads: bool
) -> Iterator[tuple[_Task, _Answer]]:
    """Yield each task with its answer, in order; some are computed ahead on as many threads as torch has."""
    if not on_threads:
        for task in tasks:
            yield task, compute(task)
        return
    with _one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
        ahead: collections.deque[tuple[_Task, Future[_Answer]]] = collections.deque()
        try:
            for task in tasks:
                ahead.append((task, pool.submit(compute, task)))
                if len(ahead) > 4 * threads:
                    first, future = ahead.popleft()
                    yield first, future.result()
            for first, future in ahead:
                yield first, future.result()
        finally:
            for _, future in ahead:
                future.cancel()


@dataclass(frozen=True)
class Cells:
    """Samples grouped around centroids, and which groups are near each other.

    Args:
        order_n: (N,) int64 samples by cell.
        edges: (K + 1,) int64 where each cell begins in that order.
        near_kp: (K, P) int64 the cells nearest to each cell, itself first.
    """

    order_n: np.ndarray
    edges: np.ndarray
    near_kp: np.ndarray

    def pairs(self) -> list[Sequence[int]]:
        """Return for each cell those not before it that are near it, or that it is near: every pair once."""
        n_cells = len(self.near_kp)
        a, b = np.repeat(np.arange(n_cells), self.near_kp.shape[1]), self.near_kp.ravel()
        low, high = np.minimum(a, b), np.maximum(a, b)
        both = np.unique(low * n_cells + high)
        low, high = both // n_cells, both % n_cells
        split = np.searchsorted(low, np.arange(n_cells + 1))
        return [high[split[c] : split[c + 1]].tolist() for c in range(n_cells)]


def make_cells(similarity: Similarity, probes: int, seed: int, progress: Progress = silent) -> Cells:
    """Return cells of about sqrt(N) / 2 samples around centroids of k-means, each with its nearest ones.

    Args:
        similarity: N samples.
        probes: how many cells each cell is compared with, itself among them.
        seed: draws the samples k-means is trained on, and its first centroids.
        progress: told of the assignment.
    Source:
        The inverted file of Jegou, Douze, Schmid, TPAMI 2011, with both sides of a pair taken from cells.
    """
    import faiss
    import torch

    n_samples, width = similarity.rows_nd.shape
    n_cells = max(1, int(2 * np.sqrt(n_samples)))
    rows_nd = np.ascontiguousarray(similarity.rows_nd, np.float32)
    draw = generator(seed, "select", "cells").permutation(n_samples)[: 64 * n_cells]
    kmeans = faiss.Kmeans(
        width, n_cells, niter=10, seed=stream_seed(seed, "select", "centroids") % 2**31, max_points_per_centroid=64,
        min_points_per_centroid=1,
    )  # fmt: skip
    kmeans.train(rows_nd[np.sort(draw)])
    centroids = torch.from_numpy(kmeans.centroids)
    half = centroids.square().sum(dim=1) / 2
    cell_n = np.empty(n_samples, np.int64)
    for start in range(0, n_samples, _TILE_ROWS * 8):
        part = torch.from_numpy(rows_nd[start : start + _TILE_ROWS * 8])
        cell_n[start : start + len(part)] = (part @ centroids.T - half).argmax(dim=1).numpy()
        progress("cells", min(n_samples, start + len(part)), n_samples)
    order_n = np.argsort(cell_n, kind="stable")
    edges = np.searchsorted(cell_n[order_n], np.arange(n_cells + 1))
    between = half[:, None] + half - centroids @ centroids.T
    between.fill_diagonal_(-1.0)
    near_kp = between.topk(min(probes, n_cells), dim=1, largest=False).indices.numpy()
    return Cells(order_n, edges, near_kp)


class RowsOnDemand:
    """Rows of the graph computed in blocks when they are asked for, as many kept as fit.

    Args:
        similarity: N samples.
        threshold: strict.
        max_bytes: of the rows that are kept.
    """

    def __init__(self, similarity: Similarity, threshold: float, max_bytes: float) -> None:
        self._similarity, self._threshold = similarity, threshold
        self._products = _Products(similarity, None)
        dtype = similarity.rows_nd.dtype
        self._room = max(len(similarity), int(max_bytes // edge_bytes(dtype)))
        n_samples = len(similarity)
        self.rows = Rows(
            np.full(n_samples, -1, np.int64), np.full(n_samples, -1, np.int64),
            np.empty(self._room, np.int32), np.empty(self._room, dtype),
        )  # fmt: skip
        self._used = 0
        self.height = max(1, min(1024, _BLOCK_NUMBERS // max(1, n_samples)))

    def blocks(self) -> Iterator[tuple[np.ndarray, Rows]]:
        """Yield all rows, block by block, keeping none."""
        start, n_samples = 0, len(self._similarity)
        while start < n_samples:
            wanted = np.arange(start, min(start + self.height, n_samples))
            self.forget()
            start += self.fetch(wanted)
            yield wanted[: start - wanted[0]], self.rows
        self.forget()

    def fetch(self, wanted: np.ndarray) -> int:
        """Compute the rows of some samples, the first of them at least; where they do not fit, those from before go.

        Returns:
            how many of them there was room for.
        """
        wanted = wanted[: self.height]
        sizes, samples, values = self._compute(wanted)
        if self._used + len(samples) > self._room:
            self.forget()
        fits = int(np.searchsorted(np.cumsum(sizes), self._room - self._used, side="right"))
        ends = self._used + np.cumsum(sizes[:fits])
        self.rows.begin_n[wanted[:fits]], self.rows.end_n[wanted[:fits]] = ends - sizes[:fits], ends
        taken = int(sizes[:fits].sum())
        self.rows.samples_e[self._used : self._used + taken] = samples[:taken]
        self.rows.similarities_e[self._used : self._used + taken] = values[:taken]
        self._used += taken
        return fits

    def forget(self) -> None:
        """Drop all rows."""
        self.rows.begin_n[:] = -1
        self._used = 0

    def sizes(self, wanted: np.ndarray) -> np.ndarray:
        """Return how many neighbors some samples have."""
        parts = [self._compute(wanted[s : s + self.height])[0] for s in range(0, len(wanted), self.height)]
        return np.concatenate(parts)

    def _compute(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n_samples = len(self._similarity)
        columns = [slice(start, min(start + _CHUNK, n_samples)) for start in range(0, n_samples, _CHUNK)]

        def compute(block: slice) -> _Piece:
            return self._products.edges(wanted, block, self._threshold, both=False)[0]

        pieces = [piece for _, piece in _in_order(compute, columns, self._products.device.type == "cpu")]
        counts = np.sum([piece.counts for piece in pieces], axis=0)
        samples = np.empty(int(counts.sum()), np.int32)
        values = np.empty(len(samples), self.rows.similarities_e.dtype)
        next_r = np.cumsum(counts) - counts
        for block, piece in zip(columns, pieces, strict=True):
            names = np.arange(block.start, block.stop)
            _compile_tile()[2](piece.counts, piece.numbers, piece.values, names, next_r, samples, values)
        return counts, samples, values


def mean_degree(similarity: Similarity, threshold: float, seed: int, sample: int = 256) -> float:
    """Return the mean number of neighbors of some random samples."""
    chosen = generator(seed, "select", "degree").permutation(len(similarity))[:sample]
    return float(RowsOnDemand(similarity, threshold, 0).sizes(chosen).mean()) if len(chosen) else 0.0


def recall(similarity: Similarity, threshold: float, rows: Rows, seed: int, sample: int = 512) -> float:
    """Return the share of the neighbors of some random samples that a graph has; 1 where they have none."""
    chosen = generator(seed, "select", "recall").permutation(len(similarity))[:sample]
    there = int(RowsOnDemand(similarity, threshold, 0).sizes(chosen).sum())
    found = int((rows.end_n[chosen] - rows.begin_n[chosen]).sum())
    return found / there if there else 1.0
