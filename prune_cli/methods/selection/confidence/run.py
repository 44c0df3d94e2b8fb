"""One greedy run by neighbor confidence: the graph it goes over, whole or row by row, the heaps, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import format_size
from prune_cli.engines.handout import MapBlocks
from prune_cli.methods.selection.confidence import greedy as greedy
from prune_cli.methods.selection.greedy.lazy import compile_heap
from prune_cli.methods.selection.neighbors.cells import make_cells
from prune_cli.methods.selection.neighbors.graph import build_graph
from prune_cli.methods.selection.neighbors.nearest import Metric
from prune_cli.methods.selection.neighbors.rows_on_demand import RowsOnDemand, mean_degree, recall
from prune_cli.methods.selection.neighbors.similarity import Precision, Rows, Similarity, edge_bytes, ranges

EXACT_ROWS = 262_144
"""Up to this many samples ``neighbors=auto`` compares all pairs."""

Rule = Literal["exact", "reference"]


def is_approximate(neighbors: str, n_samples: int) -> bool:
    """Return whether the neighbors of so many samples are looked for in cells, where ``auto``, ``exact`` or ``ivf`` says how."""
    return neighbors == "ivf" or (neighbors == "auto" and n_samples > EXACT_ROWS)


@dataclass(frozen=True)
class GraphSettings:
    """What a graph of neighbors depends on beside the samples: plain values.

    Args:
        tau: similarity above which two samples are neighbors.
        metric, precision: of the similarities.
        neighbors, probes: how neighbors are found.
        seed: draws the cells of ivf, and the samples that memory is judged by.
        device: where products run.
        memory: bytes the edges may take.
    """

    tau: float
    metric: Metric
    precision: Precision
    neighbors: Literal["auto", "exact", "ivf"]
    probes: int
    seed: int
    device: str
    memory: int

    def approximate(self, n_samples: int) -> bool:
        """Return whether the neighbors of so many samples are looked for in cells."""
        return is_approximate(self.neighbors, n_samples)


@dataclass(frozen=True)
class Graph:
    """The neighbors of samples numbered by ascending id.

    Args:
        rows: who is near whom; of some samples not there yet where ``on_demand`` computes them.
        on_demand: gives the rows that are missing, or None.
        figures: what there is to say of it: ``edges`` and, of ivf, ``recall``.
        way: how it was found, in words.
    """

    rows: Rows
    on_demand: RowsOnDemand | None = None
    figures: dict[str, float] = field(default_factory=dict)
    way: str = ""

    def loads_of(self, kept: np.ndarray, c_n: np.ndarray) -> np.ndarray:
        """Return (N,) what some samples give to those around them, and to themselves."""
        load_n = np.zeros(len(c_n))
        for start in range(0, len(kept), 1024):
            some = kept[start : start + 1024]
            if self.on_demand is not None:
                self.on_demand.forget()
            for sample in some:
                if self.rows.begin_n[sample] < 0 and self.on_demand is not None:
                    self.on_demand.fetch(some[np.searchsorted(some, sample) :])
                edges = slice(self.rows.begin_n[sample], self.rows.end_n[sample])
                load_n[self.rows.samples_e[edges]] += self.rows.similarities_e[edges] * c_n[sample]
                load_n[sample] += c_n[sample]
        return load_n

    def edges_of(self, chosen: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows of some samples: (K,) how many neighbors each has, then who, and how near.

        Of more than ``room`` neighbors none are returned, only how many there are.
        """
        counts_k = np.zeros(len(chosen), np.int64)
        most = min(room, len(chosen) * len(self.rows.begin_n))  # pages are taken as they are written
        samples, similarities = np.empty(most, np.int32), np.empty(most, self.rows.similarities_e.dtype)
        done = used = 0
        while done < len(chosen):
            until = min(len(chosen), done + 1024)
            if self.on_demand is not None:
                self.on_demand.forget()
                until = done + self.on_demand.fetch(chosen[done:])
            begin = self.rows.begin_n[chosen[done:until]]
            counts_k[done:until] = self.rows.end_n[chosen[done:until]] - begin
            end = used + int(counts_k[done:until].sum())
            if end <= room:
                places = ranges(begin, counts_k[done:until])
                samples[used:end], similarities[used:end] = (
                    self.rows.samples_e[places],
                    self.rows.similarities_e[places],
                )
            done, used = until, end
        fits = used if used <= room else 0
        return counts_k, samples[:fits], similarities[:fits]


