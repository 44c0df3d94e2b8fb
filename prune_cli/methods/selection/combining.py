"""Several selections of the same rows made into one: union, intersection, difference, so many of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

IN_NONE = "in none of the selections"
OVER_QUOTA = "over the quota of its class"
NO_LABEL = "no label, so no quota"

_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Combination:
    """One selection of several.

    Args:
        selected_n: (N,) bool.
        rank_n: (N,) int64, 1 = kept first, without gaps; 0 where a row is out, or no selection that keeps it ranks it.
        reason_n: (N,) int64 why a row is out, a place in ``reasons``; -1 where it is kept.
        reasons: texts.
    """

    selected_n: np.ndarray
    rank_n: np.ndarray
    reason_n: np.ndarray
    reasons: tuple[str, ...]


def unite(selected_fn: np.ndarray, rank_fn: np.ndarray, place_n: np.ndarray) -> Combination:
    """Return what any selection keeps, by the best of its ranks: the rows of best rank k or less are the union of the first k of each.

    Args:
        selected_fn: (F, N) bool, which rows each selection keeps.
        rank_fn: (F, N) int64, 1 = kept first, 0 = none. Ranks of rows that a selection does not keep do not count.
        place_n: (N,) int64 place of each row in ascending order of the ids.
    Returns:
        Combination. Equal ranks go by the selection they are of, the first first, then by id.
    Cost:
        F N, and a sort of the kept rows.
    Example:
        >>> both = unite(np.array([[1, 1, 0], [0, 1, 1]], bool), np.array([[1, 2, 0], [0, 1, 2]]), np.arange(3))
        >>> both.selected_n.tolist(), both.rank_n.tolist()
        ([True, True, True], [1, 2, 3])
    """
    kept = np.logical_or.reduce(selected_fn)
    ranks = np.where(selected_fn & (rank_fn > 0), rank_fn, _LAST)
    rank_n = _ranked(kept, ranks.min(axis=0), ranks.argmin(axis=0), ranks.min(axis=0) < _LAST, place_n)
    return Combination(kept, rank_n, np.where(kept, -1, 0), (IN_NONE,))


def intersect(selected_fn: np.ndarray, rank_fn: np.ndarray, place_n: np.ndarray, names: Sequence[str]) -> Combination:
    """Return what every selection keeps, by the worst of its ranks: those of worst rank k or less are what the first k of each share.

    Args:
        selected_fn, rank_fn, place_n: as `unite`.
        names: of the selections, for the reasons; that of a row is the first that does not keep it.
    """
    kept = np.logical_and.reduce(selected_fn)
    ranks = np.where(selected_fn, rank_fn, 0)
    rank_n = _ranked(kept, ranks.max(axis=0), ranks.argmax(axis=0), ranks.max(axis=0) > 0, place_n)
    return Combination(kept, rank_n, np.where(kept, -1, selected_fn.argmin(axis=0)), tuple(f"not in {n}" for n in names))


def subtract(selected_fn: np.ndarray, rank_fn: np.ndarray, place_n: np.ndarray, names: Sequence[str]) -> Combination:
    """Return what the first selection keeps and no other does, in the order of the first.

    Args:
        selected_fn, rank_fn, place_n: as `unite`.
        names: of the selections, for the reasons; that of a row is the first other that keeps it.
    """
    kept = selected_fn[0] & ~selected_fn[1:].any(axis=0)
    rank_n = _ranked(kept, rank_fn[0], np.zeros_like(place_n), rank_fn[0] > 0, place_n)
    reason_n = np.where(selected_fn[0], 1 + selected_fn[1:].argmax(axis=0), 0)
    return Combination(kept, rank_n, np.where(kept, -1, reason_n), (f"not in {names[0]}", *(f"in {n}" for n in names[1:])))


def fill_quotas(
    selected_fn: np.ndarray, rank_fn: np.ndarray, place_n: np.ndarray, codes_n: np.ndarray, quotas_c: np.ndarray
) -> Combination:
    """Return so many rows of each class: those of the first selection in its order, then of the second, and so on.

    Args:
        selected_fn, rank_fn, place_n: as `unite`. Rows without a rank come after those of their selection that have one, by id.
        codes_n: (N,) int64 class of each row, -1 for none.
        quotas_c: (C,) int64 most rows of each class.
    Returns:
        Combination; every kept row has a rank, its place in the order of taking.
    """
    order = _in_turn(selected_fn, rank_fn, place_n)
    codes = codes_n[order]
    by_class = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes + 1, minlength=len(quotas_c) + 1)
    number = np.empty(len(order), np.int64)
    number[by_class] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    taken = order[number < np.concatenate([[0], quotas_c])[codes + 1]]
    kept = np.zeros(len(codes_n), bool)
    kept[taken] = True
    rank_n = np.zeros(len(codes_n), np.int64)
    rank_n[taken] = np.arange(1, len(taken) + 1)
    reason_n = np.where(selected_fn.any(axis=0), np.where(codes_n < 0, 2, 1), 0)
    return Combination(kept, rank_n, np.where(kept, -1, reason_n), (IN_NONE, OVER_QUOTA, NO_LABEL))


def _in_turn(selected_fn: np.ndarray, rank_fn: np.ndarray, place_n: np.ndarray) -> np.ndarray:
    """Return the rows that any selection keeps, each once: by selection, then rank, then id."""
    seen = np.zeros(len(place_n), bool)
    parts = []
    for selected, rank in zip(selected_fn, rank_fn, strict=True):
        rows = np.flatnonzero(selected & ~seen)
        seen |= selected
        ranks = np.where(rank[rows] > 0, rank[rows], _LAST)
        parts.append(rows[np.lexsort((place_n[rows], ranks))])
    return np.concatenate(parts)


def _ranked(kept: np.ndarray, rank_n: np.ndarray, giver_n: np.ndarray, known: np.ndarray, place_n: np.ndarray) -> np.ndarray:
    """Return (N,) int64 ranks without gaps of the kept rows whose rank is known: by rank, then who gave it, then id."""
    rows = np.flatnonzero(kept & known)
    order = rows[np.lexsort((place_n[rows], giver_n[rows], rank_n[rows]))]
    ranks = np.zeros(len(kept), np.int64)
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks
