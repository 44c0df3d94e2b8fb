"""Rows by ascending id, which greedy loops go over, and the ranking that their picks are."""

from __future__ import annotations

import numpy as np

from prune_cli.methods.selection.contract import Candidates, Choice, Ranking, Run, nested
from prune_cli.methods.selection.neighbors.nearest import Metric, unit_rows

CHUNK = 65_536
"""Rows that sums are taken of at a time."""

FAST_SUMS = {"reassoc", "contract", "nsz"}
"""What lets compiled sums run in vector registers; no promise about NaN is broken."""


def rows_by_id(candidates: Candidates, method: str, metric: Metric) -> np.ndarray:
    """Return (N, D) float32 rows by ascending id, so that equal values go by id."""
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
