"""Intervals: worked by hand, against scipy, and how often they hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from prune_cli.core.errors import InputError
from prune_cli.core.rng import generator
from prune_cli.methods.evidence import mean_interval

T_OF_2 = 0.95 / np.sqrt(2 * 0.975 * 0.025)
"""Student's t of 2 degrees of freedom at .975, in closed form."""


def test_three_values_by_hand() -> None:
    found = mean_interval([90.0, 92.0, 94.0])
    half = T_OF_2 * 2.0 / np.sqrt(3)  # standard deviation 2
    assert found.mean == 92.0
    assert found.std == 2.0
    assert (found.low, found.high) == pytest.approx((92 - half, 92 + half), rel=1e-12)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_agrees_with_scipy(n: int, confidence: float) -> None:
    values = generator(n, "intervals").normal(0.9, 0.01, n)
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    found = mean_interval(values, confidence=confidence)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_paired_difference_is_scipys() -> None:
    ours, theirs = generator(1, "ours").normal(0.9, 0.01, 6), generator(1, "theirs").normal(0.89, 0.02, 6)
    known = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    found = mean_interval(ours - theirs)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), rel=1e-12)


def test_one_value_says_nothing_of_the_spread() -> None:
    found = mean_interval([0.9])
    assert (found.mean, found.low, found.high) == (0.9, -np.inf, np.inf)
    assert np.isnan(found.std)


def test_equal_values_are_believed_to_the_step_alone() -> None:
    exact = mean_interval([0.9, 0.9, 0.9])
    assert (exact.low, exact.high) == (0.9, 0.9)
    stepped = mean_interval([0.9, 0.9, 0.9], step=0.01)
    half = T_OF_2 * 0.01 / np.sqrt(12) / np.sqrt(3)
    assert (stepped.low, stepped.high) == pytest.approx((0.9 - half, 0.9 + half), rel=1e-12)


def test_holds_as_often_as_it_says() -> None:
    draws = generator(0, "coverage").normal(0.3, 1.0, (4000, 4))
    held = np.mean([low <= 0.3 <= high for low, high in ((i.low, i.high) for i in map(mean_interval, draws))])
    assert abs(held - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 4000)


@pytest.mark.parametrize(
    ("values", "confidence", "says"),
    [([], 0.95, "shape"), ([[1.0]], 0.95, "shape"), ([1.0, np.nan], 0.95, "not finite"), ([1.0, 2.0], 1.0, "confidence")],
)
def test_refuses(values: list[float], confidence: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        mean_interval(values, confidence=confidence)
