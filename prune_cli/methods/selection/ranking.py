"""What a selection method takes and gives: candidates in, an order of all of them out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Candidates:
    """The samples to choose from.

    Args:
        order_n: (N,) int64 positions by ascending id; ties and random draws go by it.
        difficulty_n: (N,) float64, high = hard, or None where no score is at hand.
    """

    order_n: np.ndarray
    difficulty_n: np.ndarray | None = None


@dataclass(frozen=True)
class Ranking:
    """A nested answer for every budget at once: the first k of the order are the answer for the budget k.

    Args:
        order_n: (N,) int64 positions, kept first to kept last.
        skipped: how many at the end are there only because the method skips them.
    """

    order_n: np.ndarray
    skipped: int = 0


def proportional_order(order_n: np.ndarray, codes_n: np.ndarray) -> np.ndarray:
    """Return the order in which every prefix holds the classes in proportion, and each class in its own order.

    The r-th sample of a class of n stands at the quantile (r - 1/2) / n: prefixes are then the apportionment of
    Sainte-Lague (Webster), which never takes a seat back when the budget grows, so budgets are nested.

    Args:
        order_n: (N,) int64 positions, best first.
        codes_n: (N,) int64 class codes by position; negative (no label) is a class of its own.
    Returns:
        (N,) int64 positions.
    Cost:
        N log N.
    Example:
        >>> proportional_order(np.array([0, 1, 2, 3, 4, 5]), np.array([0, 0, 0, 0, 1, 1])).tolist()
        [0, 4, 1, 2, 5, 3]
    """
    codes = codes_n[order_n]
    by_class = np.argsort(codes, kind="stable")
    sorted_codes = codes[by_class]
    starts = np.flatnonzero(np.r_[True, sorted_codes[1:] != sorted_codes[:-1]])
    sizes = np.diff(np.r_[starts, len(codes)])
    rank = np.arange(len(codes)) - np.repeat(starts, sizes)
    # (2 rank + 1) / (2 size), compared exactly as integers would be: doubles are exact enough below 2^25 rows a class.
    quantile = np.empty(len(codes))
    quantile[by_class] = (2 * rank + 1) / np.repeat(2 * sizes, sizes)
    return order_n[np.lexsort((np.arange(len(codes)), quantile))]
