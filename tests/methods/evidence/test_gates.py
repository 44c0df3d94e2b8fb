"""Gates: how they are read, what they decide, and how often they are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from prune_cli.core.errors import InputError
from prune_cli.core.rng import generator
from prune_cli.methods.evidence import Gate, decide, parse_gate

T_OF_2 = 0.95 / np.sqrt(2 * 0.975 * 0.025)
"""Student's t of 2 degrees of freedom at .975, in closed form."""

SHARES, OTHERS, BASELINES = ("accuracy", "ece"), ("loss",), ("random", "full")


def gate(text: str) -> Gate:
    return parse_gate(text, SHARES, OTHERS, BASELINES)


@pytest.mark.parametrize(
    ("text", "metric", "at_least", "reference", "offset"),
    [
        ("accuracy >= random", "accuracy", True, "random", 0.0),
        ("accuracy>=full-0.5", "accuracy", True, "full", -0.005),
        ("accuracy >= full - .5%", "accuracy", True, "full", -0.005),
        (" accuracy >= full + 1 ", "accuracy", True, "full", 0.01),
        ("ece <= full + 2", "ece", False, "full", 0.02),
        ("accuracy >= 90%", "accuracy", True, None, 0.9),
        ("accuracy >= 90.5 %", "accuracy", True, None, 0.905),
        ("loss <= 0.4", "loss", False, None, 0.4),
        ("loss <= full + 0.1", "loss", False, "full", 0.1),
    ],
)
def test_read(text: str, metric: str, at_least: bool, reference: str | None, offset: float) -> None:
    found = gate(text)
    assert (found.metric, found.at_least, found.reference) == (metric, at_least, reference)
    assert found.offset == pytest.approx(offset, abs=1e-15)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("accuracy > random", "not a claim"),
        ("accuracy", "not a claim"),
        ("accuracy >= random and accuracy >= full", "not a claim"),
        ("accuracy >= __import__('os')", "not a claim"),
        ("f1 >= random", "no metric 'f1'.*\n.*accuracy, ece, loss"),
        ("accuracy >= best", "'best' is not among the baselines.*\n.*random, full"),
        ("accuracy >= 0.9", "a share.*\n.*0.9%"),
        ("loss <= 40%", "no share.*\n.*write 40"),
    ],
)
def test_refuses(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        gate(text)


def test_decides_by_the_whole_interval() -> None:
    half = T_OF_2 * 0.001 / np.sqrt(3)  # of three values with a deviation of .001
    for mean, state in ((half + 1e-6, "passed"), (half - 1e-6, "undecided"), (1e-6 - half, "undecided"), (-half - 1e-6, "failed")):
        assert decide(mean + np.array([-0.001, 0.0, 0.001]), gate("accuracy >= random")).state == state
        assert decide(-mean + np.array([-0.001, 0.0, 0.001]), gate("ece <= random")).state == state


def test_the_interval_is_of_the_difference_as_it_stands() -> None:
    ruling = decide([-0.02, -0.021, -0.019], gate("ece <= random"))
    assert ruling.state == "passed"
    assert ruling.interval.mean == pytest.approx(-0.02)
    assert ruling.interval.low < -0.02 < ruling.interval.high


def test_many_claims_fail_later_and_pass_as_soon() -> None:
    bad = np.array([-0.021, -0.019, -0.0205, -0.018])
    assert decide(bad, gate("accuracy >= random")).state == "failed"
    assert decide(bad, gate("accuracy >= random"), n_claims=100_000).state == "undecided"
    assert decide(-bad, gate("accuracy >= random"), n_claims=100_000).state == "passed"


def test_one_seed_decides_nothing() -> None:
    assert decide([-0.5], gate("accuracy >= random")).state == "undecided"
    assert decide([0.5], gate("accuracy >= random")).state == "undecided"


def test_the_same_selection_as_the_baseline_is_not_failed() -> None:
    assert decide([0.0, 0.0, 0.0], gate("accuracy >= random")).state == "passed"
    assert decide([0.0, 0.0, 0.0], gate("accuracy >= random"), step=0.001).state == "undecided"


@pytest.mark.parametrize("test_samples", [50, 360, 10_000])
@pytest.mark.parametrize(("n_claims", "seeds"), [(1, 2), (1, 3), (1, 5), (8, 2), pytest.param(8, 3, marks=pytest.mark.slow), (8, 5)])
def test_equal_selections_fail_no_more_often_than_the_level(test_samples: int, seeds: int, n_claims: int) -> None:
    """Counts of right answers of two equally good selections, as a test set gives them, in 4,000 comparisons."""
    comparisons = 4000
    rng = generator(test_samples * seeds * n_claims, "level")
    right = rng.binomial(test_samples, rng.normal(0.9, 0.004, (2, comparisons, n_claims, seeds)).clip(0, 1))
    less_baseline = (right[0] - right[1]) / test_samples
    step, claim = 1 / test_samples, gate("accuracy >= random")
    failed = passed = 0
    for of_comparison in less_baseline:
        states = [decide(d, claim, n_claims=n_claims, step=step).state for d in of_comparison]
        failed += "failed" in states
        passed += all(state == "passed" for state in states)
    allowed = 0.025 * comparisons
    assert failed <= allowed + 3 * np.sqrt(allowed)
    assert passed <= allowed + 3 * np.sqrt(allowed)
