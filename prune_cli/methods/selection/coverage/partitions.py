"""Facility location over partitions: what is done within one, and what the second round goes over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from prune_cli.core.progress import Progress, silent
from prune_cli.engines.block import Arrays, Block
from prune_cli.methods.partition import Region
from prune_cli.methods.selection.contract import Candidates, Run
from prune_cli.methods.selection.coverage.covers import covered_by, covers_of, pick_covering
from prune_cli.methods.selection.greedy.division import Division
from prune_cli.methods.selection.greedy.partitions import SecondRound, arrays_of, cut, second_round, shares
from prune_cli.methods.selection.neighbors.edges import Edges
from prune_cli.methods.selection.neighbors.nearest import nearest_neighbors, unit_rows


def partition_bytes(n_samples: int, width: int, n_neighbors: int) -> int:
    """Return the memory of a partition of so many samples, those of its halo among them."""
    return n_samples * (16 * width + 48 * n_neighbors) + 2**28


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


def pick_over_partitions(
    candidates: Candidates, n_neighbors: int, division: Division, count: int, run: Run
) -> SecondRound:
    """Return what the picks of the partitions and the kept samples cover, and the picks.

    Args:
        candidates: N samples.
        n_neighbors: nearest samples that can stand for a sample.
        division: how the samples are cut.
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
