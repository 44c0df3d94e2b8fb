"""Rows of the graph of neighbors that are computed when they are asked for; what a few of them say of all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from prune_cli.core.rng import generator
from prune_cli.engines.threads import in_order, one_thread
from prune_cli.methods.selection.neighbors.tiles import Edges, Products, Similarity, TileEdges, compile_tile, edge_bytes

_BLOCK_NUMBERS = 1 << 26  # similarities of a block of rows
_CHUNK = 65_536


class RowsOnDemand:
    """Rows of the graph computed in blocks when they are asked for, as many kept as fit.

    Args:
        similarity: N samples.
        threshold: strict.
        max_bytes: of the rows that are kept.
    """

    def __init__(self, similarity: Similarity, threshold: float, max_bytes: float) -> None:
        self._similarity, self._threshold = similarity, threshold
        self._products = Products(similarity)
        dtype = similarity.rows_nd.dtype
        self._room = max(len(similarity), int(max_bytes // edge_bytes(dtype)))
        n_samples = len(similarity)
        self.edges = Edges(
            np.full(n_samples, -1, np.int64), np.full(n_samples, -1, np.int64),
            np.empty(self._room, np.int32), np.empty(self._room, dtype),
        )  # fmt: skip
        self._used = 0
        self.height = max(1, min(1024, _BLOCK_NUMBERS // max(1, n_samples)))

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all samples, block by block, while their rows are there; none are kept."""
        start, n_samples = 0, len(self._similarity)
        while start < n_samples:
            wanted = np.arange(start, min(start + self.height, n_samples))
            self.forget()
            start += self.fetch(wanted)
            yield wanted[: start - wanted[0]]
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
        self.edges.begin_n[wanted[:fits]], self.edges.end_n[wanted[:fits]] = ends - sizes[:fits], ends
        taken = int(sizes[:fits].sum())
        self.edges.samples_e[self._used : self._used + taken] = samples[:taken]
        self.edges.similarities_e[self._used : self._used + taken] = values[:taken]
        self._used += taken
        return fits

    def forget(self) -> None:
        """Drop all rows."""
        self.edges.begin_n[:] = -1
        self._used = 0

    def sizes(self, wanted: np.ndarray) -> np.ndarray:
        """Return how many neighbors some samples have."""
        parts = [self._compute(wanted[s : s + self.height])[0] for s in range(0, len(wanted), self.height)]
        return np.concatenate(parts)

    def _compute(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n_samples = len(self._similarity)
        columns = [slice(start, min(start + _CHUNK, n_samples)) for start in range(0, n_samples, _CHUNK)]

        def compute(block: slice) -> TileEdges:
            return self._products.edges(wanted, block, self._threshold, both=False)[0]

        with one_thread() as threads:
            at_once = threads if self._products.device.type == "cpu" else 1
            pieces = [piece for _, piece in in_order(compute, columns, at_once)]
        counts = np.sum([piece.counts for piece in pieces], axis=0)
        samples = np.empty(int(counts.sum()), np.int32)
        values = np.empty(len(samples), self.edges.similarities_e.dtype)
        next_r = np.cumsum(counts) - counts
        for block, piece in zip(columns, pieces, strict=True):
            names = np.arange(block.start, block.stop)
            compile_tile()[2](piece.counts, piece.numbers, piece.values, names, next_r, samples, values)
        return counts, samples, values


def mean_degree(similarity: Similarity, threshold: float, seed: int, sample: int = 256) -> float:
    """Return the mean number of neighbors of some random samples."""
    chosen = generator(seed, "select", "degree").permutation(len(similarity))[:sample]
    return float(RowsOnDemand(similarity, threshold, 0).sizes(chosen).mean()) if len(chosen) else 0.0


def recall(similarity: Similarity, threshold: float, edges: Edges, seed: int, sample: int = 512) -> float:
    """Return the share of the neighbors of some random samples that a graph has; 1 where they have none."""
    chosen = generator(seed, "select", "recall").permutation(len(similarity))[:sample]
    there = int(RowsOnDemand(similarity, threshold, 0).sizes(chosen).sum())
    found = int(edges.counts_of(chosen).sum())
    return found / there if there else 1.0
