"""What solvers find of every set, and the scores that all sets together give."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError
from prune_cli.methods.arrays import FloatArray, IntArray
from prune_cli.methods.scores.kernel.solver.problem import Problem


@dataclass(frozen=True, eq=False)
class SetResult:
    """What one set found.

    Args:
        positions: (B,) int64, the samples, in canonical order.
        diagonal_b: (B,) float64, G_ii.
        given_b: (B,) float64, (G Y)_i of the given class.
        solution_bc: (B, C) float64, (G Y)_i; (B, 0) where the given class alone is wanted.
        smallest_pivot, jitter, duplicates: as `Factored`.
        residual: as `Inverse`.
    """

    positions: IntArray
    diagonal_b: FloatArray
    given_b: FloatArray
    solution_bc: FloatArray
    smallest_pivot: float
    jitter: float
    duplicates: int
    residual: float = 0.0


@dataclass(frozen=True, eq=False)
class Solution:
    """What all sets found, averaged over the repeats.

    Args:
        gap_n, a2_n, ab_n, b2_n: (N,) float64: the complexity gap and its terms.
        loo_nc: (N, C) float64: leave-one-out predictions, about -1 to 1; None where they were not wanted.
    """

    gap_n: FloatArray
    a2_n: FloatArray
    ab_n: FloatArray
    b2_n: FloatArray
    loo_nc: FloatArray | None


def combine(results: Iterable[SetResult], codes_n: NDArray[Any], n_classes: int, problem: Problem) -> Solution:
    """Return what all sets of all repeats say of each sample, averaged over the repeats.

    The order of the results reaches no more than the last digits of the predictions.

    Raises:
        InputError: a sample came in more or fewer sets than there are repeats.
    """
    n_samples, repeats = len(codes_n), problem.draws
    seen_n = np.zeros(n_samples, np.int64)
    terms = np.full((4, repeats, n_samples), np.nan)
    loo_nc = np.zeros((n_samples, n_classes)) if problem.predictions else None
    for result in results:
        p, d, a = result.positions, result.diagonal_b, result.given_b
        if (seen_n[p] >= repeats).any():
            raise InputError(f"a sample came in more than {repeats} part(s)", "combine each part once")
        b = a - d
        for term, value in zip(terms, (a * a / d, b * b / d, 2.0 * b, d), strict=True):
            term[seen_n[p], p] = value
        if loo_nc is not None:
            signs = np.full(result.solution_bc.shape, -1.0)
            signs[np.arange(len(p)), codes_n[p]] = 1.0
            loo_nc[p] += (signs - result.solution_bc / d[:, None]) / repeats
        seen_n[p] += 1
    if (seen_n != repeats).any():
        raise InputError(f"a sample came in fewer than {repeats} part(s)", "combine all parts")
    gap_n, a2_n, ab_n, b2_n = np.sort(terms, axis=1).mean(axis=1)
    return Solution(gap_n, a2_n, ab_n, b2_n, loo_nc)
