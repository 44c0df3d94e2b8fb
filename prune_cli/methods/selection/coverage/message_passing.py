"""D2 pruning: difficulty that is shared with neighbors first, and taken from the neighbors of what is picked."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from prune_cli.core.params import param
from prune_cli.engines.engine import BlockWork
from prune_cli.methods.selection.capabilities import ProblemSize
from prune_cli.methods.selection.contract import Candidates, Choice, Ranking, Run, nested
from prune_cli.methods.selection.greedy import compile_heap
from prune_cli.methods.selection.neighbors.nearest import answer_bytes, nearest_neighbors, refuse_one_direction, search_bytes, search_work
from prune_cli.methods.selection.stratified import divide_evenly, robust_range, stratum_of

_EDGE_BYTES = 56  # of an edge and direction: ends, distance, weight, and what sorts them


@dataclass(frozen=True)
class D2Params:
    """Parameters of ``d2``."""

    neighbors: int = param(5, "nearest samples that messages go between, from either side", low=1)
    gamma: float = param(0.1, "how fast what a picked sample takes from a neighbor falls with the distance", low=0.0)
    forward_gamma: float = param(1.0, "how fast what a neighbor adds at first falls with the distance", low=0.0)
    metric: Literal["cosine", "euclidean"] = param("euclidean", "distance of the features (cosine: between the rows at length 1)")
    unit: Literal["neighbors", "none"] = param(
        "neighbors", "what distances are counted in: their mean over all neighbors, or (as published) as they are"
    )
    mis_rate: float = param(
        0.0, "share of the hardest that is dropped first, by the column aum where there is one, else by the score",
        low=0.0, high=1.0,
    )  # fmt: skip
    strata: int = param(1, "ranges of equal width that the score is cut in, each with picks of its own", low=1)

    def by_angle(self) -> bool:
        """Return whether vectors are divided by their lengths."""
        return self.metric == "cosine"

    def nests(self) -> bool:
        """Return whether a budget holds every smaller one: strata divide each budget anew."""
        return self.strata == 1

    def extra_bytes(self, problem: ProblemSize) -> int:
        """Return the bytes of the graph of neighbors, and of the search for them."""
        edges = 2 * _EDGE_BYTES * problem.rows * self.neighbors
        return answer_bytes(problem.rows, self.neighbors) + edges + search_bytes(problem.rows, problem.width)

    def block_work(self, problem: ProblemSize) -> BlockWork | None:
        """Return what the blocks of an exact search come to."""
        return search_work(problem.rows, problem.width)


def d2_order(candidates: Candidates, params: D2Params = D2Params(), run: Run = Run()) -> Choice:
    r"""Return the samples by difficulty and density, each pick making its neighbors less wanted.

    Two samples are neighbors if either is among the ``neighbors`` nearest of the other. With difficulties x in [0, 1] and the distance
    d, in units of its mean over all neighbors: ``v_i = x_i + sum_{j near i} exp(-forward_gamma d_ij) x_j``; then, again and again,
    the sample with the largest v is picked, and ``v_j -= exp(-gamma d_ij) v_i`` for its neighbors j.

    With ``mis_rate`` that share of the hardest has no part in this, and comes last of all. With ``strata`` the difficulty is cut in
    ranges of equal width, each is a graph of its own, and a budget is divided among them as ``stratified`` divides it.

    Args:
        candidates: the samples; of them ``difficulty_n``, ``features``, ``kept`` (these count as picked, all at once) and, with
            ``mis_rate``, the column ``aum``.
        params: see `D2Params`.
        run: what `nearest_neighbors` takes of it; the order holds for all counts, unless there are strata.
    Returns:
        Choice of one ranking of all samples that are free; its gain is v when picked. With ``strata`` one for each count, of as many.
    Raises:
        InputError: no score or features at hand.
    Cost:
        The neighbors: 2 N^2 D flops up to 131,072 samples, about N^1.5 D beyond; then N (neighbors + log N).
    Source:
        Maharana, Yadav, Bansal, ICLR 2024, arXiv:2310.07931; the graph is symmetric, and distances are not squared, as in the
        authors' code. Their examples drop the hardest by AUM (``mis_rate``) and choose inside each class, which is the default here
        where there are labels. Deviations: distances are in units of their mean (``unit=none``: as they are, so that the answer hangs
        on the length of the vectors); the difficulty is scaled to 0 to 1 over the range that `robust_range` gives; a sample whose v is
        negative takes nothing; ``mis_rate`` drops inside each class, not among all.
    Example:
        The hardest takes from its neighbor, so that the far one comes second.

        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> line = ArrayFeatures(np.array([[0.0], [0.1], [50.0], [51.0]], np.float32))
        >>> samples = Candidates(np.arange(4), np.array([1.0, 0.9, 0.5, 0.0]), features=line)
        >>> d2_order(samples, D2Params(neighbors=1), Run([2])).rankings[0].order_n.tolist()
        [0, 2, 1, 3]
    """
    if params.metric == "cosine":
        refuse_one_direction(candidates.vectors("d2"), "d2", ", or pass -p metric=euclidean")
    difficulty, features = candidates.difficulty("d2"), candidates.vectors("d2").array()
    free, dropped = _without_the_hardest(candidates, params.mis_rate)
    left = np.concatenate([candidates.order_n[candidates.kept[candidates.order_n]], free])
    low, high = robust_range(difficulty[left])
    if params.strata == 1:
        order, gains = _picks(candidates, np.sort(left), features, (low, high), params, run)
        gains = np.concatenate([gains, np.zeros(len(dropped))])
        ranking = Ranking(np.concatenate([order, dropped]), len(dropped), gains, skipped_reason="among the hardest, which mis_rate drops")
        return nested(ranking, run.counts)
    stratum = stratum_of(difficulty[left], low, high, params.strata)
    parts = []
    for which in range(params.strata - 1, -1, -1):
        here = np.sort(left[stratum == which])
        named = run.named(f"stratum {which}: ")
        parts.append(_picks(candidates, here, features, (low, high), params, named)[0] if len(here) else here)
    sizes = np.array([len(part) for part in parts])
    rankings = []
    for count in run.counts:
        quotas = divide_evenly(sizes, min(count, int(sizes.sum())))
        chosen = [part[:quota] for part, quota in zip(parts, quotas, strict=True)]
        rankings.append(Ranking(np.concatenate([*chosen, dropped])[:count], reason="not picked in its stratum"))
    return Choice(tuple(rankings))


def _without_the_hardest(candidates: Candidates, mis_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the free samples without the hardest share of all, and these, easiest first."""
    aum_n = candidates.columns.get("aum")
    hardness = candidates.difficulty("d2") if aum_n is None else -aum_n
    free = candidates.free()
    easiest_first = free[np.argsort(hardness[free], kind="stable")]
    n_left = len(free) - int(np.floor(mis_rate * len(free) + 0.5))
    return easiest_first[:n_left], easiest_first[n_left:]


