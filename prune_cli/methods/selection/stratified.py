"""Selections that draw by a score: even over its range, or by a distribution that moves with the budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.params import param
from prune_cli.core.rng import generator
from prune_cli.methods.selection.contract import Candidates, Choice, Ranking, Run

_MIS_RATES = {
    "cifar10": ((0.1, 0.3), (0.2, 0.1), (0.3, 0.1), (0.5, 0.0), (0.7, 0.0)),
    "cifar100": ((0.1, 0.5), (0.2, 0.4), (0.3, 0.2), (0.5, 0.2), (0.7, 0.1)),
}
"""(share kept, share of the hardest that is dropped first); recalled, not confirmed against the paper's text."""

_BLOCK = 1 << 20


@dataclass(frozen=True)
class StratifiedParams:
    """Parameters of ``stratified``."""

    strata: int = param(50, "ranges of equal width that the score is cut in", low=1)
    range: Literal["clipped", "full"] = param(
        "clipped", "what is cut: from the lowest to the highest score without the outermost 1 %, or (as published) with them"
    )
    mis_rate: float | Literal["cifar10", "cifar100"] = param(
        "cifar10", "share of the hardest that is dropped first, or whose published table gives it for each budget",
        low=0.0, high=1.0,
    )  # fmt: skip


def mis_rate_for(kept: float, table: float | Literal["cifar10", "cifar100"]) -> float:
    """Return the share of the hardest that is dropped for a share kept: as given, or from a table, in between linearly.

    >>> mis_rate_for(0.1, "cifar10"), mis_rate_for(0.4, "cifar10"), mis_rate_for(0.9, "cifar10"), mis_rate_for(0.5, 0.2)
    (0.3, 0.05, 0.0, 0.2)
    """
    if not isinstance(table, str):
        return float(table)
    kept_shares, rates = zip(*_MIS_RATES[table], strict=True)
    return round(float(np.interp(kept, kept_shares, rates)), 12)


