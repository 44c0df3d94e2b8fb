"""What a comparison says to people, and as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from prune_cli.methods.evidence.intervals import Interval
from prune_cli.stages.compare.findings import (
    SHARES,
    Findings,
    Judged,
    break_even,
    class_means,
    difference,
    typical_seconds,
)
from prune_cli.stages.compare.rows import bounds
from prune_cli.stages.compare.subsets import FULL, Subset
from prune_cli.stages.evaluate.label_noise import noise_share


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
                noise = noise_share(found.wrong_n, next(iter(subset.masks.values())))
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


def summary(found: Findings, judged: Sequence[Judged]) -> dict[str, Any]:
    """Return the figures of ``--json``: an object for each gate, and for each subset and budget."""
    gates = [
        {
            "gate": j.gate.text,
            "subset": j.subset,
            "budget": j.budget,
            "state": j.ruling.state,
            "difference": j.ruling.interval.mean,
        }
        for j in judged
    ]
    return {"gates": gates, "results": _results(found)}


def _results(found: Findings) -> list[dict[str, Any]]:
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
    return said


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