def _picks(
    candidates: Candidates, here: np.ndarray, features: np.ndarray, bounds: tuple[float, float], params: D2Params, run: Run
) -> tuple[np.ndarray, np.ndarray]:
    """Return the free ones of some samples in the order in which they are picked, and v then; neighbors are among these alone."""
    by_id = candidates.order_n[np.isin(candidates.order_n, here)] if len(here) < len(candidates) else candidates.order_n
    kept = candidates.kept[by_id]
    low, high = bounds
    values_n = np.clip((candidates.difficulty("d2")[by_id] - low) / (high - low if high > low else 1.0), 0.0, 1.0)
    near_nk, distances_nk = nearest_neighbors(features[by_id], params.neighbors, run, metric=params.metric)
    graph = _symmetric(near_nk, distances_nk)
    if params.unit == "neighbors" and (mean := float(graph.distances_e.mean()) if len(graph.distances_e) else 0.0):
        graph.distances_e[:] /= mean
    values_n = values_n + np.add.reduceat(
        np.r_[np.exp(-params.forward_gamma * graph.distances_e) * values_n[graph.samples_e], 0.0], graph.begin_n[:-1]
    ) * (np.diff(graph.begin_n) > 0)
    weights_e = np.exp(-params.gamma * graph.distances_e)
    from_e = np.repeat(np.arange(len(by_id)), np.diff(graph.begin_n))
    takes = kept[from_e]
    np.subtract.at(values_n, graph.samples_e[takes], weights_e[takes] * np.maximum(0.0, values_n[from_e[takes]]))
    free = np.flatnonzero(~kept)
    picked_k, gains_k = np.zeros(len(free), np.int64), np.zeros(len(free))
    _compile_message_passing()(graph.begin_n, graph.samples_e, weights_e, values_n, free.copy(), picked_k, gains_k)
    return by_id[picked_k], gains_k


class _Graph(NamedTuple):
    """Edges by the sample they start from: (N + 1,) where those of each begin, (E,) where they end, and (E,) float64 how long."""

    begin_n: np.ndarray
    samples_e: np.ndarray
    distances_e: np.ndarray


def _symmetric(near_nk: np.ndarray, distances_nk: np.ndarray) -> _Graph:
    """Return the graph in which an edge stands in both directions if either side has it.

    >>> graph = _symmetric(np.array([[1], [0], [1]]), np.array([[1.0], [1.0], [2.5]]))
    >>> graph.begin_n.tolist(), graph.samples_e.tolist(), graph.distances_e.tolist()
    ([0, 1, 3, 4], [1, 0, 2, 1], [1.0, 1.0, 2.5, 2.5])
    """
    n, k = near_nk.shape
    start, end = np.repeat(np.arange(n), k), near_nk.ravel().astype(np.int64)
    low, high = np.minimum(start, end), np.maximum(start, end)
    keys, first = np.unique(low * n + high, return_index=True)
    low, high, distances = keys // n, keys % n, distances_nk.ravel().astype(np.float64)[first]
    start, end = np.concatenate([low, high]), np.concatenate([high, low])
    by_start = np.lexsort((end, start))
    begin_n = np.concatenate([[0], np.cumsum(np.bincount(start, minlength=n))])
    return _Graph(begin_n, end[by_start], np.tile(distances, 2)[by_start])


@functools.cache
def _compile_message_passing() -> Callable[..., None]:
    """Return ``message_passing(begin_n, samples_e, weights_e, values_n, heap, picked_k, gains_k)``; ``values_n`` only falls."""
    import numba

    sift, build = compile_heap()

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def message_passing(begin_n, samples_e, weights_e, values_n, heap, picked_k, gains_k):  # type: ignore[no-untyped-def]
        keys_n = values_n.copy()
        build(heap, keys_n)
        size, done = len(heap), 0
        while done < len(picked_k):
            top = heap[0]
            if keys_n[top] == values_n[top]:
                value = values_n[top]
                picked_k[done], gains_k[done] = top, value
                if value > 0.0:
                    for e in range(begin_n[top], begin_n[top + 1]):
                        values_n[samples_e[e]] -= weights_e[e] * value
                done += 1
                size -= 1
                heap[0] = heap[size]
            else:
                keys_n[top] = values_n[top]
            sift(heap, size, keys_n, 0)

    return message_passing