def find_graph(
    similarity: Similarity, settings: GraphSettings, progress: Progress = silent, map_blocks: MapBlocks | None = None
) -> Graph:
    """Return the graph of the samples, built where its edges fit the memory, else to be computed as rows are needed.

    Args:
        similarity: N samples.
        settings: how.
        progress: told how far it is.
        map_blocks: hands out blocks of the graph that is built; rows that are needed one by one are computed here.
    """
    n_samples, seed, memory = len(similarity), settings.seed, settings.memory
    approximate = settings.approximate(n_samples)
    cells = make_cells(similarity, settings.probes, seed, progress) if approximate and n_samples else None
    expected = mean_degree(similarity, settings.tau, seed) * n_samples * edge_bytes(similarity.rows_nd.dtype)
    rows = None
    if expected < 1.2 * memory:
        rows = build_graph(
            similarity, settings.tau, max_bytes=memory, cells=cells, progress=progress, map_blocks=map_blocks
        )
    if rows is not None:
        figures = {"edges": float(len(rows.samples_e) // 2)}
        if approximate:
            figures["recall"] = recall(similarity, settings.tau, rows, seed)
        return Graph(
            rows, None, figures, f"neighbors by {'cells of nearby samples (ivf)' if approximate else 'all pairs'}"
        )
    on_demand = RowsOnDemand(similarity, settings.tau, memory)
    way = f"all pairs, rows computed as needed: about {format_size(expected)} of edges, {format_size(memory)} allowed"
    return Graph(on_demand.rows, on_demand, {"edges": expected / edge_bytes(similarity.rows_nd.dtype) / 2}, way)


class ConfidenceRun:
    """One greedy run. Samples are numbered by ascending id.

    Args:
        graph: the neighbors of all samples, or at least those of the free ones.
        rule: what a pick is worth.
        c_n: (N,) float64 confidence of each sample, divided by eta.
        load_n: (N,) float64 what lies around each sample before the first pick; it grows in place.
        free: (F,) int64 the samples that may be picked, ascending.
        codes_n: (N,) int64 class of each sample.
        turns_k: (count,) int64 class of each pick; empty: the classes take turns evenly.
        count: how many are picked at most.
    """

    def __init__(
        self,
        graph: Graph,
        rule: Rule,
        c_n: np.ndarray,
        load_n: np.ndarray,
        free: np.ndarray,
        codes_n: np.ndarray,
        turns_k: np.ndarray,
        count: int,
        progress: Progress = silent,
    ) -> None:
        n_samples = len(c_n)
        self.rows, self.on_demand = graph.rows, graph.on_demand
        self.c_n, self.rule, self.progress, self.count = c_n, rule, progress, count
        self.load_n, self.rest_n = load_n, np.exp(-2 * load_n)
        self.picked_k, self.gains_k = np.zeros(count, np.int64), np.zeros(count)
        self.state = np.zeros(4, np.int64)
        self.codes_n, self.turns_k = codes_n, turns_k
        by_class = np.argsort(self.codes_n[free], kind="stable")
        self.heap = free[by_class]
        n_classes = int(self.codes_n.max(initial=0)) + 1
        self.sizes_g = np.bincount(self.codes_n[free], minlength=n_classes)
        self.first_g = np.cumsum(self.sizes_g) - self.sizes_g
        self.used_g = np.zeros(n_classes, np.int64)
        self.keys_n = np.full(n_samples, -np.inf)
        self.known_n, self.changed_n = np.zeros(n_samples, np.int64), np.zeros(n_samples, np.int64)
        self._value(free)
        build = compile_heap()[1]
        for first, size in zip(self.first_g, self.sizes_g, strict=True):
            build(self.heap[first : first + size], self.keys_n)

    def _edges(self) -> tuple[np.ndarray, ...]:
        return self.rows.begin_n, self.rows.end_n, self.rows.samples_e, self.rows.similarities_e

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
