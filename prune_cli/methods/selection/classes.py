"""The classes of the samples: the turns they take, and how many of each a budget holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.rng import generator
from prune_cli.methods.selection.contract import Candidates


def class_turns(sizes_c: np.ndarray, taken_c: np.ndarray, seed: int) -> np.ndarray:
    """Return the classes in the order they take turns, so that every prefix holds them in proportion.

    The r-th sample of a class of n stands at the quantile (r - 1/2) / n: prefixes are then the apportionment of
    Sainte-Lague (Webster), which never takes a seat back when the budget grows, so budgets are nested. Equal quantiles
    go by a random order of the classes.

    Args:
        sizes_c: (C,) int64 samples of each class.
        taken_c: (C,) int64 how many of these are taken already, at the front.
    Returns:
        (sum of sizes less taken,) int64 class of each turn.
    Cost:
        N log N.
    Example:
        >>> class_turns(np.array([4, 2]), np.array([0, 0]), seed=0).tolist()
        [0, 1, 0, 0, 1, 0]
    """
    left_c = sizes_c - taken_c
    turns = np.repeat(np.arange(len(sizes_c)), left_c)
    first = np.repeat(np.cumsum(left_c) - left_c, left_c)
    rank = np.arange(len(turns)) - first + taken_c[turns]
    # (2 rank + 1) / (2 size), compared exactly as integers would be: doubles are exact enough below 2^25 rows a class.
    quantile = (2 * rank + 1) / (2 * sizes_c[turns])
    draw = generator(seed, "select", "classes").permutation(len(sizes_c))
    order: np.ndarray = turns[np.lexsort((draw[turns], quantile))]
    return order


def in_each_class(candidates: Candidates, counts: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes' turns, and how many of each class every count takes.

    Args:
        candidates: with labels; a sample without one belongs to a class of its own, -1.
        counts: how many samples are chosen in all.
    Returns:
        (F,) int64 turns of the F free samples, as codes of `class_numbers`; (len(counts), C) int64 quotas.
    """
    codes = class_numbers(candidates)
    n_classes = int(codes.max()) + 1 if len(codes) else 0
    turns = class_turns(np.bincount(codes, minlength=n_classes), np.bincount(codes[candidates.kept], minlength=n_classes), seed)
    quotas = np.stack([np.bincount(turns[:count], minlength=n_classes) for count in counts])
    return turns, quotas


def class_numbers(candidates: Candidates) -> np.ndarray:
    """Return (N,) int64 class of each sample, 0 to C - 1 without gaps, samples without a label one of them."""
    if candidates.codes_n is None:
        raise InputError("--per-class needs labels", "name their column with --label-column")
    numbers: np.ndarray = np.unique(candidates.codes_n, return_inverse=True)[1]
    return numbers
