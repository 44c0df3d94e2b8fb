"""The selections every other is held against: random, and the hardest, the easiest or the middle by a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_cli.core.params import param
from prune_cli.core.rng import generator
from prune_cli.methods.selection.contract import Candidates, Choice, Ranking, Run, nested


@dataclass(frozen=True)
class RandomParams:
    """Parameters of ``random``."""

    balanced: bool = param(False, "as many of every class as it has, instead of as they come")


def random_order(candidates: Candidates, params: RandomParams = RandomParams(), run: Run = Run()) -> Choice:
    """Return a uniformly random order, the same for the same ids and seed however the rows are arranged.

    ``balanced``: the r-th samples of all classes come before any (r + 1)-th, in a random order of the classes, so that
    every budget holds as many of one class as of another, until a class has no more.

    Args:
        candidates: the samples; of them ``order_n``, and with ``balanced`` ``codes_n``.
        run: of it ``seed``; the order holds for all counts.
    Returns:
        Choice of one ranking of all samples that are free.
    Raises:
        InputError: ``balanced`` without labels.
    Cost:
        N log N.
    Source:
        Simple random sampling without replacement; drawn over the samples in id order. Class-balanced as in DeepCore (Guo,
        Zhao, Bai 2022, arXiv:2204.08499).
    Example:
        >>> random_order(Candidates(np.arange(3)), run=Run([2])).rankings[0].order_n.shape
        (3,)
    """
    free = candidates.free()
    order_n = free[generator(run.seed, "select", "random").permutation(len(free))]
    if params.balanced:
        codes = candidates.codes("random with balanced=true")
        taken = np.bincount(codes[candidates.kept], minlength=int(codes.max()) + 1)
        rank = taken[codes[order_n]] + _ranks_within(codes[order_n])
        draw = generator(run.seed, "select", "random", "classes").random((int(rank.max(initial=0)) + 1, len(taken)))
        order_n = order_n[np.lexsort((draw[rank, codes[order_n]], rank))]
    return nested(Ranking(order_n), run.counts)


def _ranks_within(codes: np.ndarray) -> np.ndarray:
    """Return how many of the same code came before each.

    >>> _ranks_within(np.array([5, 2, 5, 5, 2])).tolist()
    [0, 0, 1, 2, 1]
    """
    by_class = np.argsort(codes, kind="stable")
    sorted_codes = codes[by_class]
    is_first = np.r_[True, sorted_codes[1:] != sorted_codes[:-1]][: len(codes)]
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(codes)), 0))
    rank = np.empty(len(codes), np.int64)
    rank[by_class] = np.arange(len(codes)) - first
    return rank


@dataclass(frozen=True)
class TopParams:
    """Parameters of ``top``."""

    order: Literal["hardest", "easiest"] = param("hardest", "which end of the difficulty is kept first")
    offset: float = param(0.0, "share of all rows at that end that is skipped, and kept last of all", low=0.0, high=1.0)

    def beyond(self, difficulty_n: np.ndarray, bound: float) -> np.ndarray:
        """Return (N,) bool, which samples are at or beyond the bound, on the side that is kept first; NaN never is."""
        with np.errstate(invalid="ignore"):
            return difficulty_n <= bound if self.order == "easiest" else difficulty_n >= bound


def top_order(candidates: Candidates, params: TopParams = TopParams(), run: Run = Run()) -> Choice:
    """Return the samples by difficulty from one end, the skipped extreme after all others.

    With ``offset`` f the round(f N) most extreme samples move to the end, the most extreme last of all, so that a
    larger budget still holds every smaller one.

    Args:
        candidates: the samples; of them ``difficulty_n`` and ``tie_n``.
        params: ``order`` and ``offset``.
        run: the order holds for all counts; ties go by the second score, then by id.
    Returns:
        Choice of one ranking of all samples that are free.
    Raises:
        InputError: no score at hand.
    Cost:
        N log N.
    Source:
        The usual baseline; keeping the hardest or the easiest as in Sorscher 2022 (arXiv:2206.14486), skipping the extreme as
        in Zheng 2023 (arXiv:2210.15809). Deviation: the skipped samples are ranked last instead of lost.
    Example:
        >>> hard = Candidates(np.arange(4), np.array([0.1, 0.9, 0.5, 0.9]))
        >>> top_order(hard, run=Run([2])).rankings[0].order_n.tolist()
        [1, 3, 2, 0]
        >>> top_order(hard, TopParams(offset=0.5), Run([2])).rankings[0].order_n.tolist()
        [2, 0, 3, 1]
    """
    hardest = params.order == "hardest"
    order_n = candidates.hardest_first("top") if hardest else candidates.easiest_first("top")
    skipped = int(np.floor(params.offset * len(order_n) + 0.5))
    return nested(Ranking(np.concatenate([order_n[skipped:], order_n[:skipped][::-1]]), skipped), run.counts)


@dataclass(frozen=True)
class ModerateParams:
    """Parameters of ``moderate``: none."""


def moderate_order(candidates: Candidates, params: ModerateParams = ModerateParams(), run: Run = Run()) -> Choice:
    """Return the samples by how near the middle their distance to the class median ranks.

    All samples are ranked by the distance of their features to the coordinate-wise median of their class (the score
    ``moderate``); the middle rank comes first and the order goes outwards, on equal terms the nearer sample first.

    Args:
        candidates: the samples; of them ``features`` and ``codes_n``.
        run: of it ``progress``, told of each class; the order holds for all counts. Ties of the distance go by id.
    Returns:
        Choice of one ranking of all samples that are free.
    Raises:
        InputError: no features or labels at hand.
    Cost:
        N D log N.
    Source:
        Xia, Liu, Yu, Shen, Han, Liu, ICLR 2023. Ranks are over all classes together; ``--per-class`` ranks inside each.
    Example:
        Distances to the class median 2: 2, 1, 0, 1, 8.

        >>> line = np.array([[0.0], [1.0], [2.0], [3.0], [10.0]], np.float32)
        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> samples = Candidates(np.arange(5), codes_n=np.zeros(5, np.int64), features=ArrayFeatures(line))
        >>> moderate_order(samples, run=Run([1])).rankings[0].order_n.tolist()
        [3, 1, 0, 2, 4]
    """
    from prune_cli.methods.scores.features.moderate import moderate_scores

    features, codes = candidates.vectors("moderate").array(), candidates.codes("moderate")
    distance_n = moderate_scores(features, codes, order_n=candidates.order_n, progress=run.progress)["moderate"]
    free = candidates.free()
    near_first = free[np.argsort(distance_n[free], kind="stable")]
    outwards = np.argsort(np.abs(2 * np.arange(len(free)) - (len(free) - 1)), kind="stable")
    return nested(Ranking(near_first[outwards]), run.counts)
