"""Evidence of a comparison: intervals over its seeds, gates, and from how many trainings on a selection has paid for itself."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from prune_cli.core.errors import InputError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and how far it can be off.

    Args:
        low, high: confidence bounds; infinite where one value says nothing of the spread.
        std: standard deviation with n - 1; NaN for one value.
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


_CLAIM = re.compile(
    r"\s*(?P<metric>\w+)\s*(?P<relation>>=|<=)\s*"
    r"(?:(?P<reference>[A-Za-z_]\w*)(?:\s*(?P<sign>[+-])\s*(?P<offset>\d+(?:\.\d+)?|\.\d+)\s*%?)?"
    r"|(?P<number>\d+(?:\.\d+)?|\.\d+)\s*(?P<percent>%)?)\s*"
)


@dataclass(frozen=True)
class Gate:
    """One claim: what a metric of every selection is held against.

    Args:
        text: as the user wrote it.
        at_least: true for ``>=``, false for ``<=``.
        reference: the baseline whose value counts, or None for a number.
        offset: what is added to the baseline's value, or the number itself; in the metric's unit, so 0.005 for half a point.
    """

    text: str
    metric: str
    at_least: bool
    reference: str | None
    offset: float


@dataclass(frozen=True)
class Ruling:
    """What a gate says of one selection.

    Args:
        state: ``passed``, ``failed`` or ``undecided``.
        interval: of the metric less its bound, over the seeds.
    """

    state: Literal["passed", "failed", "undecided"]
    interval: Interval


def parse_gate(text: str, shares: Sequence[str], others: Sequence[str], baselines: Sequence[str]) -> Gate:
    """Return a gate from its text: ``METRIC >= BASELINE``, ``METRIC >= BASELINE - POINTS``, ``METRIC >= 90%``; or ``<=``.

    Args:
        shares: metrics from 0 to 1; what is added to a baseline is in percentage points, and a bound alone is in percent.
        others: metrics in a unit of their own, as the loss in nats.
        baselines: that the comparison has.
    Raises:
        InputError: another form, an unknown metric, a baseline that is not compared, a share without its ``%``.
    Example:
        >>> parse_gate("accuracy >= full - 0.5", ["accuracy"], [], ["random", "full"]).offset
        -0.005
    """
    found = _CLAIM.fullmatch(text)
    if found is None:
        raise InputError(
            f"--gate {text!r} is not a claim that can be tested",
            "write it as 'accuracy >= random', 'accuracy >= full - 0.5' (points) or 'accuracy >= 90%'",
        )
    metric, reference = found["metric"], found["reference"]
    if metric not in {*shares, *others}:
        raise InputError(f"--gate {text!r}: no metric '{metric}'", f"use one of: {', '.join([*shares, *others])}")
    if reference is not None and reference not in baselines:
        raise InputError(
            f"--gate {text!r}: '{reference}' is not among the baselines",
            f"use one of {', '.join(baselines)}" if baselines else f"add it: --baselines {reference}",
        )
    scale = 0.01 if metric in shares else 1.0
    if reference is not None:
        offset = float(found["offset"] or 0) * scale * (-1 if found["sign"] == "-" else 1)
    else:
        if (found["percent"] is None) == (metric in shares):
            raise InputError(
                f"--gate {text!r}: {metric} is {'a share' if metric in shares else 'no share'}",
                f"write {found['number']}{'%' if metric in shares else ''}",
            )
        offset = float(found["number"]) * scale
    return Gate(text.strip(), metric, found["relation"] == ">=", reference, offset)


def decide(less_bound_s: ArrayLike, gate: Gate, *, n_claims: int = 1, confidence: float = CONFIDENCE, step: float = 0.0) -> Ruling:
    """Return whether one selection passes a gate, fails it, or whether its seeds cannot tell.

    It passes where the whole interval lies on the right side of the bound, and fails where the whole of a wider interval
    lies on the wrong side. A comparison passes where all its n claims do, which needs no wider interval (each must err for all
    to pass wrongly); it fails where a single one does, so that each may err a n-th as often (Bonferroni). Either way a
    comparison errs with a chance of (1 - confidence) / 2 at most.

    Args:
        less_bound_s: (S,) the metric of each seed less its bound: the baseline's value of that seed and the offset.
        n_claims: selections times gates of the whole comparison.
        confidence, step: see `mean_interval`.
    Returns:
        Ruling with the interval of ``confidence``.
    Raises:
        InputError: see `mean_interval`.
    Example:
        >>> claim = parse_gate("accuracy >= random", ["accuracy"], [], ["random"])
        >>> [decide(values, claim).state for values in ([0.02, 0.021, 0.019], [-0.02, -0.021, -0.019], [0.02, -0.02, 0.0])]
        ['passed', 'failed', 'undecided']
    """
    signed = np.asarray(less_bound_s, np.float64) * (1 if gate.at_least else -1)
    narrow = mean_interval(signed, confidence=confidence, step=step)
    wide = mean_interval(signed, confidence=1 - (1 - confidence) / max(1, n_claims), step=step)
    interval = mean_interval(less_bound_s, confidence=confidence, step=step)
    return Ruling("passed" if narrow.low >= 0 else "failed" if wide.high < 0 else "undecided", interval)


def break_even_trainings(selecting: float, training: float, full: float) -> int | None:
    """Return the fewest trainings n for which selecting once and training on the selection costs no more than all the data.

    ``selecting + n training <= n full``, so ``n = ceil(selecting / (full - training))``, at least 1.

    Args:
        selecting: what scoring and selecting cost, once; 0 or more, in seconds or FLOPs.
        training: one training on the selection, in the same unit.
        full: one training on all the data.
    Returns:
        1 or more, or None where it never pays.
    Example:
        Selecting costs 100; a training 30 instead of 70: 40 are saved each time, so the third pays.

        >>> break_even_trainings(100, 30, 70), break_even_trainings(0, 30, 70), break_even_trainings(0, 70, 70)
        (3, 1, None)
    """
    saved = full - training
    if not saved > 0:
        return None
    return max(1, math.ceil(selecting / saved - 1e-12))
