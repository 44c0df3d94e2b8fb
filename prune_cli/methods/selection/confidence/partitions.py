"""Neighbor confidence over partitions: what is done within one, and the greedy run over what all of them picked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import format_size
from prune_cli.engines.block import Arrays, Block
from prune_cli.engines.handout import MapBlocks, blocks_here
from prune_cli.methods.partition import Region
from prune_cli.methods.selection.confidence.run import ConfidenceRun, Graph, GraphSettings, Rule, find_graph
from prune_cli.methods.selection.contract import Candidates, Features, class_turns, read_parts
from prune_cli.methods.selection.greedy.partitions import (
    cut,
    gather,
    join_edges,
    shares,
    taken_by_turns,
)
from prune_cli.methods.selection.neighbors.similarity import edge_bytes, prepare_similarity

_CHUNK = 65_536
_ROOM = 2
"""How many times its share of the edges that fit a partition may return."""


def pick_in_partition(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, np.ndarray]:
    """Return what a partition picks, and the edges from its samples to its picks.

    Args:
        values: ``rule``; ``graph``, the fields of `GraphSettings`; ``room``, how many edges may be returned.
        arrays: of M samples, those of the halo among them, by ascending id: ``features`` (M, D) float32, ``c`` (M,) float64
            confidence over eta, ``codes`` (M,) int64 classes, ``kept`` and ``core`` (M,) bool; ``turns`` (K,) int64 the class of each
            pick; for the euclidean ``mean`` (D,) and ``scale`` (1,) of all samples.
        progress: told nothing: a partition is small.
    Returns:
        ``owners`` (K,) int64 picks in their order, ``counts`` (K,) int64 edges of each, ``samples`` int32 and ``similarities``
        of these (empty where they are more than ``room``); ``load`` (M,) float64 what kept samples of the core give to each.
    Cost:
        M^2 D flops and the edges among M samples, as `neighbor_confidence_order` on them.
    """
    settings = GraphSettings(**values["graph"])
    spread = (arrays["mean"], float(arrays["scale"][0])) if "mean" in arrays else None
    similarity = prepare_similarity(
        arrays["features"], settings.metric, settings.precision, settings.device, spread=spread
    )
    graph = find_graph(similarity, settings)
    c_n, core_n, kept_n, turns_k = arrays["c"], arrays["core"], arrays["kept"], arrays["turns"]
    own_load_n = graph.loads_of(np.flatnonzero(kept_n & core_n), c_n)
    load_n = own_load_n + graph.loads_of(np.flatnonzero(kept_n & ~core_n), c_n)
    free = np.flatnonzero(core_n & ~kept_n)
    run = ConfidenceRun(graph, values["rule"], c_n, load_n, free, arrays["codes"], turns_k, len(turns_k))
    run.until(len(turns_k))
    counts, samples, similarities = graph.edges_of(run.picked_k, values["room"])
    return {
        "owners": run.picked_k,
        "counts": counts,
        "samples": samples,
        "similarities": similarities,
        "load": own_load_n,
    }


def run_over_partitions(
    candidates: Candidates,
    c_n: np.ndarray,
    codes_n: np.ndarray,
    turns_k: np.ndarray,
    settings: GraphSettings,
    *,
    rule: Rule,
    count: int,
    n_parts: int,
    overlap: float,
    oversample: float,
    map_blocks: MapBlocks | None = None,
    progress: Progress = silent,
) -> tuple[ConfidenceRun, Graph]:
    """Return the greedy run over what the partitions picked, before its first pick, and its graph.

    All samples count in it, each with the edges that a partition saw which it is part of: those to picks of its own partition, and
    of those whose halo it is in. Arrays are by ascending id.

    Args:
        candidates: N samples.
        c_n: (N,) float64 confidence over eta.
        codes_n: (N,) int64 classes, 0 to C - 1.
        turns_k: class of each pick; empty: the classes take turns.
        settings: of the graph; its memory is that of the edges to all picks.
        rule, count: of the run.
        n_parts, overlap: as `partitions.cut` takes them.
        oversample: how many times its share of the budget a partition picks.
        map_blocks: hands the partitions out; None: here, one after the other.
        progress: told of the partitions, and of the picks of the second round.
    Raises:
        InputError: the edges to what is picked do not fit the memory.
    """
    by_id = candidates.order_n
    features = candidates.vectors("neighbor_confidence")
    kept_n = candidates.kept[by_id]
    regions = cut(
        candidates, features, n_parts, overlap, settings.seed, unit=settings.metric == "cosine", progress=progress
    )
    free_codes_n = np.where(kept_n, -1, codes_n)
    n_classes = int(codes_n.max(initial=0)) + 1
    if len(turns_k):
        wanted_c = np.bincount(turns_k[:count], minlength=n_classes)
    else:
        wanted_c = taken_by_turns(np.bincount(codes_n[~kept_n], minlength=n_classes), count)
    picks_pc = shares(regions, free_codes_n, wanted_c, oversample)
    width = edge_bytes(np.float64 if settings.precision == "float64" else np.float32)
    spread = {} if settings.metric == "cosine" else _spread(features, by_id)
    members = sum(len(region.core) + len(region.halo) for region in regions)

    def arrays_of(region: Region, picks_c: np.ndarray) -> Callable[[], Arrays]:
        def arrays() -> Arrays:
            inside = region.members
            return {
                "features": gather(features, by_id[inside]),
                "c": c_n[inside],
                "codes": codes_n[inside],
                "kept": kept_n[inside],
                "core": np.isin(inside, region.core, assume_unique=True),
                "turns": class_turns(picks_c, np.zeros_like(picks_c), settings.seed),
                **spread,
            }

        return arrays

    blocks = []
    for number, (region, picks_c) in enumerate(zip(regions, picks_pc, strict=True)):
        share = (len(region.core) + len(region.halo)) / max(1, members)
        room = int(min(1.0, _ROOM * share) * settings.memory // width)
        values = {"rule": rule, "graph": dataclasses.asdict(settings), "room": room}
        n_members, n_features = len(region.members), features.shape[1]
        nbytes = settings.memory // len(regions) + 24 * n_members * n_features
        flops = 2.0 * n_members**2 * n_features
        blocks.append(Block(f"partition {number}", values, arrays_of(region, picks_c), nbytes, flops))
    hand_out = map_blocks or blocks_here(progress)
    answers = [*hand_out("partitions", f"{__name__}:pick_in_partition", blocks)]
    _check_room(answers, blocks, settings.memory, width)
    load_n = np.zeros(len(by_id))
    for region, answer in zip(regions, answers, strict=True):
        load_n[region.members] += answer["load"]
    picked = np.sort(np.concatenate([r.members[a["owners"]] for r, a in zip(regions, answers, strict=True)]))
    figures = {
        "edges": float(sum(int(answer["counts"].sum()) for answer in answers)),
        "partitions": float(len(regions)),
    }
    way = (
        f"{len(regions)} partitions, {len(picked):,} picks in all, then one greedy run over these; edges are those from all samples "
        "to them"
    )
    graph = Graph(join_edges(regions, answers), None, figures, way)
    return ConfidenceRun(graph, rule, c_n, load_n, picked, codes_n, turns_k, count, progress), graph


def _check_room(answers: Sequence[Arrays], blocks: Sequence[Block], memory: int, width: int) -> None:
    found = [int(answer["counts"].sum()) for answer in answers]
    beyond = [block.name for block, edges in zip(blocks, found, strict=True) if edges > block.values["room"]]
    if not beyond and sum(found) * width <= memory:
        return
    alone = f", {beyond[0]} alone more than {_ROOM} times its share" if len(beyond) == 1 else ""
    raise InputError(
        f"the edges to what the partitions picked take {format_size(sum(found) * width)}, {format_size(memory)} allowed{alone}",
        "raise --memory-limit, or have fewer edges: a larger -p tau, or a smaller -p oversample; without -p parts rows are computed as "
        "they are needed",
    )


def _spread(features: Features, by_id: np.ndarray) -> Arrays:
    """Return the mean of all samples and their mean squared distance to it: what a euclidean similarity goes by."""
    n_samples, width = features.shape
    total_d, squares = np.zeros(width), 0.0
    for _, block in read_parts(features, _CHUNK, by_id):
        total_d += block.sum(axis=0, dtype=np.float64)
    mean_d = total_d / max(1, n_samples)
    for _, block in read_parts(features, _CHUNK, by_id):
        squares += float(((block - mean_d) ** 2).sum())
    return {"mean": mean_d, "scale": np.array([squares / max(1, n_samples)])}
