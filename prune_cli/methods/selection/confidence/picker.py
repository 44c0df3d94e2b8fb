"""One greedy run by neighbor confidence: the heaps, the graph that it goes over, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_cli.core.progress import Progress, silent
from prune_cli.methods.selection.confidence.graph import Graph
from prune_cli.methods.selection.confidence.loops import (
    DONE,
    Heaps,
    Keys,
    Loads,
    Picks,
    compile_exact,
    compile_reference,
    compile_value,
    log_gains,
)
from prune_cli.methods.selection.greedy import compile_heap

Rule = Literal["exact", "reference"]


@dataclass(frozen=True)
class Aim:
    """What is to be picked. Samples are numbered by ascending id.

    Args:
        rule: what a pick is worth.
        c_n: (N,) float64 confidence of each sample, divided by eta.
        codes_n: (N,) int64 class of each sample, 0 to C - 1.
        turns_k: (count,) int64 class of each pick; empty: the classes take turns evenly.
        count: how many are picked at most.
    """

    rule: Rule
    c_n: np.ndarray
    codes_n: np.ndarray
    turns_k: np.ndarray
    count: int

    @property
    def n_classes(self) -> int:
        """C."""
        return int(self.codes_n.max(initial=0)) + 1


class Picker:
    """One greedy run.

    Args:
        graph: the neighbors of all samples, or at least those of the free ones.
        aim: what is to be picked.
        load_n: (N,) float64 what lies around each sample before the first pick; it grows in place.
        free: (F,) int64 the samples that may be picked, ascending.
    """

    def __init__(self, graph: Graph, aim: Aim, load_n: np.ndarray, free: np.ndarray, progress: Progress = silent) -> None:
        n_samples, n_classes = len(aim.c_n), aim.n_classes
        self._rows, self._aim, self._progress = graph.rows, aim, progress
        self._loads = Loads(aim.c_n, load_n, np.exp(-2 * load_n))
        self.picks = Picks(np.zeros(aim.count, np.int64), np.zeros(aim.count))
        sizes_g = np.bincount(aim.codes_n[free], minlength=n_classes)
        heap = free[np.argsort(aim.codes_n[free], kind="stable")]
        first_g, used_g = np.cumsum(sizes_g) - sizes_g, np.zeros(n_classes, np.int64)
        left_g = (sizes_g == 0).astype(np.int64)  # a class without a sample to pick never was in turn
        self._heaps = Heaps(heap, first_g, sizes_g, used_g, left_g, aim.turns_k, np.zeros(4, np.int64))
        self._keys = Keys(np.full(n_samples, -np.inf), np.zeros(n_samples, np.int64), np.zeros(n_samples, np.int64))
        self._fill_keys(free)
        build = compile_heap()[1]
        for first, size in zip(first_g, sizes_g, strict=True):
            build(heap[first : first + size], self._keys.keys_n)

    @property
    def load_n(self) -> np.ndarray:
        """(N,) float64 what lies around each sample after the picks so far."""
        return self._loads.load_n

    def until(self, count: int) -> None:
        """Pick until so many are picked."""
        step: Callable[..., int] = compile_reference() if self._aim.rule == "reference" else compile_exact()
        state = self._heaps.state
        while state[DONE] < count:
            stop = min(count, int(state[DONE]) + max(1000, self._aim.count // 50))
            wanted = step(self._rows.edges, self._loads, self._keys, self._heaps, self.picks, stop)
            if wanted >= 0:
                self._rows.fetch(self._likely(wanted))
            self._progress("picks", int(state[DONE]), self._aim.count)

    def _fill_keys(self, free: np.ndarray) -> None:
        """Fill the keys before the first pick."""
        c_n, load_n, _ = self._loads
        if self._aim.rule == "reference":
            self._keys.keys_n[free] = log_gains(load_n[free], c_n[free])
            return
        done, is_free = 0, np.zeros(len(c_n), bool)
        is_free[free] = True
        for here in self._rows.blocks():
            compile_value()(self._rows.edges, self._loads, self._keys, here[is_free[here]])
            done += len(here)
            if len(here) < len(c_n):
                self._progress("first gains", done, len(c_n))

    def _likely(self, first: int) -> np.ndarray:
        """Return the sample whose row is wanted, and those that are likely next: the best of each class."""
        heaps = self._heaps
        parts = zip(heaps.first_g, heaps.sizes_g, strict=True)
        live = np.concatenate([heaps.heap[start : start + size] for start, size in parts])
        live = live[(self._rows.edges.begin_n[live] < 0) & (live != first)]
        if self._aim.rule == "reference":
            keys = log_gains(self._loads.load_n[live], self._loads.c_n[live])
        else:
            keys = self._keys.keys_n[live]
        best = live[np.argsort(-keys, kind="stable")]
        codes = self._aim.codes_n[best]
        by_class = np.argsort(codes, kind="stable")
        sizes = np.bincount(codes, minlength=len(heaps.first_g))
        rank = np.empty(len(best), np.int64)
        rank[by_class] = np.arange(len(best)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        likely: np.ndarray = np.r_[first, best[np.argsort(rank, kind="stable")][: self._rows.height - 1]]
        return likely
