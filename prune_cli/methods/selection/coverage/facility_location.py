"""Facility location: the samples that stand best for all, over nearest neighbors; at once, or by partitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_cli.core.params import param
from prune_cli.core.progress import Progress, silent
from prune_cli.engines.block import Arrays, Block, BlockWork
from prune_cli.engines.handout import MapBlocks, blocks_here
from prune_cli.methods.partition import Region
from prune_cli.methods.selection.contract import Candidates, Choice, Extra, Features, Ranking, nested
from prune_cli.methods.selection.coverage.coverage import rows_by_id
from prune_cli.methods.selection.greedy import lazy as lazy_greedy
from prune_cli.methods.selection.greedy.partitions import (
    cut,
    gather,
    join_edges,
    shares,
    sizes_of,
)
from prune_cli.methods.selection.neighbors.nearest import (
    EXACT_ROWS,
    nearest_neighbors,
    search_bytes,
    search_work,
    unit_rows,
)
from prune_cli.methods.selection.neighbors.similarity import Rows, ranges


@dataclass(frozen=True)
class FacilityLocationParams:
    """Parameters of ``facility_location``."""

    neighbors: int = param(64, "nearest samples that can stand for a sample, N - 1 at most", low=1)
    parts: int | None = param(
        None, "partitions of near samples that are picked from on their own at first; none: all samples at once", low=1
    )
    overlap: float = param(
        0.1,
        "with parts, samples of others that count in a partition, a share of its own for each level of cuts",
        low=0.0,
        high=1.0,
    )
    oversample: float = param(2.0, "with parts, how many times its share of the budget a partition picks", low=1.0)

    def extra_bytes(self, rows: int, width: int, budgets: int) -> int:
        """Return the bytes of the graph of neighbors, and of the search for them."""
        if self.parts is None or self.parts == 1:
            return 24 * rows * self.neighbors + search_bytes(rows, width)
        inside = sum(sizes_of(self.parts, self.overlap, rows))
        to_picks = 16 * inside * self.parts * self.neighbors  # at most, and once more while they are put together
        return 24 * inside * self.neighbors + 2 * search_bytes(inside, width) + to_picks

    def block_work(self, rows: int, width: int, classes: int, counts: Sequence[int]) -> BlockWork | None:
        """Return what the partitions, or the blocks of an exact search, come to."""
        if self.parts is None or self.parts == 1:
            return search_work(rows, width)
        inside = sum(sizes_of(self.parts, self.overlap, rows))
        flops = 2.0 * self.parts * inside * min(inside, EXACT_ROWS) * width
        return BlockWork(self.parts, partition_bytes(inside, width, self.neighbors), flops)


def partition_bytes(n_samples: int, width: int, n_neighbors: int) -> int:
    """Return the memory of a partition of so many samples, those of its halo among them."""
    return n_samples * (16 * width + 48 * n_neighbors) + 2**28


def facility_location_order(
    candidates: Candidates,
    params: FacilityLocationParams = FacilityLocationParams(),
    *,
    counts: Sequence[int],
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
    map_blocks: MapBlocks | None = None,
) -> Choice:
    r"""Return the samples by how much each adds to ``sum_i max_{j in S} s_ij``: how well the chosen stand for all.

    ``s_ij = (1 + cos) / 2`` where j is i itself or one of its nearest ``neighbors``, else 0. The objective is monotone and
    submodular; the greedy answer is within 1 - 1/e of the best. With ``parts`` it is greedy within partitions of near samples, then
    among what these picked (see partitions.py): a partition sees the neighbors that are in it or in its halo.

    Args:
        candidates: the samples; of them ``features`` and ``kept``.
        params: see `FacilityLocationParams`. With N - 1 neighbors all pairs count.
        counts: the largest is how many are ranked.
        seed: draws what an approximate search for neighbors draws, beyond 131,072 samples, and what partitions are cut by.
        device: where the search for neighbors runs.
        progress: told of the search, or of the partitions.
        map_blocks: hands out partitions, or blocks of an exact search; None: they run here.
    Returns:
        Choice of one ranking with gains that never rise; with ``parts`` also the figures ``objective``, ``edges`` (to what the partitions
        picked) and ``partitions``.
    Raises:
        InputError: no features at hand.
    Cost:
        The neighbors: 2 N^2 D flops up to 131,072 samples, about N^1.5 D beyond; then N neighbors log N. 12 N neighbors bytes,
        twice. Of a partition of M samples, its halo among them, as much with M for N.
    Source:
        Mirzasoleiman, Bilmes, Leskovec, ICML 2020 (CRAIG); lazy greedy of Minoux 1978. Deviation: similarities beyond the
        nearest neighbors count 0. Partitions: Mirzasoleiman, Karbasi, Sarkar, Krause, NIPS 2013 (GreeDi), arXiv:1411.0541; deviations
        as in `neighbor_confidence_order`.
    Example:
        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> rays = ArrayFeatures(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [-1.0, 0.0]], np.float32))
        >>> params = FacilityLocationParams(neighbors=3)
        >>> facility_location_order(Candidates(np.arange(4), features=rays), params, counts=[2]).rankings[0].order_n.tolist()
        [1, 3]
    """
    features, by_id = candidates.vectors("facility_location"), candidates.order_n
    kept_n = candidates.kept[by_id]
    count = max(counts)
    in_parts = params.parts is not None and params.parts > 1
    if in_parts:
        graph, free, figures, way = _over_partitions(
            candidates, features, params, count, seed, device, map_blocks, progress
        )
    else:
        rows_nd = rows_by_id(candidates, "facility_location", "cosine")
        near = nearest_neighbors(
            rows_nd,
            params.neighbors,
            metric="euclidean",
            seed=seed,
            device=device,
            progress=progress,
            map_blocks=map_blocks,
        )
        del rows_nd
        graph = _covers(*near)
        del near
        free, figures, way = np.flatnonzero(~kept_n), {}, ""
    covered_n = _covered_by(graph, np.flatnonzero(kept_n))
    before = float(covered_n.sum())
    picked_k, gains_k = _greedy(graph, covered_n, free, count)
    choice = nested(Ranking(by_id[picked_k], gain_n=gains_k), counts)
    if not in_parts:
        return choice
    objectives = before + np.r_[0.0, np.cumsum(gains_k)]
    extras = tuple(Extra({}, {"objective": float(objectives[k]), **figures}, way) for k in counts)
    return Choice(choice.rankings, extras=extras)


def pick_in_partition(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, np.ndarray]:
    """Return what a partition picks, and what its picks and its kept samples cover of it.

    Args:
        values: ``neighbors``, ``count`` (how many to pick), ``seed``, ``device``.
        arrays: of M samples, those of the halo among them, by ascending id: ``features`` (M, D) float32, ``kept`` and ``core`` (M,) bool.
        progress: told of the search for neighbors.
    Returns:
        ``owners`` (K,) int64 picks in their order, then the kept samples of the core, ``picks`` (1,) how many are picks; ``counts`` (K,)
        int64 edges of each, ``samples`` int32 and ``similarities`` float32 of these; ``reach`` (M,) float32, how near the last neighbor
        of each is, -1 where all others are neighbors.
    Cost:
        As `facility_location_order` on M samples.
    """
    near_bk, distances_bk = nearest_neighbors(
        unit_rows(arrays["features"]),
        values["neighbors"],
        metric="euclidean",
        seed=values["seed"],
        device=values["device"],
        progress=progress,
    )
    n_samples, found = near_bk.shape
    reach_b: np.ndarray = np.full(n_samples, -1.0, np.float32)
    if found == values["neighbors"]:
        reach_b = np.float32(1.0) - distances_bk[:, -1] ** 2 / np.float32(4.0)
    graph = _covers(near_bk, distances_bk)
    del near_bk, distances_bk
    core_n, kept_n = arrays["core"], arrays["kept"]
    here = _without_far_halo(graph, core_n, reach_b)
    covered_n = _covered_by(here, np.flatnonzero(kept_n))
    picked_k, _ = _greedy(here, covered_n, np.flatnonzero(core_n & ~kept_n), values["count"])
    owners = np.concatenate([picked_k, np.flatnonzero(core_n & kept_n)])
    counts = graph.end_n[owners] - graph.begin_n[owners]
    places = ranges(graph.begin_n[owners], counts)
    return {
        "owners": owners,
        "picks": np.array([len(picked_k)]),
        "counts": counts,
        "samples": graph.samples_e[places],
        "similarities": graph.similarities_e[places],
        "reach": reach_b,
    }


def _over_partitions(
    candidates: Candidates,
    features: Features,
    params: FacilityLocationParams,
    count: int,
    seed: int,
    device: str,
    map_blocks: MapBlocks | None,
    progress: Progress,
) -> tuple[Rows, np.ndarray, dict[str, float], str]:
    """Return what the picks of the partitions and the kept samples cover, the picks, figures, and the way in words."""
    assert params.parts is not None
    by_id = candidates.order_n
    kept_n = candidates.kept[by_id]
    regions = cut(candidates, features, params.parts, params.overlap, seed, progress=progress)
    picks_p = shares(regions, np.where(kept_n, -1, 0), np.array([count]), params.oversample)[:, 0]

    def arrays_of(region: Region) -> Callable[[], Arrays]:
        def arrays() -> Arrays:
            inside = region.members
            core = np.isin(inside, region.core, assume_unique=True)
            return {"features": gather(features, by_id[inside]), "kept": kept_n[inside], "core": core}

        return arrays

    blocks = [
        Block(
            f"partition {number}",
            {"neighbors": params.neighbors, "count": int(picks), "seed": seed, "device": device},
            arrays_of(region),
            partition_bytes(len(region.members), features.shape[1], params.neighbors),
            2.0 * len(region.members) ** 2 * features.shape[1],
        )
        for number, (region, picks) in enumerate(zip(regions, picks_p, strict=True))
    ]
    hand_out = map_blocks or blocks_here(progress)
    answers = [*hand_out("partitions", f"{__name__}:pick_in_partition", blocks)]
    _drop_far(regions, answers)
    picked = [r.members[a["owners"][: int(a["picks"][0])]] for r, a in zip(regions, answers, strict=True)]
    free = np.sort(np.concatenate(picked))
    edges = sum(int(answer["counts"].sum()) for answer in answers)
    way = (
        f"{len(regions)} partitions, {len(free):,} picks in all, then one greedy run over these; edges are those from all samples "
        "to them"
    )
    return join_edges(regions, answers), free, {"edges": float(edges), "partitions": float(len(regions))}, way


def _without_far_halo(graph: Rows, core_n: np.ndarray, reach_n: np.ndarray) -> Rows:
    """Return the graph of a partition where a sample of the halo counts only for those that it is a neighbor of, too.

    Most of its own neighbors may be on the other side: what is near it here is then far from it, and must not be picked for its sake.
    """
    owner = np.repeat(np.arange(len(core_n)), graph.end_n - graph.begin_n)
    far = ~core_n[graph.samples_e] & (graph.similarities_e < reach_n[owner])
    return Rows(graph.begin_n, graph.end_n, graph.samples_e, np.where(far, np.float32(0.0), graph.similarities_e))


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


def _covers(near_nk: np.ndarray, distances_nk: np.ndarray) -> Rows:
    """Return the graph by what each sample covers.

    Itself first, with 1; then the samples that have it for a neighbor, by position, with the similarity of rows of length 1:
    ``|a - b|^2 = 2 - 2 cos``, so ``(1 + cos) / 2 = 1 - |a - b|^2 / 4``.
    """
    n_samples = len(near_nk)
    starts = np.r_[0, np.cumsum(np.bincount(near_nk.ravel(), minlength=n_samples) + 1)]
    samples, similarities = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    lazy_greedy.compile_covers()(near_nk, distances_nk, starts[:-1].copy(), samples, similarities)
    return Rows(starts[:-1], starts[1:], samples, similarities)


def _covered_by(graph: Rows, chosen: np.ndarray) -> np.ndarray:
    """Return (N,) how well some samples stand for each."""
    covered_n = np.zeros(len(graph.begin_n))
    places = ranges(graph.begin_n[chosen], graph.end_n[chosen] - graph.begin_n[chosen])
    np.maximum.at(covered_n, graph.samples_e[places], graph.similarities_e[places])
    return covered_n


def _greedy(graph: Rows, covered_n: np.ndarray, free: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the picks and their gains; what is covered grows in place."""
    picked_k, gains_k = np.zeros(count, np.int64), np.zeros(count)
    lazy_greedy.compile_facility_location()(
        graph.begin_n, graph.end_n, graph.samples_e, graph.similarities_e, covered_n, free, picked_k, gains_k
    )
    return picked_k, gains_k
