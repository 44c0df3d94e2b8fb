"""Selections that cover the feature space: k-center, facility location, graph cut, herding. No score is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_cli.core.params import param
from prune_cli.core.progress import Progress, silent
from prune_cli.methods.devices import numba_threads
from prune_cli.methods.selection import lazy_greedy
from prune_cli.methods.selection.candidates import Candidates, Choice, Ranking, nested
from prune_cli.methods.selection.neighbors import Metric, nearest_neighbors, search_bytes, unit_rows

_CHUNK = 65_536


@dataclass(frozen=True)
class KCenterParams:
    """Parameters of ``kcenter``."""

    metric: Literal["cosine", "euclidean"] = param(
        "euclidean", "distance between two samples (cosine: between the rows at length 1)"
    )


@dataclass(frozen=True)
class FacilityLocationParams:
    """Parameters of ``facility_location``."""

    neighbors: int = param(64, "nearest samples that can stand for a sample, N - 1 at most", low=1)

    def extra_bytes(self, rows: int, width: int, budgets: int) -> int:
        """Return the bytes of the graph of neighbors, and of the search for them."""
        return 24 * rows * self.neighbors + search_bytes(rows, width)


@dataclass(frozen=True)
class GraphCutParams:
    """Parameters of ``graph_cut``."""

    representation: float = param(2.0, "weight of the similarity to all against that to the chosen", low=0.0)


@dataclass(frozen=True)
class HerdingParams:
    """Parameters of ``herding``."""

    metric: Literal["cosine", "euclidean"] = param("euclidean", "features as they are, or (cosine) at length 1")


def _rows(candidates: Candidates, method: str, metric: Metric) -> np.ndarray:
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
        >>> from prune_cli.methods.selection.candidates import ArrayFeatures
        >>> line = ArrayFeatures(np.array([[0.0], [1.0], [5.0], [9.0]], np.float32))
        >>> k_center_order(Candidates(np.arange(4), features=line), counts=[4]).rankings[0].order_n.tolist()
        [2, 0, 3, 1]
    """
    rows_nd = _rows(candidates, "kcenter", params.metric)
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


def facility_location_order(
    candidates: Candidates,
    params: FacilityLocationParams = FacilityLocationParams(),
    *,
    counts: Sequence[int],
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> Choice:
    r"""Return the samples by how much each adds to ``sum_i max_{j in S} s_ij``: how well the chosen stand for all.

    ``s_ij = (1 + cos) / 2`` where j is i itself or one of its nearest ``neighbors``, else 0. The objective is monotone and
    submodular; the greedy answer is within 1 - 1/e of the best.

    Args:
        candidates: the samples; of them ``features`` and ``kept``.
        params: see `FacilityLocationParams`. With N - 1 neighbors all pairs count.
        counts: the largest is how many are ranked.
        seed: draws what an approximate search for neighbors draws, beyond 131,072 samples.
        device: where the search for neighbors runs.
        progress: told of the search.
    Returns:
        Choice of one ranking with gains that never rise.
    Raises:
        InputError: no features at hand.
    Cost:
        The neighbors: 2 N^2 D flops up to 131,072 samples, about N^1.5 D beyond; then N neighbors log N. 12 N neighbors bytes,
        twice.
    Source:
        Mirzasoleiman, Bilmes, Leskovec, ICML 2020 (CRAIG); lazy greedy of Minoux 1978. Deviation: similarities beyond the
        nearest neighbors count 0.
    Example:
        >>> from prune_cli.methods.selection.candidates import ArrayFeatures
        >>> rays = ArrayFeatures(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [-1.0, 0.0]], np.float32))
        >>> params = FacilityLocationParams(neighbors=3)
        >>> facility_location_order(Candidates(np.arange(4), features=rays), params, counts=[2]).rankings[0].order_n.tolist()
        [1, 3]
    """
    rows_nd = _rows(candidates, "facility_location", "cosine")
    n_samples = len(rows_nd)
    near_nk, distances_nk = nearest_neighbors(
        rows_nd, params.neighbors, metric="euclidean", seed=seed, device=device, progress=progress
    )
    del rows_nd
    starts, samples, similarities = _covers(near_nk, distances_nk)
    del near_nk, distances_nk
    kept, free = _start(candidates)
    covered_n = np.zeros(n_samples)
    of_kept = np.repeat(kept, np.diff(starts))
    np.maximum.at(covered_n, samples[of_kept], similarities[of_kept])
    picked_k, gains_k = np.zeros(max(counts), np.int64), np.zeros(max(counts))
    lazy_greedy.compile_facility_location()(starts, samples, similarities, covered_n, free, picked_k, gains_k)
    return _picked(candidates, picked_k, gains_k, counts)


def _covers(near_nk: np.ndarray, distances_nk: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the graph by what each sample covers: starts (N + 1,) int64, samples int32, similarities float32.

    Itself first, with 1; then the samples that have it for a neighbor, by position, with the similarity of rows of length 1:
    ``|a - b|^2 = 2 - 2 cos``, so ``(1 + cos) / 2 = 1 - |a - b|^2 / 4``.
    """
    n_samples = len(near_nk)
    starts = np.r_[0, np.cumsum(np.bincount(near_nk.ravel(), minlength=n_samples) + 1)]
    samples, similarities = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    lazy_greedy.compile_covers()(near_nk, distances_nk, starts[:-1].copy(), samples, similarities)
    return starts, samples, similarities


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
        >>> from prune_cli.methods.selection.candidates import ArrayFeatures
        >>> rays = ArrayFeatures(np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [0.0, 1.0]], np.float32))
        >>> graph_cut_order(Candidates(np.arange(4), features=rays), counts=[2]).rankings[0].order_n.tolist()
        [1, 0]
    """
    rows_nd = _rows(candidates, "graph_cut", "cosine")
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

        >>> from prune_cli.methods.selection.candidates import ArrayFeatures
        >>> line = ArrayFeatures(np.array([[1.0], [2.0], [3.0], [6.0]], np.float32))
        >>> herding_order(Candidates(np.arange(4), features=line), counts=[3]).rankings[0].order_n.tolist()
        [3, 0, 2]
    """
    rows_nd = _rows(candidates, "herding", params.metric)
    kept, _ = _start(candidates)
    mean_d = _mean(rows_nd)
    weight_d = mean_d * (1 + kept.sum()) - kept.sum() * _mean(rows_nd[kept])
    picked_k, gains_k = np.zeros(max(counts), np.int64), np.zeros(max(counts))
    with numba_threads():
        lazy_greedy.compile_herding()(rows_nd, mean_d, weight_d, kept.copy(), picked_k, gains_k)
    return _picked(candidates, picked_k, gains_k, counts)
