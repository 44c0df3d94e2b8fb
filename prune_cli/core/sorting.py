"""Sorting by one key after the other: an order, and the runs of it that the keys so far call equal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

_BLOCK, _SAMPLES = 1 << 20, 1 << 16


def position_type(rows: int) -> type[np.signedinteger]:
    """Return the smallest type of 32 or 64 bits that numbers so many rows."""
    return np.int32 if rows <= np.iinfo(np.int32).max else np.int64


def sort_within_runs(
    order_n: np.ndarray,
    first_n: np.ndarray,
    key_n: np.ndarray,
    *,
    descending: bool = False,
    kind: Literal["quicksort", "stable"] = "quicksort",
) -> None:
    """Sort every run of an order by a key, in place, and part it where the key differs.

    Args:
        order_n: (N,) positions, sorted by the keys so far; changed.
        first_n: (N,) bool, whether a run begins at a place of the order; changed.
        key_n: (N,) the next key of every position, without NaN.
        kind: ``stable`` keeps the order of what is equal.
    Cost:
        M log M for the M places in runs of two or more. Beside the arguments 13 bytes a place of the longest run, and 30 a place with
        keys of one range: a million, or as many as are equal.
    Example:
        >>> order, first = np.array([2, 0, 1, 3]), np.array([True, False, False, True])
        >>> sort_within_runs(order, first, np.array([5, 4, 5, 0]))
        >>> order[0], sorted(order[1:3].tolist()), first.tolist()
        (np.int64(1), [0, 2], [True, True, False, True])
    """
    for places in _runs(first_n):
        rows = order_n[places]
        keys = key_n[rows]
        if descending:
            np.negative(keys, out=keys)
        starts = first_n[places]
        if starts[1:].any():
            by = np.lexsort((keys, np.cumsum(starts, dtype=np.int32)))
            keys = keys[by]
            order_n[places] = rows[by]
            starts[1:] |= keys[1:] != keys[:-1]
            first_n[places] = starts
        else:
            order_n[places], first_n[places] = _sort_run(rows, keys, kind)


def _sort_run(rows: np.ndarray, keys: np.ndarray, kind: Literal["quicksort", "stable"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows by their keys, and where a key is another than the one before: range by range, so that little is held."""
    sample = np.sort(keys[:: max(1, len(keys) // _SAMPLES)])
    parts = max(1, -(-len(keys) // _BLOCK))
    bounds = np.unique(sample[np.arange(1, parts) * len(sample) // parts])
    found, starts, done = np.empty_like(rows), np.ones(len(rows), bool), 0
    for number in range(len(bounds) + 1):
        inside = np.ones(len(keys), bool)
        if number:
            inside &= ~(keys < bounds[number - 1])
        if number < len(bounds):
            inside &= keys < bounds[number]
        there = np.flatnonzero(inside) if len(bounds) else slice(None)
        del inside
        here = keys[there]
        part = slice(done, done + len(here))
        by = np.argsort(here, kind=kind)
        found[part] = rows[there][by]
        here = here[by]
        starts[done + 1 : part.stop] = here[1:] != here[:-1]
        done = part.stop
    return found, starts


def _runs(first_n: np.ndarray) -> Iterator[np.ndarray | slice]:
    """Yield the places of whole runs of two or more: a slice for one long run, else many short ones together."""
    if not first_n[1:].any():
        yield slice(0, len(first_n))
        return
    alone = first_n.copy()
    alone[:-1] &= first_n[1:]
    places = np.flatnonzero(~alone).astype(position_type(len(first_n)))
    del alone
    done = 0
    while done < len(places):
        until = min(done + _BLOCK, len(places))
        if until < len(places):  # back to the last start of a run, or on to the next where this one fills the block
            starts = np.flatnonzero(first_n[places[done + 1 : until + 1]])
            if len(starts):
                until = done + 1 + int(starts[-1])
            else:
                until = _next_start(first_n, places, until)
        here = places[done:until]
        done = until
        yield slice(int(here[0]), int(here[-1]) + 1) if here[-1] - here[0] + 1 == len(here) else here


def _next_start(first_n: np.ndarray, places: np.ndarray, after: int) -> int:
    while after < len(places):
        starts = np.flatnonzero(first_n[places[after : after + _BLOCK]])
        if len(starts):
            return after + int(starts[0])
        after += _BLOCK
    return len(places)
