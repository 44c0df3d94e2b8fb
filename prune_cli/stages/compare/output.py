"""What a comparison says: rows of a report manifest, tables for people, and JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prune_cli.io.manifests.report import COMPARISON, ReportRows
from prune_cli.methods.evidence import Interval
from prune_cli.stages.compare.findings import OTHERS, SHARES, Findings, Judged, break_even, class_means, difference, typical_seconds
from prune_cli.stages.compare.options import FULL
from prune_cli.stages.compare.subsets import Subset
from prune_cli.stages.evaluate.relabels import noise_share


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
        reach = bounds(one.ruling.interval)
        rows.add("gate", value, "1 passed, 0 failed", against=one.gate.text, **reach, **_common(of, one.budget))
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
        rows.add(metric, interval.mean, _unit(metric), **bounds(interval), **common)
        if interval.n > 1:
            rows.add(f"{metric}_std", interval.std, _unit(metric), **common)
    for name, value in class_means(found, subset.name, budget).items():
        rows.add("accuracy", value, "share", class_name=name, **common)
    for other in found.baselines_of(subset):
        for metric in metrics:
            interval = difference(found, subset.name, other.name, budget, metric)
            rows.add(metric, interval.mean, _unit(metric), against=other.method, **bounds(interval), **common)


def _add_costs(rows: ReportRows, found: Findings, subset: Subset, budget: str, common: Mapping[str, Any]) -> None:
    rows.add("train_seconds", typical_seconds(found, subset.name, budget), "seconds", **common)
    rows.add("train_flops", float(found.values(subset.name, budget, "flops").mean()), "flops", **common)
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
        noise = noise_share(found.wrong_n, mask)
        if noise is not None:
            rows.add("label_noise_subset", noise, "share", **where, **common)
            rows.add("label_noise_data", noise_share(found.wrong_n, found.codes_n >= 0), "share", **where, **common)


def _common(subset: Subset, budget: str) -> dict[str, Any]:
    return {"subset": subset.name, "method": subset.method, "fraction": subset.fraction, "rows": subset.rows, "budget": budget}


def bounds(interval: Interval) -> dict[str, float | None]:
    """Return the columns ``low`` and ``high``, null where one seed says nothing of them."""
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    return {"low": interval.low if known else None, "high": interval.high if known else None}


def _unit(metric: str) -> str:
    return "nats" if metric.endswith("loss") else "share"


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
                row.append("" if other is None else _signed(difference(found, subset.name, other.name, budget, "accuracy")))
            row.append(f"{worst} {100 * by_class[worst]:.1f}")
            if noisy:
                noise = noise_share(found.wrong_n, next(iter(subset.masks.values())))
                row.append("" if noise is None else f"{noise:.1%}")
            rows.append(row)
        shown[f"test accuracy in percent, {len(found.seeds)} seed(s), equal {budget}"] = rows
    paying = [["trained on", "equal", "scoring s", "selecting s", "a training s", "all data s", "pays from", "by FLOPs"]]
    for budget in found.budgets:
        paying += [paid for s in found.subsets if (paid := _paying_row(found, s, budget)) is not None]
    if len(paying) > 1:
        shown["break-even: from which training on selecting has paid for itself"] = paying
    if judged:
        shown["gates"] = [["gate", "trained on", "equal", "difference to the bound", "verdict"]]
        shown["gates"] += [
            [j.gate.text, j.subset, j.budget, _signed(j.ruling.interval, j.gate.metric in SHARES), j.ruling.state] for j in judged
        ]
    return shown


def summary(found: Findings, judged: Sequence[Judged]) -> dict[str, Any]:
    """Return the figures of ``--json``: an object for each gate, and for each subset and budget."""
    gates = [
        {"gate": j.gate.text, "subset": j.subset, "budget": j.budget, "state": j.ruling.state, "difference": j.ruling.interval.mean}
        for j in judged
    ]
    said = []
    for subset in found.subsets:
        for budget in found.budgets:
            accuracy = found.interval(found.values(subset.name, budget, "accuracy"), "accuracy")
            one: dict[str, Any] = {"subset": subset.name, "rows": subset.rows, "budget": budget, **_figures(accuracy)}
            for other in found.baselines_of(subset):
                one[f"less_{other.method}"] = _figures(difference(found, subset.name, other.name, budget, "accuracy"))
            one["train_seconds"] = typical_seconds(found, subset.name, budget)
            one["train_flops"] = float(found.values(subset.name, budget, "flops").mean())
            cost = found.costs.get(subset.name)
            if cost is not None:
                one |= dataclasses.asdict(cost)
                one["break_even_trainings"] = break_even(found, subset, budget)
            said.append(one)
    return {"gates": gates, "results": said}


def _paying_row(found: Findings, subset: Subset, budget: str) -> list[str] | None:
    pays, cost = break_even(found, subset, budget), found.costs.get(subset.name)
    if not pays or cost is None:
        return None
    words = {unit: "never" if n is None else f"training {n:,}" for unit, n in pays.items()}
    selecting = "" if cost.select_seconds is None else f"{cost.select_seconds:,.1f}"
    seconds = [typical_seconds(found, name, budget) for name in (subset.name, FULL)]
    return [
        subset.name, budget, f"{cost.score_seconds:,.1f}", selecting, *(f"{s:,.1f}" for s in seconds),
        words.get("seconds", ""), words.get("flops", ""),
    ]  # fmt: skip


def _figures(interval: Interval) -> dict[str, Any]:
    std = None if math.isnan(interval.std) else interval.std
    return {"accuracy": interval.mean, "std": std, **bounds(interval)}


def _points(mean: float, std: float) -> str:
    return f"{100 * mean:.2f}" + ("" if math.isnan(std) else f" ± {100 * std:.2f}")


def _signed(interval: Interval, share: bool = True) -> str:
    scale = 100 if share else 1
    mean = f"{scale * interval.mean:+.2f}"
    if not math.isfinite(interval.low):
        return f"{mean} (one seed)"
    return f"{mean} ({scale * interval.low:+.2f} to {scale * interval.high:+.2f})"
