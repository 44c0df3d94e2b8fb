"""Samples in cells around centroids, and which cells are near each other: where neighbors are looked for, if not everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prune_cli.core.progress import Progress, silent
from prune_cli.core.rng import generator, stream_seed
from prune_cli.methods.selection.neighbors.similarity import Similarity

_CHUNK = 8192


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
    for start in range(0, n_samples, _CHUNK):
        part = torch.from_numpy(rows_nd[start : start + _CHUNK])
        cell_n[start : start + len(part)] = (part @ centroids.T - half).argmax(dim=1).numpy()
        progress("cells", min(n_samples, start + len(part)), n_samples)
    order_n = np.argsort(cell_n, kind="stable")
    edges = np.searchsorted(cell_n[order_n], np.arange(n_cells + 1))
    between = half[:, None] + half - centroids @ centroids.T
    between.fill_diagonal_(-1.0)
    near_kp = between.topk(min(probes, n_cells), dim=1, largest=False).indices.numpy()
    return Cells(order_n, edges, near_kp)
