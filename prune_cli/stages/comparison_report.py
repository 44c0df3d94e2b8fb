"""What a comparison says: its numbers as a report manifest, tables for people, and whether the gates hold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_cli.io.report import COMPARISON, ReportRows
from prune_cli.methods.evidence.break_even import break_even_trainings
from prune_cli.methods.evidence.gates import Gate, Ruling, decide
from prune_cli.methods.evidence.intervals import Interval, mean_interval
from prune_cli.stages.comparison_cells import CellResult
from prune_cli.stages.comparison_costs import Cost
from prune_cli.stages.comparison_subsets import FULL, Subset

SHARES = ("accuracy", "worst_class_accuracy", "top5", "ece", "true_label_accuracy", "true_label_top5", "true_label_ece")
OTHERS = ("loss", "true_label_loss")


@dataclass(frozen=True)
class Findings:
    """All that a comparison measured.

    Args:
        subsets: what was trained on, baselines among them.
        results: (subset, budget) -> one result a seed, in the order of the seeds.
        costs: subset -> what it cost to select, where that is known.
        seeds: of the comparison.
        class_names: of the data.
        codes_n: (N,) int64 class of each row, -1 where missing.
        wrong_n: (N,) float64, 1 where the label is known to be wrong, 0 where it is right, NaN where nobody knows; or None.
        confidence: of all intervals.
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
        return [
            b
            for b in self.subsets
            if b.baseline and b.name != subset.name and (b.method == FULL or b.rows == subset.rows)
        ]


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


def report_rows(found: Findings, judged: Sequence[Judged], split: str | None) -> ReportRows:
    """Return every number as the rows of a report manifest: of each training, over the seeds, differences, costs, gates."""
    rows = ReportRows(COMPARISON, split=split)
    for subset in found.subsets:
        for budget in found.budgets:
            common = _common(subset, budget)
            _add_trainings(rows, found, subset, budget, common)
            _add_means(rows, found, subset, budget, common)
            _add_costs(rows, found, subset, budget, common)
        _add_selection(rows, found, subset)
    for one in judged:
        value = {"passed": 1.0, "failed": 0.0, "undecided": None}[one.ruling.state]
        of = next(s for s in found.subsets if s.name == one.subset)
        bounds = _bounds(one.ruling.interval)
        rows.add("gate", value, "1 passed, 0 failed", against=one.gate.text, **bounds, **_common(of, one.budget))
    return rows


def _add_trainings(rows: ReportRows, found: Findings, subset: Subset, budget: str, common: Mapping[str, Any]) -> None:
    for seed, one in zip(found.seeds, found.results[subset.name, budget], strict=True):
        for metric, value in one.metrics.items():
            rows.add(metric, value, _unit(metric), seed=seed, **common)
        for name, value in one.class_accuracy.items():
            rows.add("accuracy", value, "share", seed=seed, class_name=name, **common)
        rows.add("train_seconds", one.seconds, "seconds", seed=seed, **common)
        rows.add("train_flops", one.flops, "flops", seed=seed, **common)
        rows.add("steps", one.steps, "steps", seed=seed, **common)


def _add_means(rows: ReportRows, found: Findings, subset: Subset, budget: str, common: Mapping[str, Any]) -> None:
    metrics = [m for m in (*SHARES, *OTHERS) if found.has(m)]
    for metric in metrics:
        interval = found.interval(found.values(subset.name, budget, metric), metric)
        rows.add(metric, interval.mean, _unit(metric), **_bounds(interval), **common)
        if interval.n > 1:
            rows.add(f"{metric}_std", interval.std, _unit(metric), **common)
    for name, value in class_means(found, subset.name, budget).items():
        rows.add("accuracy", value, "share", class_name=name, **common)
    for other in found.baselines_of(subset):
        for metric in metrics:
            interval = difference(found, subset.name, other.name, budget, metric)
            rows.add(metric, interval.mean, _unit(metric), against=other.method, **_bounds(interval), **common)


