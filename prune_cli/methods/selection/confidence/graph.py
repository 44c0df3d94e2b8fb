"""The graph that confidence spreads over: built whole where it fits the memory, else row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from prune_cli.core.runtime import format_size
from prune_cli.methods.selection.contract import Run
from prune_cli.methods.selection.neighbors.graph import build_graph, make_cells
from prune_cli.methods.selection.neighbors.nearest import Metric
from prune_cli.methods.selection.neighbors.rows_on_demand import RowsOnDemand, mean_degree, recall
from prune_cli.methods.selection.neighbors.tiles import Edges, Precision, Similarity, edge_bytes

EXACT_ROWS = 262_144
"""Up to this many samples ``neighbors=auto`` compares all pairs."""


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

    @property
    def edge_bytes(self) -> int:
        """Bytes of an edge in one direction."""
        return edge_bytes(np.float64 if self.precision == "float64" else np.float32)


class WholeRows:
    """Rows that are all there; asked for as `RowsOnDemand` is."""

    def __init__(self, edges: Edges) -> None:
        self.edges, self.height = edges, len(edges.begin_n)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all samples."""
        yield np.arange(self.height)

    def fetch(self, wanted: np.ndarray) -> int:
        """Return how many samples those wanted are: their rows are there."""
        return len(wanted)

    def forget(self) -> None:
        """Keep all rows."""


@dataclass(frozen=True)
class Graph:
    """The neighbors of samples numbered by ascending id.

    Args:
        rows: give who is near whom; those on demand have not all samples at a time.
        figures: what there is to say of it: ``edges`` and, of ivf, ``recall``.
        way: how it was found, in words.
    """

    rows: WholeRows | RowsOnDemand
    figures: dict[str, float] = field(default_factory=dict)
    way: str = ""

    @property
    def edges(self) -> Edges:
        """The rows that are there."""
        return self.rows.edges

    def loads_of(self, kept: np.ndarray, c_n: np.ndarray) -> np.ndarray:
        """Return (N,) what some samples give to those around them, and to themselves."""
        load_n, edges = np.zeros(len(c_n)), self.edges
        for start in range(0, len(kept), 1024):
            some = kept[start : start + 1024]
            self.rows.forget()
            for sample in some:
                if edges.begin_n[sample] < 0:
                    self.rows.fetch(some[np.searchsorted(some, sample) :])
                row = slice(edges.begin_n[sample], edges.end_n[sample])
                load_n[edges.samples_e[row]] += edges.similarities_e[row] * c_n[sample]
                load_n[sample] += c_n[sample]
        return load_n

    def edges_of(self, chosen: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows of some samples: (K,) how many neighbors each has, then who, and how near.

        Of more than ``room`` neighbors none are returned, only how many there are.
        """
        counts_k, edges = np.zeros(len(chosen), np.int64), self.edges
        most = min(room, len(chosen) * len(edges.begin_n))  # pages are taken as they are written
        samples, similarities = np.empty(most, np.int32), np.empty(most, edges.similarities_e.dtype)
        done = used = 0
        while done < len(chosen):
            self.rows.forget()
            until = done + self.rows.fetch(chosen[done : done + 1024])
            here = chosen[done:until]
            counts_k[done:until] = edges.counts_of(here)
            end = used + int(counts_k[done:until].sum())
            if end <= room:
                places = edges.places_of(here)
                samples[used:end], similarities[used:end] = edges.samples_e[places], edges.similarities_e[places]
            done, used = until, end
        fits = used if used <= room else 0
        return counts_k, samples[:fits], similarities[:fits]


def find_graph(similarity: Similarity, settings: GraphSettings, run: Run) -> Graph:
    """Return the graph of the samples, built where its edges fit the memory, else to be computed as rows are needed.

    Args:
        similarity: N samples.
        run: of it ``progress`` and ``hand_out``, which gets blocks of the graph that is built; rows that are needed one by one are
            computed here.
    """
    n_samples, seed, memory, tau = len(similarity), settings.seed, settings.memory, settings.tau
    approximate = is_approximate(settings.neighbors, n_samples)
    cells = make_cells(similarity, settings.probes, seed, run.progress) if approximate and n_samples else None
    width = edge_bytes(similarity.rows_nd.dtype)
    expected = mean_degree(similarity, tau, seed) * n_samples * width
    edges = None
    if expected < 1.2 * memory:
        edges = build_graph(similarity, tau, run, max_bytes=memory, cells=cells)
    if edges is not None:
        figures = {"edges": float(len(edges.samples_e) // 2)}
        if approximate:
            figures["recall"] = recall(similarity, tau, edges, seed)
        found = "cells of nearby samples (ivf)" if approximate else "all pairs"
        return Graph(WholeRows(edges), figures, f"neighbors by {found}")
    on_demand = RowsOnDemand(similarity, tau, memory)
    way = f"all pairs, rows computed as needed: about {format_size(expected)} of edges, {format_size(memory)} allowed"
    return Graph(on_demand, {"edges": expected / width / 2}, way)
