"""Best window selection (BWS): of the difficulty-ranked samples, the window that a linear proxy learns most from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_cli.core.params import param
from prune_cli.core.rng import generator
from prune_cli.engines.engine import BlockWork
from prune_cli.methods.selection.capabilities import ProblemSize
from prune_cli.methods.selection.classes import class_numbers, in_each_class
from prune_cli.methods.selection.contract import Candidates, Choice, Curve, Ranking, Run
from prune_cli.methods.selection.proxy.accuracy import RIDGE, Proxy, confirming_work, proxy_accuracies, proxy_work
from prune_cli.methods.selection.proxy.samples import LabelledVectors, Subsets

RIVALS = 5
"""Class-balanced random draws of each budget that the best window is held against."""


@dataclass(frozen=True)
class Windows:
    """All windows of all counts over ranked groups of samples.

    Args:
        ranked: for each group (one, or the classes) its positions, hardest first.
        budget_w: (W,) int64 which count a window is for.
        start_w: (W,) float64 share of the samples that are harder than the window.
        edges_wg: (W, G, 2) int64 first rank of the window in each group, and the rank after its last.
    """

    ranked: Sequence[np.ndarray]
    budget_w: np.ndarray
    start_w: np.ndarray
    edges_wg: np.ndarray

    def members(self, w: int) -> np.ndarray:
        """Return the positions in a window, hardest first inside each group."""
        return np.concatenate([r[a:b] for r, (a, b) in zip(self.ranked, self.edges_wg[w], strict=True)])

    def subsets(self, n_samples: int) -> Subsets:
        """Return the windows as unions of the cells that their edges cut the groups in."""
        cell_n = np.full(n_samples, -1, np.int64)
        signatures, lengths = [], []
        for group in range(len(self.ranked)):
            a_w, b_w = self.edges_wg[:, group, 0], self.edges_wg[:, group, 1]
            breaks = np.unique(np.r_[0, a_w, b_w, len(self.ranked[group])])
            signatures.append((a_w[:, None] <= breaks[:-1]) & (breaks[1:] <= b_w[:, None]))
            lengths.append(np.diff(breaks))
        every = np.concatenate(signatures, axis=1)
        cells, cell_of = np.unique(every, axis=1, return_inverse=True)
        done = 0
        for positions, sizes in zip(self.ranked, lengths, strict=True):
            cell_n[positions] = np.repeat(cell_of[done : done + len(sizes)], sizes)
            done += len(sizes)
        return Subsets(cell_n, cells)

    def first_ranks(self) -> np.ndarray:
        """Return (W,) int64 rank of the first sample of each window, -1 where several groups are cut."""
        return self.edges_wg[:, 0, 0] if len(self.ranked) == 1 else np.full(len(self.budget_w), -1)


def cut_windows(candidates: Candidates, counts: Sequence[int], step: float, per_class: bool, seed: int) -> Windows:
    """Return the windows that start at 0, step, 2 step, ... of the samples, and the one that ends at the easiest.

    Args:
        candidates: the samples.
        counts: how many samples a window holds.
        step: share between two starts.
        per_class: cut inside each class, each with its share of the count.
        seed: orders classes whose shares are equal.
    """
    ranked_all = candidates.hardest_first("window")
    return _cut(candidates, ranked_all, counts, lambda count: window_starts(count, len(ranked_all), step), per_class, seed)


def cut_random(candidates: Candidates, counts: Sequence[int], seed: int) -> Windows:
    """Return `RIVALS` class-balanced random draws of each count: windows of the samples in a random order."""
    free = candidates.free()
    shuffled = free[generator(seed, "select", "window", "random").permutation(len(free))]

    def starts(count: int) -> list[float]:
        return [share * (1 - count / max(1, len(free))) for share in np.linspace(0.0, 1.0, RIVALS)]

    return _cut(candidates, shuffled, counts, starts, True, seed)


def _cut(
    candidates: Candidates,
    ranked_all: np.ndarray,
    counts: Sequence[int],
    starts_of: Callable[[int], list[float]],
    per_class: bool,
    seed: int,
) -> Windows:
    if per_class:
        codes = class_numbers(candidates)
        _, quotas = in_each_class(candidates, counts, seed)
        ranked = [ranked_all[codes[ranked_all] == c] for c in range(quotas.shape[1])]
    else:
        ranked, quotas = [ranked_all], np.array(counts, np.int64)[:, None]
    sizes = np.array([len(r) for r in ranked])
    budgets, starts, edges = [], [], []
    for budget, count in enumerate(counts):
        seen: set[tuple[int, ...]] = set()
        for start in starts_of(count):
            first = np.minimum(np.floor(start * sizes + 0.5 + 1e-9).astype(np.int64), sizes - quotas[budget])
            if tuple(first) not in seen:
                seen.add(tuple(first))
                budgets.append(budget)
                starts.append(start)
                edges.append(np.stack([first, first + quotas[budget]], axis=1))
    return Windows(ranked, np.array(budgets), np.array(starts), np.array(edges).reshape(len(budgets), len(ranked), 2))


def window_starts(count: int, n_samples: int, step: float) -> list[float]:
    """Return the shares of the samples before the windows of a count."""
    last = 1 - count / max(1, n_samples)
    return [*(s for s in np.arange(int(last / step + 1e-9) + 1) * step if s < last - 1e-9), last]


@dataclass(frozen=True)
class WindowParams:
    """Parameters of ``window``."""

    step: float = param(0.05, "how far apart the windows start, as a share of the samples", low=1e-4, high=1.0)
    ridge: float = param(RIDGE, "penalty of the proxy's squared weights, in ridge_unit", low=0.0)
    ridge_unit: Literal["length", "none"] = param(
        "length", "the mean squared length of the vectors, so that a common factor changes nothing; or (as published) none"
    )
    bias: bool = param(False, "give the proxy a feature that is 1 everywhere")
    judge: Literal["confirmed", "all"] = param(
        "confirmed", "count the samples whose label the others predict (leave-one-out), or (as published) all, wrong labels too"
    )
    scope: Literal["class", "global"] = param(
        "class", "cut the window inside each class (as --per-class does), or rank all samples together, as published"
    )

    def extra_bytes(self, problem: ProblemSize) -> int:
        """Return the bytes of the cells' Gram matrices."""
        return int((1 / self.step + 1) * len(problem.counts) ** 0.5) * 8 * problem.width**2

    def block_work(self, problem: ProblemSize) -> BlockWork:
        """Return what the proxy's blocks come to."""
        windows = sum(len(window_starts(count, problem.rows, self.step)) for count in problem.counts)
        width = problem.width + self.bias
        found = proxy_work(problem.rows, width, problem.n_classes, windows)
        found += proxy_work(problem.rows, width, problem.n_classes, RIVALS * len(problem.counts))
        return found + confirming_work(problem.rows, width) if self.judge == "confirmed" else found


