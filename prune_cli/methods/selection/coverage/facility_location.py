"""Facility location: the samples that stand best for all, over nearest neighbors; at once, or by partitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_cli.core.params import param
from prune_cli.core.progress import Progress, silent
from prune_cli.engines.engine import Arrays, Block, BlockWork
from prune_cli.methods.partition import Region
from prune_cli.methods.selection.capabilities import ProblemSize
from prune_cli.methods.selection.contract import Candidates, Choice, Extra, Run
from prune_cli.methods.selection.coverage.covers import choice_of, covered_by, covers_of, kept_and_free, pick_covering, rows_by_id
from prune_cli.methods.selection.greedy import (
    Division,
    Partitioned,
    SecondRound,
    arrays_of,
    cut,
    overlap_param,
    oversample_param,
    parts_param,
    second_round,
    shares,
)
from prune_cli.methods.selection.neighbors.nearest import EXACT_ROWS, answer_bytes, nearest_neighbors, search_bytes, search_work, unit_rows
from prune_cli.methods.selection.neighbors.tiles import Edges


def partition_bytes(n_samples: int, width: int, n_neighbors: int) -> int:
    """Return the memory of a partition of so many samples, those of its halo among them."""
    return n_samples * (16 * width + 48 * n_neighbors) + 2**28


def pick_in_partition(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, np.ndarray]:
    """Return what a partition picks, and what its picks and its kept samples cover of it.

    Args:
        values: ``neighbors``, ``count`` (how many to pick), ``seed``, ``device``.
        arrays: of M samples, those of the halo among them, by ascending id: ``features`` (M, D) float32, ``kept`` and ``core`` (M,) bool.
    Returns:
        ``owners`` (K,) int64 picks in their order, then the kept samples of the core, ``picks`` (1,) how many are picks; ``counts`` (K,)
        int64 edges of each, ``samples`` int32 and ``similarities`` float32 of these; ``reach`` (M,) float32, how near the last neighbor
        of each is, -1 where all others are neighbors.
    Cost:
        As `facility_location_order` on M samples.
    """
    run = Run(seed=values["seed"], device=values["device"], progress=progress)
    rows_bd = unit_rows(arrays["features"])
    near_bk, distances_bk = nearest_neighbors(rows_bd, values["neighbors"], run, metric="euclidean")
    n_samples, found = near_bk.shape
    reach_b: np.ndarray = np.full(n_samples, -1.0, np.float32)
    if found == values["neighbors"]:
        reach_b = np.float32(1.0) - distances_bk[:, -1] ** 2 / np.float32(4.0)
    graph = covers_of(near_bk, distances_bk)
    del near_bk, distances_bk
    core_n, kept_n = arrays["core"], arrays["kept"]
    here = _without_far_halo(graph, core_n, reach_b)
    covered_n = covered_by(here, np.flatnonzero(kept_n))
    picked_k, _ = pick_covering(here, covered_n, np.flatnonzero(core_n & ~kept_n), values["count"])
    owners = np.concatenate([picked_k, np.flatnonzero(core_n & kept_n)])
    places = graph.places_of(owners)
    return {
        "owners": owners,
        "picks": np.array([len(picked_k)]),
        "counts": graph.counts_of(owners),
        "samples": graph.samples_e[places],
        "similarities": graph.similarities_e[places],
        "reach": reach_b,
    }


def pick_over_partitions(candidates: Candidates, n_neighbors: int, division: Division, count: int, run: Run) -> SecondRound:
    """Return what the picks of the partitions and the kept samples cover, and the picks.

    Args:
        candidates: N samples.
        n_neighbors: nearest samples that can stand for a sample.
        count: how many the second round picks.
        run: of it ``seed``, ``device`` and ``hand_out``, which gets the partitions.
    """
    features, kept_n = candidates.vectors("facility_location"), candidates.kept[candidates.order_n]
    regions = cut(candidates, features, division, run)
    picks_p = shares(regions, np.where(kept_n, -1, 0), np.array([count]), division.oversample)[:, 0]

    def gatherer(region: Region) -> Callable[[], Arrays]:
        return lambda: arrays_of(candidates, features, region)

    width = features.shape[1]
    blocks = [
        Block(
            f"partition {number}",
            {"neighbors": n_neighbors, "count": int(picks), "seed": run.seed, "device": run.device},
            gatherer(region),
            partition_bytes(len(region.members), width, n_neighbors),
            2.0 * len(region.members) ** 2 * width,
        )
        for number, (region, picks) in enumerate(zip(regions, picks_p, strict=True))
    ]
    answers = [*run.hand_out("partitions", f"{__name__}:pick_in_partition", blocks)]
    _drop_far(regions, answers)
    return second_round(regions, answers, [answer["owners"][: int(answer["picks"][0])] for answer in answers])


def _without_far_halo(graph: Edges, core_n: np.ndarray, reach_n: np.ndarray) -> Edges:
    """Return the graph of a partition where a sample of the halo counts only for those that it is a neighbor of, too.

    Most of its own neighbors may be on the other side: what is near it here is then far from it, and must not be picked for its sake.
    """
    owner = np.repeat(np.arange(len(core_n)), graph.end_n - graph.begin_n)
    far = ~core_n[graph.samples_e] & (graph.similarities_e < reach_n[owner])
    return Edges(graph.begin_n, graph.end_n, graph.samples_e, np.where(far, np.float32(0.0), graph.similarities_e))


def _drop_far(regions: Sequence[Region], answers: Sequence[dict[str, np.ndarray]]) -> None:
    """Take from the answers the edges of halo samples to picks farther than the last neighbor that their own partition found."""
    reach_n = np.empty(sum(len(region.core) for region in regions), np.float32)
    inside = []
    for region, answer in zip(regions, answers, strict=True):
        inside.append(np.isin(region.members, region.core, assume_unique=True))
        reach_n[region.core] = answer["reach"][inside[-1]]
    for region, answer, core_b in zip(regions, answers, inside, strict=True):
        samples = answer["samples"]
        near = core_b[samples] | (answer["similarities"] >= reach_n[region.members][samples])
        owner = np.repeat(np.arange(len(answer["counts"])), answer["counts"])
        answer["counts"] = np.bincount(owner[near], minlength=len(answer["counts"]))
        answer["samples"], answer["similarities"] = samples[near], answer["similarities"][near]


@dataclass(frozen=True)
class FacilityLocationParams(Partitioned):
    """Parameters of ``facility_location``."""

    neighbors: int = param(64, "nearest samples that can stand for a sample, N - 1 at most", low=1)
    parts: int | None = parts_param()
    overlap: float = overlap_param()
    oversample: float = oversample_param()

    def by_angle(self) -> bool:
        """Return whether vectors are divided by their lengths."""
        return True

    def extra_bytes(self, problem: ProblemSize) -> int:
        """Return the bytes of the graph of neighbors, and of the search for them."""
        rows, width, division = problem.rows, problem.width, self.division
        if division is None:
            return answer_bytes(rows, self.neighbors) + search_bytes(rows, width)
        inside = sum(division.sizes(rows))
        to_picks = 16 * inside * division.count * self.neighbors  # at most, and once more while they are put together
        return answer_bytes(inside, self.neighbors) + 2 * search_bytes(inside, width) + to_picks

    def block_work(self, problem: ProblemSize) -> BlockWork | None:
        """Return what the partitions, or the blocks of an exact search, come to."""
        division, width = self.division, problem.width
        if division is None:
            return search_work(problem.rows, width)
        inside = sum(division.sizes(problem.rows))
        flops = 2.0 * division.count * inside * min(inside, EXACT_ROWS) * width
        return BlockWork(division.count, partition_bytes(inside, width, self.neighbors), flops)


def facility_location_order(candidates: Candidates, params: FacilityLocationParams = FacilityLocationParams(), run: Run = Run()) -> Choice:
    r"""Return the samples by how much each adds to ``sum_i max_{j in S} s_ij``: how well the chosen stand for all.

    ``s_ij = (1 + cos) / 2`` where j is i itself or one of its nearest ``neighbors``, else 0. The objective is monotone and
    submodular; the greedy answer is within 1 - 1/e of the best. With ``parts`` it is greedy within partitions of near samples, then
    among what these picked: a partition sees the neighbors that are in it or in its halo.

    Args:
        candidates: the samples; of them ``features`` and ``kept``.
        params: see `FacilityLocationParams`. With N - 1 neighbors all pairs count.
        run: of it ``counts``, the largest of which is how many are ranked, and what `nearest_neighbors` and `pick_over_partitions`
            take.
    Returns:
        Choice of one ranking with gains that never rise; with ``parts`` also the figures ``objective``, ``edges`` (to what the partitions
        picked) and ``partitions``.
    Raises:
        InputError: no features at hand.
    Cost:
        The neighbors: 2 N^2 D flops up to 131,072 samples, about N^1.5 D beyond; then N neighbors log N. 12 N neighbors bytes,
        twice. Of a partition of M samples, its halo among them, as much with M for N.
    Source:
        Wei, Iyer, Bilmes, ICML 2015 (submodularity in data subset selection); lazy greedy of Minoux 1978. CRAIG (Mirzasoleiman,
        Bilmes, Leskovec, ICML 2020) takes gradients for features, and weights what it picks: neither is done here. Deviation:
        similarities beyond the nearest neighbors count 0. Partitions: Mirzasoleiman, Karbasi, Sarkar, Krause, NIPS 2013 (GreeDi),
        arXiv:1411.0541; deviations as in `neighbor_confidence_order`.
    Example:
        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> rays = ArrayFeatures(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [-1.0, 0.0]], np.float32))
        >>> params = FacilityLocationParams(neighbors=3)
        >>> facility_location_order(Candidates(np.arange(4), features=rays), params, Run([2])).rankings[0].order_n.tolist()
        [1, 3]
    """
    kept_n, free = kept_and_free(candidates)
    division, count = params.division, max(run.counts)
    parted = None
    if division is not None:
        parted = pick_over_partitions(candidates, params.neighbors, division, count, run)
        graph, free = parted.edges, parted.picked
    else:
        rows_nd = rows_by_id(candidates, "facility_location", "cosine")
        near = nearest_neighbors(rows_nd, params.neighbors, run, metric="euclidean")
        del rows_nd
        graph = covers_of(*near)
        del near
    covered_n = covered_by(graph, np.flatnonzero(kept_n))
    before = float(covered_n.sum())
    picked_k, gains_k = pick_covering(graph, covered_n, free, count)
    choice = choice_of(candidates, picked_k, gains_k, run)
    if parted is None:
        return choice
    objectives = before + np.r_[0.0, np.cumsum(gains_k)]
    extras = tuple(Extra({}, {"objective": float(objectives[k]), **parted.figures}, parted.way) for k in run.counts)
    return Choice(choice.rankings, extras=extras)
