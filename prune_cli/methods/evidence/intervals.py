"""Confidence intervals over the seeds of a comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from prune_cli.core.errors import InputError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and how far it can be off.

    Args:
        mean: of the values.
        low, high: confidence bounds; infinite where one value says nothing of the spread.
        std: standard deviation with n - 1; NaN for one value.
        n: values.
    """

    mean: float
    low: float
    high: float
    std: float
    n: int


def mean_interval(values_s: ArrayLike, *, confidence: float = CONFIDENCE, step: float = 0.0) -> Interval:
    r"""Return the mean of some values with Student's interval, ``mean +- t s / sqrt(n)``.

    A share of M test samples moves in steps of 1 / M, so three seeds can agree to the last digit by luck, and their spread of zero
    would prove anything. ``step`` keeps the spread from falling below what rounding to that step has: ``step / sqrt(12)``.

    Args:
        values_s: (S,) finite, one a seed. For a paired difference: the differences, seed by seed.
        confidence: above 0 and below 1, of both sides together.
        step: what neighbouring values lie apart, 0 where they are continuous.
    Returns:
        Interval.
    Raises:
        InputError: no value, one that is not finite, a confidence out of range.
    Cost:
        S.
    Source:
        Student 1908. Deviation: the least spread that is believed, above.
    Example:
        Mean 2, standard deviation 1, t of 2 degrees of freedom 4.303:

        >>> found = mean_interval([1.0, 2.0, 3.0])
        >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
        (2.0, -0.484, 4.484)
    """
    values = np.asarray(values_s, np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError(f"an interval over values of shape {values.shape}", "give one value a seed")
    if not np.isfinite(values).all():
        raise InputError("an interval over values that are not finite", "leave out trainings that failed")
    if not 0 < confidence < 1:
        raise InputError(f"a confidence of {confidence:g}", "give a share above 0 and below 1, as 0.95")
    from scipy.special import stdtrit

    n, mean = len(values), float(values.mean())
    if n == 1:
        return Interval(mean, -math.inf, math.inf, math.nan, 1)
    std = float(values.std(ddof=1))
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * max(std, step / math.sqrt(12)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, std, n)
