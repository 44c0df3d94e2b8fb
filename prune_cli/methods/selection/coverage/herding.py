"""Herding: the samples whose mean stays near the mean of all. No score is needed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_cli.core.arrays import conditioned
from prune_cli.core.params import param
from prune_cli.methods.devices import numba_threads
from prune_cli.methods.selection.contract import Candidates, Choice, Run
from prune_cli.methods.selection.coverage.covers import FAST_SUMS, choice_of, kept_and_free, mean_row, rows_by_id


@dataclass(frozen=True)
class HerdingParams:
    """Parameters of ``herding``."""

    metric: Literal["cosine", "euclidean"] = param("euclidean", "features as they are, or (cosine) at length 1")

    def by_angle(self) -> bool:
        """Return whether vectors are divided by their lengths."""
        return self.metric == "cosine"


def herding_order(candidates: Candidates, params: HerdingParams = HerdingParams(), run: Run = Run()) -> Choice:
    r"""Return the samples so that the mean of the chosen stays near the mean of all.

    ``w = mean``; each pick is the sample with the largest ``w . x``, and then ``w += mean - x``.

    Args:
        candidates: the samples; of them ``features`` and ``kept`` (these count as picked).
        run: of it ``counts``, the largest of which is how many are ranked; equal products go by id.
    Returns:
        Choice of one ranking; its gain is ``w . x``.
    Raises:
        InputError: no features at hand.
    Cost:
        2 N D for each pick, on all cores. ``--per-class`` makes it C times less.
    Source:
        Welling, ICML 2009 (herding dynamical weights), without replacement.
    Example:
        The mean is 3, then 3 is short of it by 0, and so on.

        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> line = ArrayFeatures(np.array([[1.0], [2.0], [3.0], [6.0]], np.float32))
        >>> herding_order(Candidates(np.arange(4), features=line), run=Run([3])).rankings[0].order_n.tolist()
        [3, 0, 2]
    """
    rows_nd, factor = conditioned(rows_by_id(candidates, "herding", params.metric), centered=False)
    kept, _ = kept_and_free(candidates)
    mean_d = mean_row(rows_nd)
    weight_d = mean_d * (1 + kept.sum()) - kept.sum() * mean_row(rows_nd[kept])
    picked_k, gains_k = np.zeros(max(run.counts), np.int64), np.zeros(max(run.counts))
    with numba_threads():
        _compile_herding()(rows_nd, mean_d, weight_d, kept.copy(), picked_k, gains_k)
    return choice_of(candidates, picked_k, gains_k / factor**2, run)


@functools.cache
def _compile_herding() -> Callable[..., None]:
    """Return ``herding(rows_nd, mean_d, weight_d, taken_n, picked_k, gains_k)``: not lazy, every row is looked at a pick."""
    import numba

    @numba.njit(nogil=True, fastmath=FAST_SUMS)  # type: ignore[untyped-decorator, unused-ignore]
    def dot(a_d, b_d):  # type: ignore[no-untyped-def]
        total = np.float32(0.0)
        for d in range(len(a_d)):
            total += a_d[d] * b_d[d]
        return total

    @numba.njit(nogil=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
    def outputs(rows_nd, weight_d, taken_n, outputs_n):  # type: ignore[no-untyped-def]
        for i in numba.prange(len(rows_nd)):
            outputs_n[i] = -np.inf if taken_n[i] else dot(rows_nd[i], weight_d)

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def herding(rows_nd, mean_d, weight_d, taken_n, picked_k, gains_k):  # type: ignore[no-untyped-def]
        outputs_n = np.empty(len(rows_nd), np.float32)
        for done in range(len(picked_k)):
            outputs(rows_nd, weight_d.astype(np.float32), taken_n, outputs_n)
            best = np.argmax(outputs_n)
            picked_k[done], gains_k[done] = best, outputs_n[best]
            taken_n[best] = True
            for d in range(len(weight_d)):
                weight_d[d] += mean_d[d] - rows_nd[best, d]

    return herding