def _add_costs(rows: ReportRows, found: Findings, subset: Subset, budget: str, common: Mapping[str, Any]) -> None:
    for name in ("seconds", "flops"):
        rows.add(f"train_{name}", float(found.values(subset.name, budget, name).mean()), name, **common)
    cost = found.costs.get(subset.name)
    if cost is None:
        return
    rows.add("score_seconds", cost.score_seconds, "seconds", **common)
    if cost.score_flops is not None:
        rows.add("score_flops", cost.score_flops, "flops", **common)
    if cost.select_seconds is not None:
        rows.add("select_seconds", cost.select_seconds, "seconds", **common)
    for unit, trainings in break_even(found, subset, budget).items():
        rows.add("break_even_trainings", trainings, unit, **common)


def _add_selection(rows: ReportRows, found: Findings, subset: Subset) -> None:
    common = {k: v for k, v in _common(subset, "").items() if k != "budget"}
    for seed, mask in subset.masks.items() if len(set(subset.digests.values())) > 1 else list(subset.masks.items())[:1]:
        where = {"seed": seed} if len(set(subset.digests.values())) > 1 else {}
        rows.add("rows_kept", int(mask.sum()), "rows", **where, **common)
        known = found.codes_n >= 0
        n_classes = len(found.class_names)
        kept = np.bincount(found.codes_n[mask & known], minlength=n_classes)
        there = np.bincount(found.codes_n[known], minlength=n_classes)
        for name, k, t in zip(found.class_names, kept.tolist(), there.tolist(), strict=True):
            if t:
                rows.add("kept_share", k / t, "share", class_name=name, **where, **common)
        noise = label_noise(found, mask)
        if noise is not None:
            rows.add("label_noise_subset", noise, "share", **where, **common)
            rows.add("label_noise_data", label_noise(found, found.codes_n >= 0), "share", **where, **common)


