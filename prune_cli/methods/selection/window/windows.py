"""Windows of difficulty over ranked samples, one after the other, of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prune_cli.methods.selection.classes import class_numbers, in_each_class
from prune_cli.methods.selection.contract import Candidates
from prune_cli.methods.selection.proxy.subsets import Subsets


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
        for start in window_starts(count, len(ranked_all), step):
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
