"""Prune4ReL: keep the samples whose confident neighbors will correct the labels around them, when some labels are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.params import param
from prune_cli.core.runtime import available_memory
from prune_cli.engines.engine import BlockWork
from prune_cli.methods.selection.capabilities import ProblemSize
from prune_cli.methods.selection.classes import class_numbers, in_each_class
from prune_cli.methods.selection.confidence.graph import EXACT_ROWS, Graph, GraphSettings, find_graph, is_approximate
from prune_cli.methods.selection.confidence.partitions import pick_over_partitions
from prune_cli.methods.selection.confidence.picker import Aim, Picker
from prune_cli.methods.selection.contract import Candidates, Choice, Extra, Features, Ranking, Run, read_batches
from prune_cli.methods.selection.coverage.covers import kept_and_free
from prune_cli.methods.selection.greedy import Partitioned, overlap_param, oversample_param, parts_param
from prune_cli.methods.selection.neighbors.graph import graph_work
from prune_cli.methods.selection.neighbors.nearest import refuse_one_direction
from prune_cli.methods.selection.neighbors.tiles import prepare_similarity, resolve_precision

_CHUNK = 65_536
_SHARE_OF_EDGES = 0.8  # of the memory that may be used


@dataclass(frozen=True)
class NeighborConfidenceParams(Partitioned):
    """Parameters of ``neighbor_confidence``."""

    rule: Literal["exact", "reference"] = param(
        "exact", "what a pick is worth: to all samples near it (exact), or by its own confidence (reference, as published)"
    )
    tau: float = param(0.975, "similarity above which two samples are neighbors; .975 means a cosine above .95", low=0.0)
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
    parts: int | None = parts_param()
    overlap: float = overlap_param()
    oversample: float = oversample_param()

    def by_angle(self) -> bool:
        """Return whether vectors are divided by their lengths."""
        return self.metric == "cosine"

    def extra_bytes(self, problem: ProblemSize) -> int:
        """Return the bytes of the vectors at length 1, and of the edges."""
        return problem.held + problem.memory

    def block_work(self, problem: ProblemSize) -> BlockWork:
        """Return what the blocks of the graph, or the partitions, come to."""
        division, width = self.division, problem.width
        inside = problem.rows if division is None else sum(division.sizes(problem.rows))
        found = graph_work(inside, width, self.probes if is_approximate(self.neighbors, inside) else None)
        if division is None:
            return found
        return BlockWork(division.count, found.nbytes + 20 * inside * width, division.count * found.flops)

    def plan(self, problem: ProblemSize) -> dict[str, Any]:
        """Return in words how neighbors are found, and what the edges may take."""
        rows = problem.rows if self.division is None else -(-problem.rows // self.division.count)
        found = "cells near each other (ivf)" if is_approximate(self.neighbors, rows) else "all pairs"
        words = f"{found}; all pairs up to {EXACT_ROWS:,} rows. Where the edges do not fit, rows are computed as they are needed"
        return {"neighbors": words, "edges_at_most_bytes": problem.memory}


def confidences(probabilities: Features, which: str, order_n: np.ndarray) -> np.ndarray:
    """Return (N,) float64 confidence of each sample, 0 to 1, from its probabilities, read block by block.

    Args:
        probabilities: (N, C), rows that sum to 1.
        which: ``max``, ``margin`` (largest less second largest) or ``entropy`` (1 - H / log C: sure is high).
    Example:
        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> probs = ArrayFeatures(np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]], np.float32))
        >>> [confidences(probs, which, np.arange(2)).round(3).tolist() for which in ("max", "margin", "entropy")]
        [[0.5, 1.0], [0.25, 1.0], [0.054, 1.0]]
    """
    found = np.empty(probabilities.shape[0])
    for positions, block in read_batches(probabilities, _CHUNK, order_n):
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
    candidates: Candidates, params: NeighborConfidenceParams = NeighborConfidenceParams(), run: Run = Run()
) -> Choice:
    r"""Return the samples in the greedy order of what they add to the confidence around all samples.

    ``s(x, v) = 1/2 + cos / 2`` counts where it exceeds ``tau``; ``N(x; S) = sum_{v in S} s(x, v) C(v)`` is the confidence around x, itself
    included, and the objective is ``F(S) = sum_x tanh(N(x; S) / eta)``: monotone, submodular. A pick of the rule ``exact`` has the
    largest ``F(S + v) - F(S)``, within 1 - 1/e of the best possible; one of ``reference`` the largest
    ``tanh((N(v) + C(v)) / eta) - tanh(N(v) / eta)``. Gains are compared as logarithms, so that they never saturate. With
    ``balance=labels`` classes take turns, each with its best sample. A class that has none left when it is its turn leaves; if
    at that moment any class has given more than 1.5 times what the first that left had, turns end.

    With ``parts`` it is greedy within partitions of near samples, then among what these picked: see partitions.py.

    Args:
        candidates: the samples; of them ``features``, ``probabilities``, ``kept`` and with ``balance=labels`` ``codes_n``.
        run: of it ``counts``, the largest of which is how many are ranked; ``seed``, which draws what cells are made from, with
            ``ivf``, and the samples that memory is judged by; ``device``, where products run; ``per_class``: classes take turns in
            proportion to their sizes, whatever ``balance`` says; ``memory``, bytes the edges may take: where they do not fit, rows
            are computed as they are needed, in blocks; ``hand_out``, which gets partitions, or blocks of the graph; ``progress``.
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
        >>> chosen = neighbor_confidence_order(samples, NeighborConfidenceParams(balance="none"), Run([3]))
        >>> chosen.rankings[0].order_n.tolist(), round(chosen.extras[0].figures["objective"], 2)
        ([0, 3, 4], 3.4)
    """
    if not 0 < params.tau < 1:
        raise InputError(f"tau is {params.tau:g}, not between 0 and 1", "a cosine above .95 is -p tau=0.975")
    vectors = candidates.vectors("neighbor_confidence")
    if params.metric == "cosine":
        refuse_one_direction(vectors, "neighbor_confidence", ", or pass -p metric=euclidean")
    aim = _aim_of(candidates, params, run)
    settings = GraphSettings(
        params.tau, params.metric, resolve_precision(params.precision, len(candidates)), params.neighbors, params.probes,
        run.seed, run.device, run.memory if run.memory is not None else int(_SHARE_OF_EDGES * available_memory()),
    )  # fmt: skip
    if params.division is not None:
        picker, graph = pick_over_partitions(candidates, aim, settings, params.division, run)
    else:
        picker, graph = _pick_over_all(candidates, aim, settings, run)
    by_id, extras = candidates.order_n, {}
    for k in sorted(set(run.counts)):
        picker.until(k)
        around_n = np.empty(len(candidates))
        around_n[by_id] = picker.load_n * params.eta
        figures = {"objective": float(np.tanh(picker.load_n).sum()), **graph.figures}
        extras[k] = Extra({"neighbor_confidence": around_n}, figures, graph.way)
    ranking = Ranking(by_id[picker.picks.picked_k], gain_n=picker.picks.gains_k)
    return Choice((ranking,) * len(run.counts), extras=tuple(extras[k] for k in run.counts))


def _aim_of(candidates: Candidates, params: NeighborConfidenceParams, run: Run) -> Aim:
    """Return what is to be picked.

    Raises:
        InputError: there are no probabilities, or no labels where classes take turns.
    """
    if candidates.probabilities is None:
        raise InputError(
            "neighbor_confidence needs probabilities",
            "pass --features FILE with columns 'embedding' and 'prob' (prune score --save-features), or --probabilities FILE",
        )
    codes_n, turns_k, by_id = None, np.zeros(0, np.int64), candidates.order_n
    if run.per_class:
        codes_n, turns_k = class_numbers(candidates), in_each_class(candidates, run.counts, run.seed)[0]
    elif params.balance == "labels":
        codes_n = candidates.codes("neighbor_confidence with balance=labels")
    classes_n = np.zeros(len(by_id), np.int64) if codes_n is None else np.unique(codes_n[by_id], return_inverse=True)[1]
    c_n = confidences(candidates.probabilities, params.confidence, by_id)[by_id] / params.eta
    return Aim(params.rule, c_n, classes_n, turns_k, max(run.counts, default=0))


def _pick_over_all(candidates: Candidates, aim: Aim, settings: GraphSettings, run: Run) -> tuple[Picker, Graph]:
    by_id = candidates.order_n
    features_nd = candidates.vectors("neighbor_confidence").array()
    if not np.array_equal(by_id, np.arange(len(by_id))):
        features_nd = features_nd[by_id]
    similarity = prepare_similarity(features_nd, settings.metric, settings.precision, settings.device)
    graph = find_graph(similarity, settings, run)
    kept_n, free = kept_and_free(candidates)
    load_n = graph.loads_of(np.flatnonzero(kept_n), aim.c_n)
    return Picker(graph, aim, load_n, free, run.progress), graph