def label_noise(found: Findings, mask: np.ndarray) -> float | None:
    """Return the share of wrong labels among the rows of a mask whose truth is known; None where none is."""
    if found.wrong_n is None:
        return None
    wrong = found.wrong_n[mask]
    wrong = wrong[np.isfinite(wrong)]
    return float(wrong.mean()) if len(wrong) else None


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

    Nothing for what is not known, as the cost of scoring. Where a training is not shorter with every seed, it never pays.
    """
    full = next((s for s in found.subsets if s.method == FULL), None)
    cost = found.costs.get(subset.name)
    if full is None or cost is None or subset.baseline:
        return {}
    answers: dict[str, int | None] = {}
    saved = found.values(full.name, budget, "seconds") - found.values(subset.name, budget, "seconds")
    means = [float(found.values(s, budget, "seconds").mean()) for s in (subset.name, full.name)]
    if cost.select_seconds is not None:
        shorter = bool((saved > 0).all())
        spent = cost.score_seconds + cost.select_seconds
        answers["seconds"] = break_even_trainings(spent, means[0], means[1]) if shorter else None
    if cost.score_flops is not None:
        flops = [float(found.values(s, budget, "flops").mean()) for s in (subset.name, full.name)]
        answers["flops"] = break_even_trainings(cost.score_flops, flops[0], flops[1])
    return answers


def tables(found: Findings, judged: Sequence[Judged]) -> dict[str, list[list[str]]]:
    """Return what people read: accuracy and differences, break-even, gates."""
    shown: dict[str, list[list[str]]] = {}
    against = list(dict.fromkeys(b.method for b in found.subsets if b.baseline))
    noisy = found.wrong_n is not None
    for budget in found.budgets:
        heading = ["trained on", "rows", "accuracy", *(f"less {b}" for b in against), "worst class"]
        rows = [heading + (["wrong labels"] if noisy else [])]
        for subset in found.subsets:
            interval = found.interval(found.values(subset.name, budget, "accuracy"), "accuracy")
            by_class = class_means(found, subset.name, budget)
            worst = min(by_class, key=lambda name: by_class[name])
            others = {b.method: b for b in found.baselines_of(subset)}
            row = [subset.name, f"{subset.rows:,}", _points(interval.mean, interval.std)]
            for name in against:
                other = others.get(name)
                row.append(
                    "" if other is None else _signed(difference(found, subset.name, other.name, budget, "accuracy"))
                )
            row.append(f"{worst} {100 * by_class[worst]:.1f}")
            if noisy:
                noise = label_noise(found, next(iter(subset.masks.values())))
                row.append("" if noise is None else f"{noise:.1%}")
            rows.append(row)
        shown[f"test accuracy in percent, {len(found.seeds)} seed(s), {_equal(budget)}"] = rows
    paying = [
        ["trained on", "equal", "scoring s", "selecting s", "a training s", "all data s", "pays from", "by FLOPs"]
    ]
    for budget in found.budgets:
        paying += [paid for s in found.subsets if (paid := _paying_row(found, s, budget)) is not None]
    if len(paying) > 1:
        shown["break-even: from which training on selecting has paid for itself"] = paying
    if judged:
        shown["gates"] = [["gate", "trained on", "equal", "difference to the bound", "verdict"]]
        shown["gates"] += [
            [j.gate.text, j.subset, j.budget, _signed(j.ruling.interval, j.gate.metric in SHARES), j.ruling.state]
            for j in judged
        ]
    return shown


def summary(found: Findings) -> list[dict[str, Any]]:
    """Return the figures of ``--json``: one object for each subset and budget."""
    said = []
    for subset in found.subsets:
        for budget in found.budgets:
            accuracy = found.interval(found.values(subset.name, budget, "accuracy"), "accuracy")
            one: dict[str, Any] = {"subset": subset.name, "rows": subset.rows, "budget": budget, **_figures(accuracy)}
            for other in found.baselines_of(subset):
                one[f"less_{other.method}"] = _figures(difference(found, subset.name, other.name, budget, "accuracy"))
            one["train_seconds"] = float(found.values(subset.name, budget, "seconds").mean())
            one["train_flops"] = float(found.values(subset.name, budget, "flops").mean())
            cost = found.costs.get(subset.name)
            if cost is not None:
                one |= dataclasses.asdict(cost)
                one["break_even_trainings"] = break_even(found, subset, budget)
            said.append(one)
    return said


def _paying_row(found: Findings, subset: Subset, budget: str) -> list[str] | None:
    pays, cost = break_even(found, subset, budget), found.costs.get(subset.name)
    if not pays or cost is None:
        return None
    words = {unit: "never" if n is None else f"training {n:,}" for unit, n in pays.items()}
    selecting = "" if cost.select_seconds is None else f"{cost.select_seconds:,.1f}"
    seconds = [float(found.values(name, budget, "seconds").mean()) for name in (subset.name, FULL)]
    return [
        subset.name, budget, f"{cost.score_seconds:,.1f}", selecting, *(f"{s:,.1f}" for s in seconds),
        words.get("seconds", ""), words.get("flops", ""),
    ]  # fmt: skip


def _common(subset: Subset, budget: str) -> dict[str, Any]:
    return {
        "subset": subset.name,
        "method": subset.method,
        "fraction": subset.fraction,
        "rows": subset.rows,
        "budget": budget,
    }


def _bounds(interval: Interval) -> dict[str, float | None]:
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    return {"low": interval.low if known else None, "high": interval.high if known else None}


def _figures(interval: Interval) -> dict[str, Any]:
    std = None if math.isnan(interval.std) else interval.std
    return {"accuracy": interval.mean, "std": std, **_bounds(interval)}


def _unit(metric: str) -> str:
    return "nats" if metric.endswith("loss") else "share"


def _equal(budget: str) -> str:
    return {"steps": "equal steps", "epochs": "equal epochs"}[budget]


def _points(mean: float, std: float) -> str:
    return f"{100 * mean:.2f}" + ("" if math.isnan(std) else f" ± {100 * std:.2f}")


def _signed(interval: Interval, share: bool = True) -> str:
    scale = 100 if share else 1
    mean = f"{scale * interval.mean:+.2f}"
    if not math.isfinite(interval.low):
        return f"{mean} (one seed)"
    return f"{mean} ({scale * interval.low:+.2f} to {scale * interval.high:+.2f})"
