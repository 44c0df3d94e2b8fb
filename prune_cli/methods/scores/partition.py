"""Blocks of samples of a given size: drawn at random, or near each other.

This module imports faiss inside functions only.
"""

from __future__ import annotations

import numpy as np

from prune_cli.core.progress import Progress
from prune_cli.core.rng import generator, stream_seed
from prune_cli.methods.scores.rows import FloatArray, IntArray, Rows

_TRAINING_ROWS = 4096  # rows that two centres are fitted to
_ITERATIONS = 10


def random_parts(order_n: IntArray, count: int, seed: int, repeat: int) -> list[IntArray]:
    """Return the samples in ``count`` random sets whose sizes differ by one at most, each in canonical order."""
    shuffled = generator(seed, "partition", repeat).permutation(len(order_n))
    return [order_n[np.sort(part)] for part in np.array_split(shuffled, count)]


def two_means_parts(
    rows: Rows, order_n: IntArray, count: int, seed: int, repeat: int, progress: Progress
) -> list[IntArray]:
    """Return the samples in ``count`` sets of near ones, whose sizes differ by little, each in canonical order.

    A tree of two-means: the samples of a node are sorted by how much nearer they are to one of two centres than to the other, and
    halved there, so that no set outgrows the others.

    Cost:
        2 N D flops for each of the log2(count) levels, and a fit of 4,096 rows for each node.
    """
    parts: list[IntArray] = []
    pending = [(np.arange(len(order_n)), count)]
    while pending:
        places, n_parts = pending.pop()
        if n_parts == 1:
            parts.append(order_n[np.sort(places)])
            progress("partition", len(parts), count, None)
            continue
        nearer = _nearer(rows, order_n[places], stream_seed(seed, "two means", repeat, len(parts), n_parts))
        first = n_parts // 2
        cut = round(len(places) * first / n_parts)
        sorted_places = places[np.argsort(nearer, kind="stable")]
        pending += [(np.sort(sorted_places[cut:]), n_parts - first), (np.sort(sorted_places[:cut]), first)]
    return parts


def _nearer(rows: Rows, positions: IntArray, seed: int) -> FloatArray:
    """Return (B,) float64: high where a row is nearer to the second of two centres than to the first."""
    import faiss
    import torch

    cpu = torch.device("cpu")
    draw = np.random.Generator(np.random.PCG64(seed))
    chosen = positions[np.sort(draw.choice(len(positions), min(len(positions), _TRAINING_ROWS), replace=False))]
    sample = rows.unit(chosen, torch.float32, cpu).numpy()
    fit = faiss.Kmeans(sample.shape[1], 2, niter=_ITERATIONS, seed=seed % 2**31, min_points_per_centroid=1)
    fit.train(sample)
    assert fit.centroids is not None
    difference = torch.from_numpy((fit.centroids[1] - fit.centroids[0]).astype(np.float64))
    found = [(rows.unit(chunk, torch.float64, cpu) @ difference).numpy() for chunk in rows.chunks(positions)]
    return np.concatenate(found)
