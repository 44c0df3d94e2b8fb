"""The graph of what each sample covers, and the greedy picks that cover all samples best."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from prune_cli.methods.selection.contract import Candidates, Choice, Ranking, Run, nested
from prune_cli.methods.selection.greedy import compile_heap
from prune_cli.methods.selection.neighbors.nearest import Metric, refuse_one_direction, unit_rows
from prune_cli.methods.selection.neighbors.tiles import Edges

CHUNK = 65_536
"""Rows that sums are taken of at a time."""

FAST_SUMS = {"reassoc", "contract", "nsz"}
"""What lets compiled sums run in vector registers; no promise about NaN is broken."""


def rows_by_id(candidates: Candidates, method: str, metric: Metric) -> np.ndarray:
    """Return (N, D) float32 rows by ascending id, so that equal values go by id.

    Raises:
        InputError: no features at hand, or, for the cosine, all of one direction.
    """
    if metric == "cosine":
        refuse_one_direction(candidates.vectors(method), method, "")
    values_nd = candidates.vectors(method).array()
    in_order = np.arange(len(candidates))
    if not np.array_equal(candidates.order_n, in_order):
        values_nd = values_nd[candidates.order_n]
    return unit_rows(values_nd) if metric == "cosine" else np.ascontiguousarray(values_nd, np.float32)


def kept_and_free(candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) bool of those kept already and the free positions, both by ascending id."""
    kept = candidates.kept[candidates.order_n]
    return kept, np.flatnonzero(~kept)


def choice_of(candidates: Candidates, picked_k: np.ndarray, gains_k: np.ndarray, run: Run) -> Choice:
    """Return the choice of a method that picked rows by ascending id."""
    return nested(Ranking(candidates.order_n[picked_k], gain_n=gains_k), run.counts)


def mean_row(rows_nd: np.ndarray) -> np.ndarray:
    """Return (D,) float64 mean of the rows."""
    total = np.zeros(rows_nd.shape[1])
    for start in range(0, len(rows_nd), CHUNK):
        total += rows_nd[start : start + CHUNK].sum(axis=0, dtype=np.float64)
    return total / max(1, len(rows_nd))


def covers_of(near_nk: np.ndarray, distances_nk: np.ndarray) -> Edges:
    """Return the graph by what each sample covers.

    Itself first, with 1; then the samples that have it for a neighbor, by position, with the similarity of rows of length 1:
    ``|a - b|^2 = 2 - 2 cos``, so ``(1 + cos) / 2 = 1 - |a - b|^2 / 4``.
    """
    n_samples = len(near_nk)
    starts = np.r_[0, np.cumsum(np.bincount(near_nk.ravel(), minlength=n_samples) + 1)]
    samples, similarities = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    _compile_covers()(near_nk, distances_nk, starts[:-1].copy(), samples, similarities)
    return Edges(starts[:-1], starts[1:], samples, similarities)


def covered_by(graph: Edges, chosen: np.ndarray) -> np.ndarray:
    """Return (N,) how well some samples stand for each."""
    covered_n = np.zeros(len(graph.begin_n))
    places = graph.places_of(chosen)
    np.maximum.at(covered_n, graph.samples_e[places], graph.similarities_e[places])
    return covered_n


def pick_covering(graph: Edges, covered_n: np.ndarray, free: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the picks and their gains; what is covered grows in place."""
    picked_k, gains_k = np.zeros(count, np.int64), np.zeros(count)
    _compile_facility_location()(graph, covered_n, free, picked_k, gains_k)
    return picked_k, gains_k


@functools.cache
def _compile_facility_location() -> Callable[..., None]:
    """Return ``facility_location(edges, covered_n, heap, picked_k, gains_k)``.

    Sample j covers those of its row, each by its similarity; ``covered_n`` is how far each sample is covered
    already.
    """
    import numba

    sift, build = compile_heap()

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def gain(j, edges, covered_n):  # type: ignore[no-untyped-def]
        total = 0.0
        for e in range(edges.begin_n[j], edges.end_n[j]):
            total += max(0.0, edges.similarities_e[e] - covered_n[edges.samples_e[e]])
        return total

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def facility_location(edges, covered_n, heap, picked_k, gains_k):  # type: ignore[no-untyped-def]
        n_samples = len(edges.begin_n)
        gains_n, known_n = np.zeros(n_samples), np.zeros(n_samples, np.int64)
        for at in range(len(heap)):
            gains_n[heap[at]] = gain(heap[at], edges, covered_n)
        build(heap, gains_n)
        size, done = len(heap), 0
        while done < len(picked_k):
            top = heap[0]
            if known_n[top] == done:
                picked_k[done], gains_k[done] = top, gains_n[top]
                for e in range(edges.begin_n[top], edges.end_n[top]):
                    covered = edges.samples_e[e]
                    covered_n[covered] = max(covered_n[covered], edges.similarities_e[e])
                done += 1
                size -= 1
                heap[0] = heap[size]
            else:
                gains_n[top] = gain(top, edges, covered_n)
                known_n[top] = done
            sift(heap, size, gains_n, 0)

    return facility_location


@functools.cache
def _compile_covers() -> Callable[..., None]:
    """Return ``covers(near_nk, distances_nk, next_n, samples_e, similarities_e)``: the neighbors' graph turned round.

    ``next_n`` is where each sample's part of the edges begins; the sample itself is its first edge.
    """
    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def covers(near_nk, distances_nk, next_n, samples_e, similarities_e):  # type: ignore[no-untyped-def]
        for j in range(len(near_nk)):
            samples_e[next_n[j]], similarities_e[next_n[j]] = j, 1.0
            next_n[j] += 1
        for i in range(near_nk.shape[0]):
            for k in range(near_nk.shape[1]):
                j, away = near_nk[i, k], distances_nk[i, k]
                samples_e[next_n[j]] = i
                similarities_e[next_n[j]] = np.float32(1.0) - away * away / np.float32(4.0)
                next_n[j] += 1

    return covers
