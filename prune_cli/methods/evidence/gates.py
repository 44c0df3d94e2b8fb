"""Gates: a claim about a comparison, such as ``accuracy >= full - 0.5``, and whether it holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from prune_cli.core.errors import InputError
from prune_cli.methods.evidence.intervals import CONFIDENCE, Interval, mean_interval

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
        metric: its name.
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
        text: the claim.
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


def decide(
    less_bound_s: ArrayLike, gate: Gate, *, n_claims: int = 1, confidence: float = CONFIDENCE, step: float = 0.0
) -> Ruling:
    """Return whether one selection passes a gate, fails it, or whether its seeds cannot tell.

    It passes where the whole interval lies on the right side of the bound, and fails where the whole of a wider interval
    lies on the wrong side. A comparison passes where all its n claims do, which needs no wider interval (each must err for all
    to pass wrongly); it fails where a single one does, so that each may err a n-th as often (Bonferroni). Either way a
    comparison errs with a chance of (1 - confidence) / 2 at most.

    Args:
        less_bound_s: (S,) the metric of each seed less its bound: the baseline's value of that seed and the offset.
        gate: the claim.
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
    state: Literal["passed", "failed", "undecided"] = "undecided"
    if narrow.low >= 0:
        state = "passed"
    elif wide.high < 0:
        state = "failed"
    return Ruling(state, mean_interval(less_bound_s, confidence=confidence, step=step))
