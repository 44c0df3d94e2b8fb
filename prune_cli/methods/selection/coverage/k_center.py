"""K-center: the samples farthest first. No score is needed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_cli.core.arrays import conditioned
from prune_cli.core.params import param
from prune_cli.methods.selection.contract import Candidates, Choice, Run
from prune_cli.methods.selection.coverage.covers import CHUNK, FAST_SUMS, choice_of, kept_and_free, mean_row, rows_by_id
from prune_cli.methods.selection.greedy import compile_heap


@dataclass(frozen=True)
class KCenterParams:
    """Parameters of ``kcenter``."""

    metric: Literal["cosine", "euclidean"] = param("euclidean", "distance between two samples (cosine: between the rows at length 1)")

    def by_angle(self) -> bool:
        """Return whether vectors are divided by their lengths."""
        return self.metric == "cosine"


def k_center_order(candidates: Candidates, params: KCenterParams = KCenterParams(), run: Run = Run()) -> Choice:
    """Return the samples farthest first: each pick is the sample farthest from all picked before.

    The greedy answer to the k-center problem (the least radius so that k balls cover all samples), within a factor of 2.
    The first pick is the sample nearest to the mean, unless samples are kept already.

    Args:
        candidates: the samples; of them ``features`` and ``kept``.
        run: of it ``counts``, the largest of which is how many are ranked; equal distances go by id.
    Returns:
        Choice of one ranking; its gain is the distance to those picked before (0 for the first).
    Raises:
        InputError: no features at hand.
    Cost:
        At most N k D, in practice a small part: a sample's distance is brought up to date only when it may be the
        farthest. Features twice in memory.
    Source:
        Gonzalez 1985; Sener, Savarese, ICLR 2018, arXiv:1708.00489. Deviation: the first pick is not random.
    Example:
        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> line = ArrayFeatures(np.array([[0.0], [1.0], [5.0], [9.0]], np.float32))
        >>> k_center_order(Candidates(np.arange(4), features=line), run=Run([4])).rankings[0].order_n.tolist()
        [2, 0, 3, 1]
    """
    rows_nd, factor = rows_by_id(candidates, "kcenter", params.metric), 1.0
    if params.metric == "euclidean":
        rows_nd, factor = conditioned(rows_nd)
    kept, free = kept_and_free(candidates)
    count = max(run.counts)
    picked_k, gains_k = np.zeros(count, np.int64), np.zeros(count)
    given = np.flatnonzero(kept)
    first = 0
    if not len(given) and count:
        first = 1
        mean_d = mean_row(rows_nd)
        nearest = np.concatenate([((rows_nd[s : s + CHUNK] - mean_d) ** 2).sum(axis=1) for s in range(0, len(rows_nd), CHUNK)])
        picked_k[0] = int(nearest.argmin())
        given = picked_k[:1].copy()
        free = free[free != picked_k[0]]
    centers_md = np.empty((len(given) + count, rows_nd.shape[1]), np.float32)
    centers_md[: len(given)] = rows_nd[given]
    _compile_k_center()(
        rows_nd, free, centers_md, len(given), np.zeros(len(rows_nd), np.int64),
        np.full(len(rows_nd), np.inf, np.float32), picked_k[first:], gains_k[first:],
    )  # fmt: skip
    return choice_of(candidates, picked_k, gains_k / factor, run)


@functools.cache
def _compile_k_center() -> Callable[..., None]:
    """Return ``k_center(rows_nd, heap, centers_md, n_given, known_n, bounds_n, picked_k, gains_k)``.

    ``centers_md`` has room for all centers, the first ``n_given`` of which are there already; ``bounds_n`` float32 is the squared
    distance of each sample to the ``known_n`` first centers.
    """
    import numba

    sift, build = compile_heap()

    @numba.njit(nogil=True, fastmath=FAST_SUMS)  # type: ignore[untyped-decorator, unused-ignore]
    def squared_distance(a_d, b_d):  # type: ignore[no-untyped-def]
        total = np.float32(0.0)
        for d in range(len(a_d)):
            away = a_d[d] - b_d[d]
            total += away * away
        return total

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def k_center(rows_nd, heap, centers_md, n_given, known_n, bounds_n, picked_k, gains_k):  # type: ignore[no-untyped-def]
        build(heap, bounds_n)
        size, n_centers, done = len(heap), n_given, 0
        while done < len(picked_k):
            top = heap[0]
            if known_n[top] == n_centers:
                picked_k[done], gains_k[done] = top, np.sqrt(bounds_n[top])
                centers_md[n_centers] = rows_nd[top]
                n_centers += 1
                done += 1
                size -= 1
                heap[0] = heap[size]
            else:
                rival = np.float32(-1.0)  # what the top must stay above to remain there
                if size > 1:
                    rival = bounds_n[heap[1]]
                if size > 2:
                    rival = max(rival, bounds_n[heap[2]])
                bound, at = bounds_n[top], known_n[top]
                while at < n_centers and bound >= rival:
                    bound = min(bound, squared_distance(rows_nd[top], centers_md[at]))
                    at += 1
                bounds_n[top], known_n[top] = bound, at
            sift(heap, size, bounds_n, 0)

    return k_center
