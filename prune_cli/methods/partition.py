"""Parts of the samples of a given size: drawn at random, or near each other, with a halo of those just across the cuts.

This module imports faiss inside functions only.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import FloatArray, IntArray
from prune_cli.core.progress import Progress
from prune_cli.core.rng import generator, stream_seed

_TRAINING_ROWS = 4096  # rows that two centres are fitted to
_ITERATIONS = 10


class Vectors(Protocol):
    """A vector of every sample, as a tree of two-means asks for it."""

    def some(self, positions: IntArray) -> NDArray[np.float32]:
        """Return the (B, D) vectors of a few samples."""

    def along(self, positions: IntArray, direction_d: FloatArray) -> FloatArray:
        """Return (B,) products of the vectors with a direction, in float64."""


class Region(NamedTuple):
    """A part of the samples: those that are its own, and those of others that are near it, each in canonical order."""

    core: IntArray
    halo: IntArray

    @property
    def members(self) -> IntArray:
        """Core and halo together, in the order of the numbers."""
        return np.sort(np.concatenate([self.core, self.halo]))


def random_parts(order_n: IntArray, count: int, seed: int, repeat: int) -> list[IntArray]:
    """Return the samples in ``count`` random sets whose sizes differ by one at most, each in canonical order."""
    shuffled = generator(seed, "partition", repeat).permutation(len(order_n))
    return [order_n[np.sort(part)] for part in np.array_split(shuffled, count)]


def two_means_parts(
    vectors: Vectors, order_n: IntArray, count: int, seed: int, repeat: int, progress: Progress, overlap: float = 0.0
) -> list[Region]:
    """Return the samples in ``count`` sets of near ones, whose sizes differ by little, each with its halo.

    A tree of two-means: the samples of a node are sorted by how much nearer they are to one of two centres than to the other, and
    halved there, so that no set outgrows the others. Of the samples on the other side those nearest to the cut, ``overlap`` times as
    many as the side has, are its halo; it is cut further as the side is.

    Args:
        order_n: (N,) the samples in canonical order: the sets are a function of it, the vectors and the seed.
        count: at most N / 2.
        seed, repeat: draw the rows that centres are fitted to.
        overlap: 0 for no halo; the sets do not depend on it.
    Cost:
        2 N D flops for each of the log2(count) levels, and a fit of 4,096 rows for each node. A halo has about
        ``overlap log2(count)`` times as many samples as its set.
    """
    parts: list[Region] = []
    pending = [(np.arange(len(order_n)), np.zeros(0, np.int64), count)]
    while pending:
        core, halo, n_parts = pending.pop()
        if n_parts == 1:
            parts.append(Region(order_n[np.sort(core)], order_n[np.sort(halo)]))
            progress("partition", len(parts), count, None)
            continue
        direction = _between(vectors, order_n[core], stream_seed(seed, "two means", repeat, len(parts), n_parts))
        first = n_parts // 2
        cut = round(len(core) * first / n_parts)
        nearer = vectors.along(order_n[core], direction)
        order = np.argsort(nearer, kind="stable")
        nearer, ordered = nearer[order], core[order]
        of_halo = vectors.along(order_n[halo], direction) if len(halo) else np.zeros(0)
        # How many of the other side are near: after the cut for the first parts, before it for the others.
        after = min(round(overlap * cut), len(core) - cut)
        before = min(round(overlap * (len(core) - cut)), cut)
        reach, back = nearer[max(cut + after, 1) - 1], nearer[min(cut - before, len(core) - 1)]
        left = np.concatenate([ordered[cut : cut + after], halo[of_halo <= reach]])
        right = np.concatenate([ordered[cut - before : cut], halo[of_halo >= back]])
        pending += [(np.sort(ordered[cut:]), right, n_parts - first), (np.sort(ordered[:cut]), left, first)]
    return parts


def _between(vectors: Vectors, positions: IntArray, seed: int) -> FloatArray:
    """Return (D,) float64, from the first of two centres to the second: along it lie the samples nearer to the second."""
    import faiss

    draw = np.random.Generator(np.random.PCG64(seed))
    chosen = positions[np.sort(draw.choice(len(positions), min(len(positions), _TRAINING_ROWS), replace=False))]
    sample = vectors.some(chosen)
    fit = faiss.Kmeans(sample.shape[1], 2, niter=_ITERATIONS, seed=seed % 2**31, min_points_per_centroid=1)
    fit.train(sample)
    first, second = np.asarray(fit.centroids, np.float32)
    return np.asarray(second - first, np.float64)
