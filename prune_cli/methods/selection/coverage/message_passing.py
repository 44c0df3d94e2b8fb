"""D2 pruning: difficulty that is shared with neighbors first, and taken from the neighbors of what is picked."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_cli.core.params import param
from prune_cli.engines.engine import BlockWork
from prune_cli.methods.selection.capabilities import ProblemSize
from prune_cli.methods.selection.contract import Candidates, Choice, Ranking, Run, nested
from prune_cli.methods.selection.greedy import compile_heap
from prune_cli.methods.selection.neighbors.nearest import answer_bytes, nearest_neighbors, search_bytes, search_work


@dataclass(frozen=True)
class D2Params:
    """Parameters of ``d2``."""

    neighbors: int = param(5, "nearest samples that messages go between", low=1)
    gamma: float = param(0.1, "how fast what a picked sample takes from a neighbor falls with the distance", low=0.0)
    forward_gamma: float = param(1.0, "how fast what a neighbor adds at first falls with the distance", low=0.0)
    metric: Literal["cosine", "euclidean"] = param("euclidean", "distance of the features (cosine: between the rows at length 1)")

    def extra_bytes(self, problem: ProblemSize) -> int:
        """Return the bytes of the graph of neighbors, and of the search for them."""
        return answer_bytes(problem.rows, self.neighbors) + search_bytes(problem.rows, problem.width)

    def block_work(self, problem: ProblemSize) -> BlockWork | None:
        """Return what the blocks of an exact search come to."""
        return search_work(problem.rows, problem.width)


def d2_order(candidates: Candidates, params: D2Params = D2Params(), run: Run = Run()) -> Choice:
    r"""Return the samples by difficulty and density, each pick making its neighbors less wanted.

    With difficulties x in [0, 1] and the distance d to each of the nearest neighbors N(i):
    ``v_i = x_i + sum_{j in N(i)} exp(-forward_gamma d_ij) x_j``; then, again and again, the sample with the largest v is
    picked, and ``v_j -= exp(-gamma d_ij) v_i`` for its neighbors j.

    Args:
        candidates: the samples; of them ``difficulty_n``, ``features`` and ``kept`` (these count as picked, all at once).
        run: what `nearest_neighbors` takes of it; the order holds for all counts.
    Returns:
        Choice of one ranking of all samples that are free; its gain is v when picked.
    Raises:
        InputError: no score or features at hand.
    Cost:
        The neighbors: 2 N^2 D flops up to 131,072 samples, about N^1.5 D beyond; then N (neighbors + log N).
    Source:
        Maharana, Yadav, Bansal, ICLR 2024, arXiv:2310.07931; distances, not squared, as in the authors' code. Deviations: the
        difficulty is scaled to 0 to 1 by its least and greatest value; a sample whose v is negative takes nothing.
    Example:
        The hardest takes from its neighbor, so that the far one comes second.

        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> line = ArrayFeatures(np.array([[0.0], [0.1], [50.0], [51.0]], np.float32))
        >>> samples = Candidates(np.arange(4), np.array([1.0, 0.9, 0.5, 0.0]), features=line)
        >>> d2_order(samples, D2Params(neighbors=1), Run([2])).rankings[0].order_n.tolist()
        [0, 2, 1, 3]
    """
    difficulty, by_id = candidates.difficulty("d2"), candidates.order_n
    rows_nd = candidates.vectors("d2").array()[by_id]
    kept = candidates.kept[by_id]
    values_n = difficulty[by_id]
    spread = np.ptp(values_n)
    values_n = (values_n - values_n.min()) / (spread if spread > 0 else 1.0)
    near_nk, distances_nk = nearest_neighbors(rows_nd, params.neighbors, run, metric=params.metric)
    away = distances_nk.astype(np.float64)
    values_n = values_n + (np.exp(-params.forward_gamma * away) * values_n[near_nk]).sum(axis=1)
    weights_nk = np.exp(-params.gamma * away)
    taken_nk = weights_nk[kept] * np.maximum(0.0, values_n[kept])[:, None]
    np.subtract.at(values_n, near_nk[kept], taken_nk)
    free = np.flatnonzero(~kept)
    picked_k, gains_k = np.zeros(len(free), np.int64), np.zeros(len(free))
    _compile_message_passing()(near_nk, weights_nk, values_n, free.copy(), picked_k, gains_k)
    return nested(Ranking(by_id[picked_k], gain_n=gains_k), run.counts)


@functools.cache
def _compile_message_passing() -> Callable[..., None]:
    """Return ``message_passing(near_nk, weights_nk, values_n, heap, picked_k, gains_k)``; ``values_n`` only falls."""
    import numba

    sift, build = compile_heap()

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def message_passing(near_nk, weights_nk, values_n, heap, picked_k, gains_k):  # type: ignore[no-untyped-def]
        keys_n = values_n.copy()
        build(heap, keys_n)
        size, done = len(heap), 0
        while done < len(picked_k):
            top = heap[0]
            if keys_n[top] == values_n[top]:
                value = values_n[top]
                picked_k[done], gains_k[done] = top, value
                if value > 0.0:
                    for k in range(near_nk.shape[1]):
                        values_n[near_nk[top, k]] -= weights_nk[top, k] * value
                done += 1
                size -= 1
                heap[0] = heap[size]
            else:
                keys_n[top] = values_n[top]
            sift(heap, size, keys_n, 0)

    return message_passing
