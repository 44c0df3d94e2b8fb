"""Selections that cover the feature space: k-center, graph cut, herding. No score is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_cli.core.params import param
from prune_cli.core.progress import Progress, silent
from prune_cli.methods.devices import numba_threads
from prune_cli.methods.selection.contract import Candidates, Choice, Ranking, nested
from prune_cli.methods.selection.greedy import lazy as lazy_greedy
from prune_cli.methods.selection.neighbors.nearest import Metric, unit_rows

_CHUNK = 65_536


@dataclass(frozen=True)
class KCenterParams:
    """Parameters of ``kcenter``."""

    metric: Literal["cosine", "euclidean"] = param(
        "euclidean", "distance between two samples (cosine: between the rows at length 1)"
    )


@dataclass(frozen=True)
class GraphCutParams:
    """Parameters of ``graph_cut``."""

    representation: float = param(2.0, "weight of the similarity to all against that to the chosen", low=0.0)


@dataclass(frozen=True)
class HerdingParams:
    """Parameters of ``herding``."""

    metric: Literal["cosine", "euclidean"] = param("euclidean", "features as they are, or (cosine) at length 1")


def rows_by_id(candidates: Candidates, method: str, metric: Metric) -> np.ndarray:
    """Return (N, D) float32 rows by ascending id, so that equal values go by id."""
    values_nd = candidates.vectors(method).array()
    in_order = np.arange(len(candidates))
    if not np.array_equal(candidates.order_n, in_order):
        values_nd = values_nd[candidates.order_n]
    return unit_rows(values_nd) if metric == "cosine" else np.ascontiguousarray(values_nd, np.float32)


def _start(candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) bool of those kept already and the free positions, both by ascending id."""
    kept = candidates.kept[candidates.order_n]
    return kept, np.flatnonzero(~kept)


def _picked(candidates: Candidates, picked_k: np.ndarray, gains_k: np.ndarray, counts: Sequence[int]) -> Choice:
    return nested(Ranking(candidates.order_n[picked_k], gain_n=gains_k), counts)


def _mean(rows_nd: np.ndarray) -> np.ndarray:
    """Return (D,) float64 mean of the rows."""
    total = np.zeros(rows_nd.shape[1])
    for start in range(0, len(rows_nd), _CHUNK):
        total += rows_nd[start : start + _CHUNK].sum(axis=0, dtype=np.float64)
    return total / max(1, len(rows_nd))


