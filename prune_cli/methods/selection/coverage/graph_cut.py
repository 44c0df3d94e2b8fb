"""Graph cut: the samples like all and unlike each other. No score is needed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prune_cli.core.params import param
from prune_cli.methods.selection.contract import Candidates, Choice, Run
from prune_cli.methods.selection.coverage.covers import CHUNK, FAST_SUMS, choice_of, kept_and_free, mean_row, rows_by_id
from prune_cli.methods.selection.greedy import compile_heap


@dataclass(frozen=True)
class GraphCutParams:
    """Parameters of ``graph_cut``."""

    representation: float = param(2.0, "weight of the similarity to all against that to the chosen", low=0.0)

    def by_angle(self) -> bool:
        """Return whether vectors are divided by their lengths."""
        return True


def graph_cut_order(candidates: Candidates, params: GraphCutParams = GraphCutParams(), run: Run = Run()) -> Choice:
    r"""Return the samples by gain in ``representation sum_{i, j in S} s_ij - sum_{i in S, j in S} s_ij``: like all, unlike each other.

    ``s_ij = (1 + cos) / 2`` over ALL pairs: the sums over samples are inner products with a sum of rows, so a gain costs D
    and no graph is needed. With ``representation`` of 2 or more the objective is monotone.

    Args:
        candidates: the samples; of them ``features`` and ``kept``.
        run: of it ``counts``, the largest of which is how many are ranked; equal gains go by id.
    Returns:
        Choice of one ranking with gains that never rise.
    Raises:
        InputError: no features at hand.
    Cost:
        N D, and D for every gain that is brought up to date. Features twice in memory.
    Source:
        Iyer, Khargoankar, Bilmes, Asnani, ALT 2021, arXiv:2006.15412. DeepCore (Guo, Zhao, Bai 2022) has the same objective over
        gradients, here it is over features. The closed form of the sums is ours.
    Example:
        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> rays = ArrayFeatures(np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [0.0, 1.0]], np.float32))
        >>> graph_cut_order(Candidates(np.arange(4), features=rays), run=Run([2])).rankings[0].order_n.tolist()
        [1, 0]
    """
    rows_nd = rows_by_id(candidates, "graph_cut", "cosine")
    kept, free = kept_and_free(candidates)
    n_samples, width = rows_nd.shape
    all_d, kept_d = n_samples * mean_row(rows_nd), kept.sum() * mean_row(rows_nd[kept])
    gains_n = np.empty(n_samples)
    for start in range(0, n_samples, CHUNK):
        part = rows_nd[start : start + CHUNK].astype(np.float64)
        like_all = (n_samples + part @ all_d) / 2
        like_kept = (kept.sum() + part @ kept_d) / 2
        own = (1 + (part**2).sum(axis=1)) / 2
        gains_n[start : start + CHUNK] = params.representation * like_all - 2 * like_kept - own
    least = 0.5 if not (rows_nd < 0).any() else 0.0  # no two samples are less alike than this
    picked_k, gains_k = np.zeros(max(run.counts), np.int64), np.zeros(max(run.counts))
    _compile_graph_cut()(rows_nd, free, gains_n, least, np.zeros(width), 2.0, picked_k, gains_k)
    return choice_of(candidates, picked_k, gains_k, run)


@functools.cache
def _compile_graph_cut() -> Callable[..., None]:
    """Return ``graph_cut(rows_nd, heap, gains_n, least, sum_d, penalty, picked_k, gains_k)``.

    ``gains_n`` is what each sample adds before the first pick; every pick takes ``penalty * ((1 + cos) / 2)`` of it, of which
    ``penalty * least`` is taken from all alike and left out of the heap's keys. ``sum_d`` is the sum of the rows picked.
    """
    import numba

    sift, build = compile_heap()

    @numba.njit(nogil=True, fastmath=FAST_SUMS)  # type: ignore[untyped-decorator, unused-ignore]
    def dot(a_d, b_d):  # type: ignore[no-untyped-def]
        total = 0.0
        for d in range(len(a_d)):
            total += a_d[d] * b_d[d]
        return total

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def graph_cut(rows_nd, heap, gains_n, least, sum_d, penalty, picked_k, gains_k):  # type: ignore[no-untyped-def]
        first_n = gains_n.copy()
        known_n = np.zeros(len(gains_n), np.int64)
        build(heap, gains_n)
        size, done = len(heap), 0
        while done < len(picked_k):
            top = heap[0]
            if known_n[top] == done:
                picked_k[done], gains_k[done] = top, gains_n[top] - penalty * least * done
                for d in range(len(sum_d)):
                    sum_d[d] += rows_nd[top, d]
                done += 1
                size -= 1
                heap[0] = heap[size]
            else:
                near = 0.5 * (done + dot(rows_nd[top], sum_d))
                gains_n[top] = first_n[top] - penalty * (near - least * done)
                known_n[top] = done
            sift(heap, size, gains_n, 0)

    return graph_cut
