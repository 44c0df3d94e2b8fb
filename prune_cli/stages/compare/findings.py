"""What a comparison found: values over the seeds, differences, gates, break-even."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prune_cli.methods.evidence import Gate, Interval, Ruling, break_even_trainings, decide, mean_interval
from prune_cli.stages.compare.cells import CellResult
from prune_cli.stages.compare.costs import Cost
from prune_cli.stages.compare.options import FULL
from prune_cli.stages.compare.subsets import Subset

SHARES = ("accuracy", "worst_class_accuracy", "top5", "ece", "true_label_accuracy", "true_label_top5", "true_label_ece")
OTHERS = ("loss", "true_label_loss")


@dataclass(frozen=True)
class Findings:
    """All that a comparison measured.

    Args:
        subsets: what was trained on, baselines among them.
        results: (subset, budget) -> one result a seed, in the order of the seeds.
        costs: subset -> what it cost to select, where that is known.
        codes_n: (N,) int64 class of each row, -1 where missing.
        wrong_n: (N,) float64, 1 where the label is known to be wrong, 0 where it is right, NaN where nobody knows; or None.
    """

    subsets: Sequence[Subset]
    results: Mapping[tuple[str, str], Sequence[CellResult]]
    costs: Mapping[str, Cost | None]
    seeds: Sequence[int]
    class_names: Sequence[str]
    codes_n: np.ndarray
    wrong_n: np.ndarray | None
    confidence: float

    @property
    def budgets(self) -> list[str]:
        """``steps``, ``epochs`` or both."""
        return list(dict.fromkeys(budget for _, budget in self.results))

    def values(self, subset: str, budget: str, metric: str) -> np.ndarray:
        """Return (S,) float64, a metric of each seed; ``seconds`` and ``flops`` are of the training."""
        found = self.results[subset, budget]
        if metric in {"seconds", "flops"}:
            return np.array([getattr(one, metric) for one in found])
        return np.array([one.metrics[metric] for one in found])

    def has(self, metric: str) -> bool:
        """Return whether every training has a metric."""
        return all(metric in one.metrics for found in self.results.values() for one in found)

    def interval(self, values_s: np.ndarray, metric: str, steps: float = 1.0) -> Interval:
        """Return the interval of some values of a metric; ``steps`` of a test sample between neighbouring ones."""
        return mean_interval(values_s, confidence=self.confidence, step=self.step(metric) * steps)

    def step(self, metric: str) -> float:
        """Return what neighbouring values of a metric lie apart: one test sample (of a class) for shares of right answers."""
        first = next(iter(self.results.values()))[0]
        if metric == "worst_class_accuracy":
            return 1 / first.smallest_class
        return 1 / first.test_samples if metric.endswith(("accuracy", "top5")) else 0.0

    def baselines_of(self, subset: Subset) -> list[Subset]:
        """Return what a subset is compared with: draws of as many rows, and all rows."""
        return [b for b in self.subsets if b.baseline and b.name != subset.name and (b.method == FULL or b.rows == subset.rows)]


@dataclass(frozen=True)
class Judged:
    """One gate, tried on one subset under one budget."""

    gate: Gate
    subset: str
    budget: str
    ruling: Ruling


def judge(found: Findings, gates: Sequence[Gate]) -> list[Judged]:
    """Return what every gate says of every subset that is no baseline."""
    tried = [(gate, s, b) for s in found.subsets if not s.baseline for b in found.budgets for gate in gates]
    return [Judged(gate, s.name, b, _ruling(found, gate, s, b, len(tried))) for gate, s, b in tried]


def _ruling(found: Findings, gate: Gate, subset: Subset, budget: str, n_claims: int) -> Ruling:
    ours = found.values(subset.name, budget, gate.metric)
    bound = np.full(len(ours), gate.offset)
    if gate.reference is not None:
        theirs = next(b for b in found.baselines_of(subset) if b.method == gate.reference)
        bound = bound + found.values(theirs.name, budget, gate.metric)
    step = found.step(gate.metric) * (1 if gate.reference is None else math.sqrt(2))
    return decide(ours - bound, gate, n_claims=n_claims, confidence=found.confidence, step=step)


def class_means(found: Findings, subset: str, budget: str) -> dict[str, float]:
    """Return the mean accuracy of each class over the seeds."""
    results = found.results[subset, budget]
    return {name: float(np.mean([one.class_accuracy[name] for one in results])) for name in results[0].class_accuracy}


def difference(found: Findings, subset: str, baseline: str, budget: str, metric: str) -> Interval:
    """Return the paired difference of a metric to a baseline, seed by seed."""
    ours, theirs = (found.values(name, budget, metric) for name in (subset, baseline))
    return found.interval(ours - theirs, metric, math.sqrt(2))


def break_even(found: Findings, subset: Subset, budget: str) -> dict[str, int | None]:
    """Return from how many trainings on a selection pays, in seconds and in FLOPs; None: never.

    Nothing for what is not known, as the cost of scoring. A training of as many FLOPs is never cheaper: what its seconds say then is
    the machine's noise.
    """
    full = next((s for s in found.subsets if s.method == FULL), None)
    cost = found.costs.get(subset.name)
    if full is None or cost is None or subset.baseline:
        return {}
    answers: dict[str, int | None] = {}
    flops = [float(found.values(s, budget, "flops").mean()) for s in (subset.name, full.name)]
    seconds = [typical_seconds(found, s, budget) for s in (subset.name, full.name)]
    if cost.select_seconds is not None:
        spent = cost.score_seconds + cost.select_seconds
        answers["seconds"] = break_even_trainings(spent, *seconds) if flops[0] < flops[1] else None
    if cost.score_flops is not None:
        answers["flops"] = break_even_trainings(cost.score_flops, *flops)
    return answers


def typical_seconds(found: Findings, subset: str, budget: str) -> float:
    """Return the median seconds of a training over the seeds."""
    return float(np.median(found.values(subset, budget, "seconds")))
