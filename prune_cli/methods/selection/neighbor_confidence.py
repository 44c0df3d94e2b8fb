"""Prune4ReL: keep the samples whose confident neighbors will correct the labels around them, when some labels are wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.params import param
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import available_memory, format_size
from prune_cli.methods.selection import confidence_greedy as greedy
from prune_cli.methods.selection.candidates import (
    Candidates,
    Choice,
    Extra,
    Features,
    Ranking,
    class_numbers,
    in_each_class,
)
from prune_cli.methods.selection.lazy_greedy import compile_heap
from prune_cli.methods.selection.similarity_graph import (
    Rows,
    RowsOnDemand,
    Similarity,
    build_graph,
    edge_bytes,
    make_cells,
    mean_degree,
    prepare_similarity,
    recall,
)

EXACT_ROWS = 262_144
"""Up to this many samples ``neighbors=auto`` compares all pairs."""

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


def confidences(probabilities: Features, which: str, order_n: np.ndarray) -> np.ndarray:
    """Return (N,) float64 confidence of each sample, 0 to 1, from its probabilities, read block by block.

    Args:
        probabilities: (N, C), rows that sum to 1.
        which: ``max``, ``margin`` (largest less second largest) or ``entropy`` (1 - H / log C: sure is high).
        order_n: the order to read them in.
    Example:
        >>> from prune_cli.methods.selection.candidates import ArrayFeatures
        >>> probs = ArrayFeatures(np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]], np.float32))
        >>> [confidences(probs, which, np.arange(2)).round(3).tolist() for which in ("max", "margin", "entropy")]
        [[0.5, 1.0], [0.25, 1.0], [0.054, 1.0]]
    """
    found = np.empty(probabilities.shape[0])
    for positions, block in probabilities.blocks(_CHUNK, order_n):
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
) -> Choice:
    r"""Return the samples in the greedy order of what they add to the confidence around all samples.

    ``s(x, v) = 1/2 + cos / 2`` counts where it exceeds ``tau``; ``N(x; S) = sum_{v in S} s(x, v) C(v)`` is the confidence around x, itself
    included, and the objective is ``F(S) = sum_x tanh(N(x; S) / eta)``: monotone, submodular. A pick of the rule ``exact`` has the
    largest ``F(S + v) - F(S)``, within 1 - 1/e of the best possible; one of ``reference`` the largest
    ``tanh((N(v) + C(v)) / eta) - tanh(N(v) / eta)``. Gains are compared as logarithms, so that they never saturate. With
    ``balance=labels`` classes take turns, each with its best sample; an empty class leaves, and once another has given more than 1.5 times
    what the first empty one had, turns end.

    Args:
        candidates: the samples; of them ``features``, ``probabilities``, ``kept`` and with ``balance=labels`` ``codes_n``.
        params: see `NeighborConfidenceParams`.
        counts: the largest is how many are ranked.
        seed: draws what cells are made from, with ``ivf``, and the samples that memory is judged by.
        device: where products run.
        progress: told of the products, then of the picks.
        per_class: classes take turns in proportion to their sizes, whatever ``balance`` says.
        memory: bytes the edges may take; None: most of what is free. Where they do not fit, rows are computed as they are
            needed, in blocks.
    Returns:
        Choice of one ranking; its gain is what the rule says of a pick. With each count ``neighbor_confidence``, N of every sample
        for what is kept then, and the figures ``objective`` (F), ``edges`` and, of ivf, ``recall``.
    Raises:
        InputError: something is not at hand, or tau is outside 0 to 1.
    Cost:
        N^2 D flops for the graph, each pair once (about N^1.5 D with ivf); then heaps: a sample's gain is brought up to
        date only at the top. 8 bytes an edge and direction, 12 up to 16,384 samples.
    Source:
        Park, Choi, Kim, Song, Lee, NeurIPS 2023, arXiv:2311.01002 (Prune4ReL); lazy greedy of Minoux 1978. ``reference`` is the
        rule of its published code; ``exact`` is the greedy algorithm its guarantee is about. Euclidean similarity is ours.
    Example:
        Two pairs and a lone sample; the more confident of a pair stands for both.

        >>> from prune_cli.methods.selection.candidates import ArrayFeatures
        >>> rays = ArrayFeatures(np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [-1, 0]], np.float32))
        >>> sure = ArrayFeatures(np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.7, 0.3], [1, 0]], np.float32))
        >>> samples = Candidates(np.arange(5), features=rays, probabilities=sure)
        >>> chosen = neighbor_confidence_order(samples, NeighborConfidenceParams(balance="none"), counts=[3])
        >>> chosen.rankings[0].order_n.tolist(), round(chosen.extras[0].figures["objective"], 2)
        ([0, 3, 4], 3.4)
    """
    if not 0 < params.tau < 1:
        raise InputError(f"tau is {params.tau:g}, not between 0 and 1", "a cosine above .95 is -p tau=0.975")
    vectors = candidates.vectors("neighbor_confidence")
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
    by_id = candidates.order_n
    confidence_n = confidences(candidates.probabilities, params.confidence, by_id)[by_id]
    features_nd = vectors.array()
    in_order = np.array_equal(by_id, np.arange(len(candidates)))
    similarity = prepare_similarity(
        features_nd if in_order else features_nd[by_id], params.metric, params.precision, device
    )
    run = _Run(
        similarity,
        confidence_n / params.eta,
        candidates.kept[by_id],
        np.zeros(len(by_id), np.int64) if codes_n is None else np.unique(codes_n[by_id], return_inverse=True)[1],
        turns_k,
        params,
        max(counts, default=0),
        seed,
        memory if memory is not None else int(_SHARE_OF_EDGES * available_memory()),
        progress,
    )
    extras = {}
    for count in sorted(set(counts)):
        run.until(count)
        around_n = np.empty(len(candidates))
        around_n[by_id] = run.load_n * params.eta
        figures = {"objective": float(np.tanh(run.load_n).sum()), **run.figures}
        extras[count] = Extra({"neighbor_confidence": around_n}, figures, run.way)
    ranking = Ranking(by_id[run.picked_k], gain_n=run.gains_k)
    return Choice((ranking,) * len(counts), extras=tuple(extras[count] for count in counts))


def _approximate(params: NeighborConfidenceParams, n_samples: int) -> bool:
    return params.neighbors == "ivf" or (params.neighbors == "auto" and n_samples > EXACT_ROWS)


def neighbor_plan(params: NeighborConfidenceParams, n_samples: int) -> str:
    """Return in words how the neighbors of so many samples are found."""
    found = "cells near each other (ivf)" if _approximate(params, n_samples) else "all pairs"
    return f"{found}; all pairs up to {EXACT_ROWS:,} rows. Where the edges do not fit, rows are computed as they are needed"


class _Run:
    """One greedy run: the rows of the graph, the heaps, and how far it is. Samples are numbered by ascending id."""

    def __init__(
        self,
        similarity: Similarity,
        c_n: np.ndarray,
        kept_n: np.ndarray,
        codes_n: np.ndarray,
        turns_k: np.ndarray,
        params: NeighborConfidenceParams,
        count: int,
        seed: int,
        memory: int,
        progress: Progress,
    ) -> None:
        n_samples = len(c_n)
        self.c_n, self.rule, self.progress, self.count = c_n, params.rule, progress, count
        self.load_n, self.rest_n = np.zeros(n_samples), np.ones(n_samples)
        self.picked_k, self.gains_k = np.zeros(count, np.int64), np.zeros(count)
        self.state = np.zeros(4, np.int64)
        self.figures: dict[str, float] = {}
        self.on_demand: RowsOnDemand | None = None
        self.rows = self._graph(similarity, params, seed, memory)
        self.codes_n, self.turns_k = codes_n, turns_k
        free = np.flatnonzero(~kept_n)
        by_class = np.argsort(self.codes_n[free], kind="stable")
        self.heap = free[by_class]
        n_classes = int(self.codes_n.max(initial=0)) + 1
        self.sizes_g = np.bincount(self.codes_n[free], minlength=n_classes)
        self.first_g = np.cumsum(self.sizes_g) - self.sizes_g
        self.used_g = np.zeros(n_classes, np.int64)
        self.keys_n = np.full(n_samples, -np.inf)
        self.known_n, self.changed_n = np.zeros(n_samples, np.int64), np.zeros(n_samples, np.int64)
        self._keep(np.flatnonzero(kept_n))
        self._value(free)
        build = compile_heap()[1]
        for first, size in zip(self.first_g, self.sizes_g, strict=True):
            build(self.heap[first : first + size], self.keys_n)

    def _graph(self, similarity: Similarity, params: NeighborConfidenceParams, seed: int, memory: int) -> Rows:
        n_samples = len(similarity)
        approximate = _approximate(params, n_samples)
        cells = make_cells(similarity, params.probes, seed, self.progress) if approximate and n_samples else None
        self.way = f"neighbors by {'cells of nearby samples (ivf)' if approximate else 'all pairs'}"
        expected = mean_degree(similarity, params.tau, seed) * n_samples * edge_bytes(similarity.rows_nd.dtype)
        rows = None
        if expected < 1.2 * memory:
            rows = build_graph(similarity, params.tau, max_bytes=memory, cells=cells, progress=self.progress)
        if rows is not None:
            self.figures["edges"] = float(len(rows.samples_e) // 2)
            if approximate:
                self.figures["recall"] = recall(similarity, params.tau, rows, seed)
            return rows
        self.on_demand = RowsOnDemand(similarity, params.tau, memory)
        self.figures["edges"] = expected / edge_bytes(similarity.rows_nd.dtype) / 2
        self.way = (
            f"all pairs, rows computed as needed: about {format_size(expected)} of edges, {format_size(memory)} allowed"
        )
        return self.on_demand.rows

    def _edges(self) -> tuple[np.ndarray, ...]:
        return self.rows.begin_n, self.rows.end_n, self.rows.samples_e, self.rows.similarities_e

    def _keep(self, kept: np.ndarray) -> None:
        """Add what samples that are kept already give to those around them."""
        for start in range(0, len(kept), 1024):
            some = kept[start : start + 1024]
            if self.on_demand is not None:
                self.on_demand.forget()
            for sample in some:
                if self.rows.begin_n[sample] < 0 and self.on_demand is not None:
                    self.on_demand.fetch(some[np.searchsorted(some, sample) :])
                edges = slice(self.rows.begin_n[sample], self.rows.end_n[sample])
                self.load_n[self.rows.samples_e[edges]] += self.rows.similarities_e[edges] * self.c_n[sample]
                self.load_n[sample] += self.c_n[sample]
        self.rest_n = np.exp(-2 * self.load_n)

    def _value(self, free: np.ndarray) -> None:
        """Fill the keys before the first pick."""
        if self.rule == "reference":
            self.keys_n[free] = log_gains(self.load_n[free], self.c_n[free])
            return
        value, _ = greedy.compile_exact()
        if self.on_demand is None:
            value(*self._edges(), self.c_n, self.load_n, self.rest_n, free, self.keys_n)
            return
        done, is_free = 0, np.zeros(len(self.c_n), bool)
        is_free[free] = True
        for wanted, _ in self.on_demand.blocks():
            there = wanted[is_free[wanted]]
            value(*self._edges(), self.c_n, self.load_n, self.rest_n, there, self.keys_n)
            done += len(wanted)
            self.progress("first gains", done, len(self.c_n))

    def until(self, count: int) -> None:
        """Pick until so many are picked."""
        step: Callable[..., int]
        if self.rule == "reference":
            step, own = greedy.compile_reference(), [self.keys_n]
        else:
            step, own = greedy.compile_exact()[1], [self.rest_n, self.keys_n, self.known_n, self.changed_n]
        heaps = (
            self.heap, self.first_g, self.sizes_g, self.used_g, self.turns_k, self.state, self.picked_k, self.gains_k,
        )  # fmt: skip
        while self.state[greedy.DONE] < count:
            stop = min(count, int(self.state[greedy.DONE]) + max(1000, self.count // 50))
            wanted = step(*self._edges(), self.c_n, self.load_n, *own, *heaps, stop)
            if wanted >= 0:
                assert self.on_demand is not None
                self.on_demand.fetch(self._likely(wanted))
            self.progress("picks", int(self.state[greedy.DONE]), self.count)

    def _likely(self, first: int) -> np.ndarray:
        """Return the sample whose row is wanted, and those that are likely next: the best of each class."""
        assert self.on_demand is not None
        n_classes = len(self.first_g)
        live = np.concatenate([self.heap[a : a + size] for a, size in zip(self.first_g, self.sizes_g, strict=True)])
        live = live[(self.rows.begin_n[live] < 0) & (live != first)]
        keys = log_gains(self.load_n[live], self.c_n[live]) if self.rule == "reference" else self.keys_n[live]
        height = self.on_demand.height - 1
        best = live[np.argsort(-keys, kind="stable")]
        codes = self.codes_n[best]
        by_class = np.argsort(codes, kind="stable")
        sizes = np.bincount(codes, minlength=n_classes)
        rank = np.empty(len(best), np.int64)
        rank[by_class] = np.arange(len(best)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        likely: np.ndarray = np.r_[first, best[np.argsort(rank, kind="stable")][:height]]
        return likely


def log_gains(load_n: np.ndarray, c_n: np.ndarray) -> np.ndarray:
    """Return ``log [tanh(a + c) - tanh(a)]`` of each, -inf where c is 0."""
    with np.errstate(divide="ignore"):
        rest = np.log1p(np.exp(-2 * load_n)) + np.log1p(np.exp(-2 * (load_n + c_n)))
        found: np.ndarray = np.log(-2 * np.expm1(-2 * c_n)) - 2 * load_n - rest
    return found
