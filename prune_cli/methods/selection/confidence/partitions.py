"""Neighbor confidence over partitions: what is done within one, and the greedy run over what all of them picked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import format_size
from prune_cli.engines.engine import Arrays, Block
from prune_cli.methods.partition import Region
from prune_cli.methods.selection.classes import class_turns
from prune_cli.methods.selection.confidence.graph import Graph, GraphSettings, WholeRows, find_graph
from prune_cli.methods.selection.confidence.picker import Aim, Picker
from prune_cli.methods.selection.contract import Candidates, Features, Run, read_batches
from prune_cli.methods.selection.greedy import Division, arrays_of, cut, second_round, shares, taken_by_turns
from prune_cli.methods.selection.neighbors.tiles import prepare_similarity

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
    similarity = prepare_similarity(arrays["features"], settings.metric, settings.precision, settings.device, spread=spread)
    graph = find_graph(similarity, settings, Run(device=settings.device))
    core_n, kept_n, turns_k = arrays["core"], arrays["kept"], arrays["turns"]
    aim = Aim(values["rule"], arrays["c"], arrays["codes"], turns_k, len(turns_k))
    own_load_n = graph.loads_of(np.flatnonzero(kept_n & core_n), aim.c_n)
    load_n = own_load_n + graph.loads_of(np.flatnonzero(kept_n & ~core_n), aim.c_n)
    picker = Picker(graph, aim, load_n, np.flatnonzero(core_n & ~kept_n))
    picker.until(aim.count)
    picked_k = picker.picks.picked_k
    counts, samples, similarities = graph.edges_of(picked_k, values["room"])
    return {"owners": picked_k, "counts": counts, "samples": samples, "similarities": similarities, "load": own_load_n}


def pick_over_partitions(candidates: Candidates, aim: Aim, settings: GraphSettings, division: Division, run: Run) -> tuple[Picker, Graph]:
    """Return the greedy run over what the partitions picked, before its first pick, and its graph.

    All samples count in it, each with the edges that a partition saw which it is part of: those to picks of its own partition, and
    of those whose halo it is in.

    Args:
        candidates: N samples.
        aim: what is to be picked of all of them.
        settings: of the graph; its memory is that of the edges to all picks.
        run: of it ``hand_out``, which gets the partitions, and ``progress``.
    Raises:
        InputError: the edges to what is picked do not fit the memory.
    """
    features = candidates.vectors("neighbor_confidence")
    regions = cut(candidates, features, division, run, unit=settings.metric == "cosine")
    picks_pc = _picks_of(regions, aim, candidates.kept[candidates.order_n], division.oversample)
    blocks = _blocks_of(candidates, features, aim, settings, regions, picks_pc)
    answers = [*run.hand_out("partitions", f"{__name__}:pick_in_partition", blocks)]
    _check_room(answers, blocks, settings)
    load_n = np.zeros(len(candidates))
    for region, answer in zip(regions, answers, strict=True):
        load_n[region.members] += answer["load"]
    second = second_round(regions, answers, [answer["owners"] for answer in answers])
    graph = Graph(WholeRows(second.edges), second.figures, second.way)
    return Picker(graph, aim, load_n, second.picked, run.progress), graph


def _picks_of(regions: Sequence[Region], aim: Aim, kept_n: np.ndarray, oversample: float) -> np.ndarray:
    """Return (P, C) int64 how many of each class each partition picks."""
    if len(aim.turns_k):
        wanted_c = np.bincount(aim.turns_k[: aim.count], minlength=aim.n_classes)
    else:
        wanted_c = taken_by_turns(np.bincount(aim.codes_n[~kept_n], minlength=aim.n_classes), aim.count)
    return shares(regions, np.where(kept_n, -1, aim.codes_n), wanted_c, oversample)


def _blocks_of(
    candidates: Candidates, features: Features, aim: Aim, settings: GraphSettings, regions: Sequence[Region], picks_pc: np.ndarray
) -> list[Block]:
    spread = {} if settings.metric == "cosine" else _spread(features, candidates.order_n)

    def gatherer(region: Region, picks_c: np.ndarray) -> Callable[[], Arrays]:
        return lambda: {
            **arrays_of(candidates, features, region),
            "c": aim.c_n[region.members],
            "codes": aim.codes_n[region.members],
            "turns": class_turns(picks_c, np.zeros_like(picks_c), settings.seed),
            **spread,
        }

    members = sum(len(region.core) + len(region.halo) for region in regions)
    blocks = []
    for number, (region, picks_c) in enumerate(zip(regions, picks_pc, strict=True)):
        share = (len(region.core) + len(region.halo)) / max(1, members)
        room = int(min(1.0, _ROOM * share) * settings.memory // settings.edge_bytes)
        values = {"rule": aim.rule, "graph": dataclasses.asdict(settings), "room": room}
        n_members, n_features = len(region.members), features.shape[1]
        nbytes = settings.memory // len(regions) + 24 * n_members * n_features
        flops = 2.0 * n_members**2 * n_features
        blocks.append(Block(f"partition {number}", values, gatherer(region, picks_c), nbytes, flops))
    return blocks


def _check_room(answers: Sequence[Arrays], blocks: Sequence[Block], settings: GraphSettings) -> None:
    memory, width = settings.memory, settings.edge_bytes
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
    for _, block in read_batches(features, _CHUNK, by_id):
        total_d += block.sum(axis=0, dtype=np.float64)
    mean_d = total_d / max(1, n_samples)
    for _, block in read_batches(features, _CHUNK, by_id):
        squares += float(((block - mean_d) ** 2).sum())
    return {"mean": mean_d, "scale": np.array([squares / max(1, n_samples)])}