def robust_range(values_n: np.ndarray) -> tuple[float, float]:
    """Return the range of some scores that a few extreme ones cannot set: without the lowest and the highest 1 %.

    These are 4 at least, and a tenth of all at most; (0, 0) where there are no scores. They belong to the outermost strata.

    >>> robust_range(np.r_[np.arange(200.0), 1e8, -1e8])
    (3.0, 196.0)
    """
    n = len(values_n)
    outside = min(max(-(-n // 100), 4), n // 10)
    if n == 0:
        return 0.0, 0.0
    ends = np.partition(values_n, [outside, n - 1 - outside])
    return float(ends[outside]), float(ends[n - 1 - outside])


def stratum_of(values_n: np.ndarray, low: float, high: float, strata: int) -> np.ndarray:
    """Return (N,) int64 which of the ranges of equal width between two scores each belongs to; those outside to the outermost.

    >>> stratum_of(np.array([-5.0, 0.0, 1.0, 2.9, 4.0, 99.0]), 0.0, 4.0, 2).tolist()
    [0, 0, 0, 1, 1, 1]
    """
    if not high > low:
        return np.zeros(len(values_n), np.int64)
    return np.clip((values_n - low) / ((high - low) / strata), 0, strata - 1).astype(np.int64)


def divide_evenly(sizes: np.ndarray, count: int) -> np.ndarray:
    """Return how many of each stratum a count takes: from the smallest on, each gives its share of what is left, or all it has.

    >>> divide_evenly(np.array([10, 1, 4]), 9).tolist()
    [4, 1, 4]
    """
    quota, left = np.zeros(len(sizes), np.int64), count
    for done, which in enumerate(np.argsort(sizes, kind="stable")):
        quota[which] = min(sizes[which], left // (len(sizes) - done))
        left -= quota[which]
    return quota


def stratified_order(candidates: Candidates, params: StratifiedParams = StratifiedParams(), run: Run = Run()) -> Choice:
    """Return samples drawn evenly over the range of the score, without the very hardest.

    The ``mis_rate`` share of the hardest is dropped, since many of these are wrong labels. What is left is cut in
    ``strata`` ranges of equal width between its least and its greatest score, without the outermost 1 % (see `robust_range`): two
    equal pictures with different labels may score a million times what others do, and strata cut up to there would hold all rows
    in two. From the smallest stratum to the largest each gives what is left of the budget divided by the strata left, or all it
    has. Inside a stratum the draw is random.

    Args:
        candidates: the samples; of them ``difficulty_n``. The paper drops and cuts by AUM.
        run: of it ``counts``, each of which has an answer of its own, and ``seed``: a sample's draw is the same for every budget.
    Returns:
        Choice of one ranking a count: the count chosen, hardest first. Where fewer than the count are not dropped, fewer are
        dropped.
    Raises:
        InputError: no score at hand.
    Cost:
        N log N, and strata for each count.
    Source:
        Zheng, Liu, Lai, Prakash, ICLR 2023, arXiv:2210.15809 (CCS). The tables of ``mis_rate`` are recalled; between
        their budgets it is linear, outside constant. What a division leaves over goes to the larger strata, as there. Deviation:
        the range is clipped, unless ``range=full``.
    Example:
        Scores 0, 1, 2, 3, 4 and 5 in two strata: each gives one; 5 is dropped.

        >>> samples = Candidates(np.arange(6), np.arange(6.0))
        >>> params = StratifiedParams(strata=2, mis_rate=0.2)
        >>> chosen = stratified_order(samples, params, Run([2])).rankings[0].order_n
        >>> (chosen >= 2).tolist(), 5 in chosen
        ([True, False], False)
    """
    hardest_first = candidates.hardest_first("stratified")
    difficulty = candidates.difficulty("stratified")
    free = candidates.free()
    draw, luck = np.empty(len(candidates)), generator(run.seed, "select", "stratified")
    for start in range(0, len(free), _BLOCK):
        here = free[start : start + _BLOCK]
        draw[here] = luck.random(len(here))
    rankings = []
    for count in run.counts:
        rate = mis_rate_for(count / max(1, len(free)), params.mis_rate)
        dropped = min(int(np.floor(rate * len(free) + 0.5)), len(free) - count)
        left = hardest_first[dropped:]
        chosen = _draw_from_strata(difficulty, draw, left, params, count)
        rankings.append(Ranking(chosen, reason="not drawn from its stratum"))
    return Choice(tuple(rankings))


def _draw_from_strata(
    difficulty: np.ndarray, draw: np.ndarray, hardest_first: np.ndarray, params: StratifiedParams, count: int
) -> np.ndarray:
    """Return the count drawn, hardest first.

    Since the samples come by difficulty, a stratum is a part of them without gaps.
    """
    if count == 0:
        return hardest_first[:0]
    low, high = difficulty[hardest_first[-1]], difficulty[hardest_first[0]]
    if params.range == "clipped":
        low, high = robust_range(difficulty[hardest_first])
    sizes = np.zeros(params.strata, np.int64)
    for start in range(0, len(hardest_first), _BLOCK):
        stratum = stratum_of(difficulty[hardest_first[start : start + _BLOCK]], low, high, params.strata)
        sizes += np.bincount(stratum, minlength=params.strata)
    quota = divide_evenly(sizes, count)
    drawn, start = [], 0
    for which in np.flatnonzero(sizes)[::-1]:
        mine = hardest_first[start : start + sizes[which]]
        start += sizes[which]
        drawn.append(mine[np.sort(np.argsort(draw[mine], kind="stable")[: quota[which]])])
    return np.concatenate(drawn)


@dataclass(frozen=True)
class DualParams:
    """Parameters of ``dual``."""

    complexity: float = param(4.0, "how late the draw turns to the easy samples as less is kept (c_D; 4: CIFAR-100)", low=0.0)
    concentration: float = param(15.0, "how narrow the Beta distribution is (C)", low=0.1)
    anchors: int = param(10, "hardest samples whose mean probability the distribution starts from", low=1)


def beta_parameters(anchor: float, pruned: float, params: DualParams) -> tuple[float, float]:
    """Return a and b of the Beta density that samples are drawn by, from the anchors' mean probability and the share pruned.

    >>> beta_parameters(0.2, 0.5, DualParams())  # b = 15 * 0.8 * (1 - 1/16)
    (4.75, 11.25)
    """
    b = params.concentration * (1 - anchor) * (1 - pruned**params.complexity)
    b = float(np.clip(b, 1e-3, params.concentration + 1 - 1e-3))
    return params.concentration + 1 - b, b


def dual_order(candidates: Candidates, params: DualParams = DualParams(), run: Run = Run()) -> Choice:
    r"""Return samples drawn in proportion to the DUAL score times a Beta density that moves to the easy as less is kept.

    With r the share pruned, p the mean over the epochs of the label's probability and m its mean over the ``anchors``
    hardest samples: ``b = C (1 - m) (1 - r^(2 + c))``, ``a = C + 1 - b``, and a sample is drawn, without replacement, in
    proportion to ``score * Beta(p; a, b)``. At r = 0 the density has its middle near m, at r = 1 at 1.

    Args:
        candidates: the samples; of them ``difficulty_n`` (the score ``dual``) and the column ``dual_mean``.
        run: of it ``counts``, each of which has an answer of its own, and ``seed``: a sample's draw is the same for every budget.
    Returns:
        Choice of one ranking a count, over all samples: drawn first to drawn last.
    Raises:
        InputError: no score at hand, a negative one, or no column ``dual_mean``.
    Cost:
        N log N for each count.
    Source:
        Cho, Shin, Lee, Kim, ICML 2025, arXiv:2502.06905; exponent c and ``a + b = C + 1`` as in the authors' code. The draw
        is Efraimidis' and Spirakis' (2006): the largest ``log(u) / weight``.
    Example:
        >>> samples = Candidates(np.arange(3), np.array([0.1, 0.2, 0.3]), columns={"dual_mean": np.array([0.9, 0.5, 0.1])})
        >>> sorted(dual_order(samples, run=Run([2])).rankings[0].order_n.tolist())
        [0, 1, 2]
    """
    from scipy.stats import beta

    mean_n = candidates.columns.get("dual_mean")
    if mean_n is None:
        raise InputError(
            "dual needs the column 'dual_mean' beside the score", "score with: prune score DATA --method dual -p dual.terms=true"
        )
    hardest_first = candidates.hardest_first("dual")
    score_n = candidates.difficulty("dual")
    free = candidates.free()
    if len(free) and score_n[free].min() < 0:
        raise InputError("dual draws in proportion to the score, and one is negative", "pass -p key=dual")
    anchor = float(mean_n[hardest_first[: params.anchors]].mean()) if len(free) else 0.5
    luck = np.log(generator(run.seed, "select", "dual").random(len(free)))
    inside = np.clip(mean_n[free], 1e-9, 1 - 1e-9)  # the density is 0 or infinite at the very ends
    rankings = []
    for count in run.counts:
        pruned = 1 - count / max(1, len(free))
        log_weight = beta.logpdf(inside, *beta_parameters(anchor, pruned, params)) + np.log(np.maximum(score_n[free], 1e-300))
        # log(u) / weight, in logs since weights may be beyond what a double holds: the least log(-log u) - log w first.
        rankings.append(Ranking(free[np.argsort(np.log(-luck) - log_weight, kind="stable")], reason="not drawn"))
    return Choice(tuple(rankings))