def k_center_order(
    candidates: Candidates,
    params: KCenterParams = KCenterParams(),
    *,
    counts: Sequence[int],
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> Choice:
    """Return the samples farthest first: each pick is the sample farthest from all picked before.

    The greedy answer to the k-center problem (the least radius so that k balls cover all samples), within a factor of 2.
    The first pick is the sample nearest to the mean, unless samples are kept already.

    Args:
        candidates: the samples; of them ``features`` and ``kept``.
        params: see `KCenterParams`.
        counts: the largest is how many are ranked.
        seed, device: not used; equal distances go by id.
        progress: not used.
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
        >>> k_center_order(Candidates(np.arange(4), features=line), counts=[4]).rankings[0].order_n.tolist()
        [2, 0, 3, 1]
    """
    rows_nd = rows_by_id(candidates, "kcenter", params.metric)
    kept, free = _start(candidates)
    count = max(counts)
    picked_k, gains_k = np.zeros(count, np.int64), np.zeros(count)
    given = np.flatnonzero(kept)
    first = 0
    if not len(given) and count:
        first = 1
        mean_d = _mean(rows_nd)
        nearest = np.concatenate(
            [((rows_nd[s : s + _CHUNK] - mean_d) ** 2).sum(axis=1) for s in range(0, len(rows_nd), _CHUNK)]
        )
        picked_k[0] = int(nearest.argmin())
        given = picked_k[:1].copy()
        free = free[free != picked_k[0]]
    centers_md = np.empty((len(given) + count, rows_nd.shape[1]), np.float32)
    centers_md[: len(given)] = rows_nd[given]
    lazy_greedy.compile_k_center()(
        rows_nd, free, centers_md, len(given), np.zeros(len(rows_nd), np.int64),
        np.full(len(rows_nd), np.inf, np.float32), picked_k[first:], gains_k[first:],
    )  # fmt: skip
    return _picked(candidates, picked_k, gains_k, counts)


def graph_cut_order(
    candidates: Candidates,
    params: GraphCutParams = GraphCutParams(),
    *,
    counts: Sequence[int],
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> Choice:
    r"""Return the samples by gain in ``representation sum_{i, j in S} s_ij - sum_{i in S, j in S} s_ij``: like all, unlike each other.

    ``s_ij = (1 + cos) / 2`` over ALL pairs: the sums over samples are inner products with a sum of rows, so a gain costs D
    and no graph is needed. With ``representation`` of 2 or more the objective is monotone.

    Args:
        candidates: the samples; of them ``features`` and ``kept``.
        params: see `GraphCutParams`.
        counts: the largest is how many are ranked.
        seed, device, progress: not used; equal gains go by id.
    Returns:
        Choice of one ranking with gains that never rise.
    Raises:
        InputError: no features at hand.
    Cost:
        N D, and D for every gain that is brought up to date. Features twice in memory.
    Source:
        Iyer, Khargoankar, Bilmes, Asnani, ALT 2021, arXiv:2006.15412; as in DeepCore (Guo, Zhao, Bai 2022). The closed form of
        the sums is ours.
    Example:
        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> rays = ArrayFeatures(np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [0.0, 1.0]], np.float32))
        >>> graph_cut_order(Candidates(np.arange(4), features=rays), counts=[2]).rankings[0].order_n.tolist()
        [1, 0]
    """
    rows_nd = rows_by_id(candidates, "graph_cut", "cosine")
    kept, free = _start(candidates)
    n_samples, width = rows_nd.shape
    all_d, kept_d = n_samples * _mean(rows_nd), kept.sum() * _mean(rows_nd[kept])
    gains_n = np.empty(n_samples)
    for start in range(0, n_samples, _CHUNK):
        part = rows_nd[start : start + _CHUNK].astype(np.float64)
        like_all = (n_samples + part @ all_d) / 2
        like_kept = (kept.sum() + part @ kept_d) / 2
        own = (1 + (part**2).sum(axis=1)) / 2
        gains_n[start : start + _CHUNK] = params.representation * like_all - 2 * like_kept - own
    least = 0.5 if not (rows_nd < 0).any() else 0.0  # no two samples are less alike than this
    picked_k, gains_k = np.zeros(max(counts), np.int64), np.zeros(max(counts))
    lazy_greedy.compile_graph_cut()(rows_nd, free, gains_n, least, np.zeros(width), 2.0, picked_k, gains_k)
    return _picked(candidates, picked_k, gains_k, counts)


def herding_order(
    candidates: Candidates,
    params: HerdingParams = HerdingParams(),
    *,
    counts: Sequence[int],
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> Choice:
    r"""Return the samples so that the mean of the chosen stays near the mean of all.

    ``w = mean``; each pick is the sample with the largest ``w . x``, and then ``w += mean - x``.

    Args:
        candidates: the samples; of them ``features`` and ``kept`` (these count as picked).
        params: see `HerdingParams`.
        counts: the largest is how many are ranked.
        seed, device, progress: not used; equal products go by id.
    Returns:
        Choice of one ranking; its gain is ``w . x``.
    Raises:
        InputError: no features at hand.
    Cost:
        2 N D for each pick, on all cores. ``--per-class`` makes it C times less.
    Source:
        Welling, ICML 2009 (herding dynamical weights), without replacement.
    Example:
        The mean is 3, then 3 is short of it by 0, and so on.

        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> line = ArrayFeatures(np.array([[1.0], [2.0], [3.0], [6.0]], np.float32))
        >>> herding_order(Candidates(np.arange(4), features=line), counts=[3]).rankings[0].order_n.tolist()
        [3, 0, 2]
    """
    rows_nd = rows_by_id(candidates, "herding", params.metric)
    kept, _ = _start(candidates)
    mean_d = _mean(rows_nd)
    weight_d = mean_d * (1 + kept.sum()) - kept.sum() * _mean(rows_nd[kept])
    picked_k, gains_k = np.zeros(max(counts), np.int64), np.zeros(max(counts))
    with numba_threads():
        lazy_greedy.compile_herding()(rows_nd, mean_d, weight_d, kept.copy(), picked_k, gains_k)
    return _picked(candidates, picked_k, gains_k, counts)