def select_window(candidates: Candidates, params: WindowParams = WindowParams(), run: Run = Run()) -> Choice:
    r"""Return, for each count, the window of difficulty whose ridge classifier gets most of ALL samples right.

    The samples are ranked hardest first; a window is ``count`` consecutive ones. For each start 0, step, 2 step, ... a ridge
    regression from features to one-hot labels is fitted on the window and its accuracy taken on all samples whose label the
    other samples confirm: counted on wrong labels, the windows that hold most of these look best. The best window is the
    selection, the harder one of equals. With few samples the easy ones align the solution, with many the hard ones help, so the
    best start moves to 0 as the budget grows. Class-balanced random draws are judged the same way, for comparison.

    Args:
        candidates: the samples; of them ``difficulty_n``, ``tie_n``, ``features``, ``codes_n``. Samples kept already are part of
            every window.
        params: see `WindowParams`.
        run: of it ``counts``, all windows of which share one pass over the features, ``seed``, which orders classes of equal
            shares, ``per_class``, which cuts the windows inside each class, and what the proxy takes.
    Returns:
        Choice of one ranking a count (its window, hardest first), and the curve of all windows, with the draws beside it.
    Raises:
        InputError: no score, features or labels at hand.
        NumericalError: a singular problem, with a ridge of 0.
    Cost:
        4 N D^2 + W (D^3 / 3 + 2 N D C) for W windows and draws, in all; 1 / step matrices of D x D float64. The features are read
        five times, block by block, and need not fit the memory.
    Source:
        Choi, Ki, Chung, ICML 2024, arXiv:2406.03057 (BWS). Ridge 1 and no bias are recalled; the preset bws-cifar10 has them.
        Deviations: windows are cut in each class (``scope=global`` is the paper's; small global windows are short of whole classes);
        the ridge is relative; the accuracy is that on confirmed samples; the window that ends with the easiest sample is always tried;
        sums over cells in place of one fit a window (the same to rounding).
    Example:
        Two classes on a line; the two hardest samples have the other's label.

        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> line = ArrayFeatures(np.array([[-1.0], [-2.0], [1.0], [2.0], [-1.5], [1.5]], np.float32))
        >>> samples = Candidates(
        ...     np.arange(6), np.array([2.0, 1.0, 2.0, 1.0, 9.0, 8.0]), codes_n=np.array([0, 0, 1, 1, 1, 0]), features=line
        ... )
        >>> published = WindowParams(step=0.25, ridge=1.0, ridge_unit="none", bias=True, scope="global", judge="all")
        >>> chosen = select_window(samples, published, Run([2]))
        >>> sorted(chosen.rankings[0].order_n.tolist()), chosen.curve.proxy_accuracy.max().round(2)
        ([0, 2], np.float64(0.67))
    """
    features, codes = candidates.vectors("window"), candidates.codes("window")
    per_class = run.per_class or params.scope == "class"
    windows = cut_windows(candidates, run.counts, params.step, per_class, run.seed)
    subsets = _with_kept(windows.subsets(len(candidates)), candidates)
    order_n = np.concatenate([*windows.ranked, candidates.order_n[candidates.kept[candidates.order_n]]])
    order_n = order_n[np.argsort(subsets.cell_n[order_n], kind="stable")]
    samples = LabelledVectors(features, codes, order_n)
    drawn = cut_random(candidates, run.counts, run.seed)
    proxy = Proxy(params.ridge, params.bias, "window", params.ridge_unit == "length", params.judge == "confirmed")
    lists = [subsets, _with_kept(drawn.subsets(len(candidates)), candidates)]
    accuracy_w, accuracy_r = proxy_accuracies(samples, lists, proxy, run)
    best = np.zeros(len(accuracy_w), bool)
    rankings = []
    for budget in range(len(run.counts)):
        mine = np.flatnonzero(windows.budget_w == budget)
        taken = int(mine[np.argmax(accuracy_w[mine])])
        best[taken] = True
        rankings.append(_ranking_of(candidates, windows, taken))
    curve = Curve(
        budget=windows.budget_w,
        start=windows.start_w,
        window_start=windows.first_ranks(),
        name=["window"] * len(best),
        proxy_accuracy=accuracy_w,
        best=best,
        random_accuracy=[accuracy_r[drawn.budget_w == budget] for budget in range(len(run.counts))],
    )
    return Choice(tuple(rankings), curve)


def _with_kept(subsets: Subsets, candidates: Candidates) -> Subsets:
    """Return the subsets, each with the samples that are kept already."""
    if not candidates.kept.any():
        return subsets
    member_wk = np.c_[subsets.member_wk, np.ones(len(subsets), bool)]
    return Subsets(np.where(candidates.kept, member_wk.shape[1] - 1, subsets.cell_n), member_wk)


def _ranking_of(candidates: Candidates, windows: Windows, w: int) -> Ranking:
    inside = np.zeros(len(candidates), bool)
    inside[windows.members(w)] = True
    ranked = candidates.hardest_first("window")
    return Ranking(ranked[inside[ranked]], reason="outside the window")
