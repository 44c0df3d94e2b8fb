"""The selections every other is held against: random, and the hardest or easiest by a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.params import param
from prune_cli.core.rng import generator
from prune_cli.methods.selection.ranking import Candidates, Ranking


@dataclass(frozen=True)
class RandomParams:
    """Parameters of ``random``: none, the seed is all."""


def random_order(candidates: Candidates, params: RandomParams, *, seed: int) -> Ranking:
    """Return a uniformly random order, the same for the same ids and seed however the rows are arranged.

    Args:
        candidates: the samples; only ``order_n`` is used.
        params: none.
        seed: the run's seed.
    Returns:
        Ranking of all N samples.
    Cost:
        N.
    Source:
        Simple random sampling without replacement; drawn over the samples in id order.
    Example:
        >>> random_order(Candidates(np.arange(3)), RandomParams(), seed=0).order_n.shape
        (3,)
    """
    draw = generator(seed, "select", "random").permutation(len(candidates.order_n))
    return Ranking(candidates.order_n[draw])


@dataclass(frozen=True)
class TopParams:
    """Parameters of ``top``."""

    order: Literal["hardest", "easiest"] = param("hardest", "which end of the difficulty is kept first")
    offset: float = param(0.0, "share of all rows at that end that is skipped, and kept last of all", low=0.0, high=1.0)


def top_order(candidates: Candidates, params: TopParams, *, seed: int) -> Ranking:
    """Return the samples by difficulty from one end, the skipped extreme after all others.

    With ``offset`` f the round(f N) most extreme samples move to the end, the most extreme last of all, so that a
    larger budget still holds every smaller one.

    Args:
        candidates: the samples; ``difficulty_n`` (N,) float64, high = hard, finite.
        params: ``order`` and ``offset``.
        seed: not used; ties go by id.
    Returns:
        Ranking of all N samples.
    Raises:
        InputError: no score at hand.
    Cost:
        N log N.
    Source:
        The usual baseline; keeping the hardest or the easiest as in Sorscher 2022 (arXiv:2206.14486), skipping the extreme as
        in Zheng 2023 (arXiv:2210.15809). Deviation: the skipped samples are ranked last instead of lost.
    Example:
        >>> hard = Candidates(np.arange(4), np.array([0.1, 0.9, 0.5, 0.9]))
        >>> top_order(hard, TopParams(), seed=0).order_n.tolist()
        [1, 3, 2, 0]
        >>> top_order(hard, TopParams(offset=0.5), seed=0).order_n.tolist()
        [2, 0, 3, 1]
    """
    if candidates.difficulty_n is None:
        raise InputError("top needs a score column", "make one: prune score DATA --method cg")
    by_id = candidates.order_n
    key = candidates.difficulty_n[by_id]
    order_n = by_id[np.argsort(-key if params.order == "hardest" else key, kind="stable")]
    skipped = int(np.floor(params.offset * len(order_n) + 0.5))
    return Ranking(np.concatenate([order_n[skipped:], order_n[:skipped][::-1]]), skipped)
