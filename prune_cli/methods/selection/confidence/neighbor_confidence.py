"""Prune4ReL: keep the samples whose confident neighbors will correct the labels around them, when some labels are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.params import param
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import available_memory
from prune_cli.engines.block import BlockWork
from prune_cli.engines.handout import MapBlocks
from prune_cli.methods.selection.confidence.partitions import run_over_partitions
from prune_cli.methods.selection.confidence.run import (
    EXACT_ROWS,
    ConfidenceRun,
    Graph,
    GraphSettings,
    find_graph,
    is_approximate,
)
from prune_cli.methods.selection.contract import (
    Candidates,
    Choice,
    Extra,
    Features,
    Ranking,
    class_numbers,
    in_each_class,
    read_parts,
)
from prune_cli.methods.selection.greedy.partitions import sizes_of
from prune_cli.methods.selection.neighbors.graph import graph_work
from prune_cli.methods.selection.neighbors.similarity import prepare_similarity, resolve_precision

_CHUNK = 65_536
_SHARE_OF_EDGES = 0.8  # of the memory that may be used


@dataclass(frozen=True)
class NeighborConfidenceParams:
    """Parameters of ``neighbor_confidence``."""

    rule: Literal["exact", "reference"] = param(
        "exact",
        "what a pick is worth: to all samples near it (exact), or by its own confidence (reference, as published)",
    )
    tau: float = param(
        0.975, "similarity above which two samples are neighbors; .975 means a cosine above .95", low=0.0
    )
    eta: float = param(1.0, "how much confidence around a sample is enough", low=1e-9)
    balance: Literal["labels", "none"] = param("labels", "classes take turns, by the given labels")
    confidence: Literal["max", "margin", "entropy"] = param(
        "max", "highest probability, its lead over the second, or 1 less the entropy over log C"
    )
    metric: Literal["cosine", "euclidean"] = param("cosine", "similarity of two samples: 1/2 + cos / 2, or by distance")
    neighbors: Literal["auto", "exact", "ivf"] = param(
        "auto", "compare all pairs, or (ivf, auto beyond 262,144 rows) those in cells near each other"
    )
    probes: int = param(16, "with ivf, how many cells each cell is compared with", low=1)
    precision: Literal["auto", "float32", "float64", "bfloat16"] = param(
        "auto", "of the similarities: float64 up to 16,384 rows, float32 beyond"
    )
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

    def block_work(self, rows: int, width: int, classes: int, counts: Sequence[int]) -> BlockWork:
        """Return what the blocks of the graph, or the partitions, come to."""
        inside = rows if self.parts is None else sum(sizes_of(self.parts, self.overlap, rows))
        approximate = is_approximate(self.neighbors, inside)
        found = graph_work(inside, width, self.probes if approximate else None)
        if self.parts is None or self.parts == 1:
            return found
        return BlockWork(self.parts, found.nbytes + 20 * inside * width, self.parts * found.flops)


def confidences(probabilities: Features, which: str, order_n: np.ndarray) -> np.ndarray:
    """Return (N,) float64 confidence of each sample, 0 to 1, from its probabilities, read block by block.

    Args:
        probabilities: (N, C), rows that sum to 1.
        which: ``max``, ``margin`` (largest less second largest) or ``entropy`` (1 - H / log C: sure is high).
        order_n: the order to read them in.
    Example:
        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> probs = ArrayFeatures(np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]], np.float32))
        >>> [confidences(probs, which, np.arange(2)).round(3).tolist() for which in ("max", "margin", "entropy")]
        [[0.5, 1.0], [0.25, 1.0], [0.054, 1.0]]
    """
    found = np.empty(probabilities.shape[0])
    for positions, block in read_parts(probabilities, _CHUNK, order_n):
        probs_bc = block.astype(np.float64)
        if which == "max":
            found[positions] = probs_bc.max(axis=1)
        elif which == "margin":
            top = np.partition(probs_bc, -2, axis=1)[:, -2:] if probs_bc.shape[1] > 1 else np.c_[0 * probs_bc, probs_bc]
            found[positions] = top[:, 1] - top[:, 0]
        else:
            logs = np.log(np.where(probs_bc > 0, probs_bc, 1.0))
            found[positions] = 1 + (probs_bc * logs).sum(axis=1) / np.log(max(2, probs_bc.shape[1]))
    return np.clip(found, 0.0, 1.0)


def neighbor_confidence_order(
    candidates: Candidates,
    params: NeighborConfidenceParams = NeighborConfidenceParams(),
    *,
    counts: Sequence[int],
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
    per_class: bool = False,
    memory: int | None = None,
    map_blocks: MapBlocks | None = None,
) -> Choice:
    r"""Return the samples in the greedy order of what they add to the confidence around all samples.

    ``s(x, v) = 1/2 + cos / 2`` counts where it exceeds ``tau``; ``N(x; S) = sum_{v in S} s(x, v) C(v)`` is the confidence around x, itself
    included, and the objective is ``F(S) = sum_x tanh(N(x; S) / eta)``: monotone, submodular. A pick of the rule ``exact`` has the
    largest ``F(S + v) - F(S)``, within 1 - 1/e of the best possible; one of ``reference`` the largest
    ``tanh((N(v) + C(v)) / eta) - tanh(N(v) / eta)``. Gains are compared as logarithms, so that they never saturate. With
    ``balance=labels`` classes take turns, each with its best sample; an empty class leaves, and once another has given more than 1.5 times
    what the first empty one had, turns end.

    With ``parts`` it is greedy within partitions of near samples, then among what these picked: see partitions.py.

    Args:
        candidates: the samples; of them ``features``, ``probabilities``, ``kept`` and with ``balance=labels`` ``codes_n``.
        params: see `NeighborConfidenceParams`.
        counts: the largest is how many are ranked.
        seed: draws what cells are made from, with ``ivf``, and the samples that memory is judged by.
        device: where products run.
        progress: told of the products, then of the picks.
        per_class: classes take turns in proportion to their sizes, whatever ``balance`` says.
        map_blocks: hands out partitions, or blocks of the graph; None: they run here.
        memory: bytes the edges may take; None: most of what is free. Where they do not fit, rows are computed as they are
            needed, in blocks.
    Returns:
        Choice of one ranking; its gain is what the rule says of a pick. With each count ``neighbor_confidence``, N of every sample
        for what is kept then, and the figures ``objective`` (F), ``edges`` and, of ivf, ``recall``; with
        ``parts`` these are over the edges that partitions saw to what they picked, and ``partitions`` is one of them.
    Raises:
        InputError: something is not at hand, tau is outside 0 to 1, or the edges to what partitions picked do not fit.
    Cost:
        N^2 D flops for the graph, each pair once (about N^1.5 D with ivf); then heaps: a sample's gain is brought up to
        date only at the top. 8 bytes an edge and direction, 12 up to 16,384 samples.
    Source:
        Park, Choi, Kim, Song, Lee, NeurIPS 2023, arXiv:2311.01002 (Prune4ReL); lazy greedy of Minoux 1978. ``reference`` is the
        rule of its published code; ``exact`` is the greedy algorithm its guarantee is about. Euclidean similarity is ours.
        Partitions: Mirzasoleiman, Karbasi, Sarkar, Krause, NIPS 2013 (GreeDi), arXiv:1411.0541. Deviations: partitions are of near
        samples, with halos, and pick a multiple of their share, not the whole budget; the answer is always that of the second round.
    Example:
        Two pairs and a lone sample; the more confident of a pair stands for both.

        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> rays = ArrayFeatures(np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [-1, 0]], np.float32))
        >>> sure = ArrayFeatures(np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.7, 0.3], [1, 0]], np.float32))
        >>> samples = Candidates(np.arange(5), features=rays, probabilities=sure)
        >>> chosen = neighbor_confidence_order(samples, NeighborConfidenceParams(balance="none"), counts=[3])
        >>> chosen.rankings[0].order_n.tolist(), round(chosen.extras[0].figures["objective"], 2)
        ([0, 3, 4], 3.4)
    """
    if not 0 < params.tau < 1:
        raise InputError(f"tau is {params.tau:g}, not between 0 and 1", "a cosine above .95 is -p tau=0.975")
    candidates.vectors("neighbor_confidence")
    if candidates.probabilities is None:
        raise InputError(
            "neighbor_confidence needs probabilities",
            "pass --features FILE with columns 'embedding' and 'prob' (prune score --save-features), or --probabilities FILE",
        )
    codes_n, turns_k = None, np.zeros(0, np.int64)
    if per_class:
        codes_n, turns_k = class_numbers(candidates), in_each_class(candidates, counts, seed)[0]
    elif params.balance == "labels":
        codes_n = candidates.codes("neighbor_confidence with balance=labels")
    by_id, count = candidates.order_n, max(counts, default=0)
    classes_n = np.zeros(len(by_id), np.int64) if codes_n is None else np.unique(codes_n[by_id], return_inverse=True)[1]
    c_n = confidences(candidates.probabilities, params.confidence, by_id)[by_id] / params.eta
    settings = GraphSettings(
        params.tau, params.metric, resolve_precision(params.precision, len(by_id)), params.neighbors, params.probes, seed,
        device, memory if memory is not None else int(_SHARE_OF_EDGES * available_memory()),
    )  # fmt: skip
    if params.parts is not None and params.parts > 1:
        run, graph = run_over_partitions(
            candidates, c_n, classes_n, turns_k, settings, rule=params.rule, count=count, n_parts=params.parts,
            overlap=params.overlap, oversample=params.oversample, map_blocks=map_blocks, progress=progress,
        )  # fmt: skip
    else:
        run, graph = _run_over_all(candidates, c_n, classes_n, turns_k, settings, params, count, progress, map_blocks)
    extras = {}
    for k in sorted(set(counts)):
        run.until(k)
        around_n = np.empty(len(candidates))
        around_n[by_id] = run.load_n * params.eta
        figures = {"objective": float(np.tanh(run.load_n).sum()), **graph.figures}
        extras[k] = Extra({"neighbor_confidence": around_n}, figures, graph.way)
    ranking = Ranking(by_id[run.picked_k], gain_n=run.gains_k)
    return Choice((ranking,) * len(counts), extras=tuple(extras[k] for k in counts))


def _run_over_all(
    candidates: Candidates,
    c_n: np.ndarray,
    classes_n: np.ndarray,
    turns_k: np.ndarray,
    settings: GraphSettings,
    params: NeighborConfidenceParams,
    count: int,
    progress: Progress,
    map_blocks: MapBlocks | None,
) -> tuple[ConfidenceRun, Graph]:
    by_id = candidates.order_n
    features_nd = candidates.vectors("neighbor_confidence").array()
    if not np.array_equal(by_id, np.arange(len(by_id))):
        features_nd = features_nd[by_id]
    similarity = prepare_similarity(features_nd, settings.metric, settings.precision, settings.device)
    graph = find_graph(similarity, settings, progress, map_blocks)
    kept_n = candidates.kept[by_id]
    load_n = graph.loads_of(np.flatnonzero(kept_n), c_n)
    free = np.flatnonzero(~kept_n)
    return ConfidenceRun(graph, params.rule, c_n, load_n, free, classes_n, turns_k, count, progress), graph


def neighbor_plan(params: NeighborConfidenceParams, n_samples: int) -> str:
    """Return in words how the neighbors of so many samples are found."""
    if params.parts is not None and params.parts > 1:
        n_samples = -(-n_samples // params.parts)
    approximate = is_approximate(params.neighbors, n_samples)
    found = "cells near each other (ivf)" if approximate else "all pairs"
    return f"{found}; all pairs up to {EXACT_ROWS:,} rows. Where the edges do not fit, rows are computed as they are needed"
