"""Whether it pays: accuracy over budgets with intervals, differences, gates, break-even."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prune_cli.core.plots import Plot, Series
from prune_cli.stages.report.files import ReportFile
from prune_cli.stages.report.sections.section import Section, Table

Row = Mapping[str, Any]


def comparison_section(files: Sequence[ReportFile]) -> Section:
    """Return what comparisons found."""
    section = Section("comparison", "Is it worth it?")
    for number, file in enumerate(files):
        rows = file.source.read(file.source.schema.names).to_pylist()
        confidence = file.stated.get("parameters", {}).get("confidence", 0.95)
        gates = [row for row in rows if row["metric"] == "gate"]
        if gates:
            section.blocks.append(_gates(gates))
        for budget in dict.fromkeys(r["budget"] for r in rows if r["budget"]):
            mine = [r for r in rows if r["budget"] == budget]
            plot = _accuracy(mine, budget, f"accuracy-{number}-{budget}", confidence)
            if plot is not None:
                section.blocks.append(plot)
            section.blocks.append(_differences(mine, budget, confidence))
            paying = _break_even(mine, budget)
            if paying is not None:
                section.blocks.append(paying)
    return section


def verdict(files: Sequence[ReportFile]) -> str:
    """Return the verdict of all gates in a sentence, empty where there are none."""
    states = [row["value"] for file in files for row in file.source.read(["metric", "value"]).to_pylist() if row["metric"] == "gate"]
    if not states:
        return ""
    passed, failed = states.count(1.0), states.count(0.0)
    return f"{passed} gate(s) passed, {failed} failed, {len(states) - passed - failed} undecided"


def _means(rows: Sequence[Row]) -> list[Row]:
    return [
        r for r in rows
        if r["metric"] == "accuracy" and r["seed"] is None and r["class"] is None and r["against"] is None
    ]  # fmt: skip


def _accuracy(rows: Sequence[Row], budget: str, key: str, confidence: float) -> Plot | None:
    means = _means(rows)
    full = next((r for r in means if r["method"] == "full"), None)
    series = []
    for method in dict.fromkeys(r["method"] for r in means if r["method"] != "full"):
        mine = sorted((r for r in means if r["method"] == method), key=lambda r: r["fraction"])
        bounded = all(r["low"] is not None for r in mine)
        series.append(
            Series(
                method,
                [r["fraction"] for r in mine],
                [r["value"] for r in mine],
                [r["low"] for r in mine] if bounded else None,
                [r["high"] for r in mine] if bounded else None,
            )
        )
    if not series:
        return None
    levels = [] if full is None else [("all data", full["value"])]
    words = "; ".join(f"{r['subset']} {r['value']:.1%}" for r in means)
    spread = any(s.low is not None for s in series)
    title = f"Test accuracy, equal {budget}" + (f"; bands are {confidence:.0%} intervals" if spread else "")
    return Plot(key, title, "share kept", "test accuracy", series, "lines", None, levels, "xy", log=True, words=f"Test accuracy: {words}.")


def _differences(rows: Sequence[Row], budget: str, confidence: float) -> Table:
    against = list(dict.fromkeys(r["against"] for r in rows if r["against"] and r["metric"] == "accuracy"))
    table = []
    for mean in _means(rows):
        mine = [r for r in rows if r["subset"] == mean["subset"]]
        less = {r["against"]: r for r in mine if r["metric"] == "accuracy" and r["against"]}
        classes = [r for r in mine if r["metric"] == "accuracy" and r["class"] is not None and r["seed"] is None]
        worst = min(classes, key=lambda r: r["value"], default=None)
        table.append(
            (
                mean["subset"], f"{mean['rows']:,}", f"{100 * mean['value']:.2f}",
                *(_signed(less[name]) if name in less else "" for name in against),
                "" if worst is None else f"{worst['class']} {100 * worst['value']:.1f}",
            )
        )  # fmt: skip
    heading = ("trained on", "rows", "accuracy, %", *(f"less {name}, points" for name in against), "worst class")
    return Table(f"equal {budget}: accuracy, paired differences with {confidence:.0%} intervals", heading, table, (1, 2))


def _signed(row: Row) -> str:
    bounds = "" if row["low"] is None else f" ({100 * row['low']:+.2f} to {100 * row['high']:+.2f})"
    return f"{100 * row['value']:+.2f}{bounds}"


def _break_even(rows: Sequence[Row], budget: str) -> Table | None:
    paying = [r for r in rows if r["metric"] == "break_even_trainings"]
    table = []
    for name in dict.fromkeys(r["subset"] for r in paying):
        mine = {r["metric"]: r["value"] for r in rows if r["subset"] == name and r["seed"] is None and not r["class"]}
        pays = {r["unit"]: r["value"] for r in paying if r["subset"] == name}
        full = {r["metric"]: r["value"] for r in rows if r["subset"] == "full" and r["seed"] is None and not r["class"]}
        table.append(
            (
                name,
                *(f"{mine[k]:,.1f}" if mine.get(k) is not None else "" for k in ("score_seconds", "select_seconds", "train_seconds")),
                f"{full['train_seconds']:,.1f}" if "train_seconds" in full else "",
                *(_trainings(pays, unit) for unit in ("seconds", "flops")),
            )
        )  # fmt: skip
    if not table:
        return None
    heading = (
        "trained on", "scoring, s", "selecting, s", "a training, s", "all data, s", "pays from (time)", "pays from (FLOPs)",
    )  # fmt: skip
    return Table(f"equal {budget}: from which training on scoring and selecting has paid for itself", heading, table, (1, 2, 3, 4))


def _trainings(pays: Mapping[str, float | None], unit: str) -> str:
    if unit not in pays:
        return "not known"
    value = pays[unit]
    return "never" if value is None else f"training {value:,.0f}"


def _gates(gates: Sequence[Row]) -> Table:
    words = {1.0: "✓ passed", 0.0: "✗ failed", None: "? undecided"}
    rows = []
    for r in gates:
        scale = 1 if "loss" in r["against"] else 100
        bounds = "" if r["low"] is None else f"{scale * r['low']:+.2f} to {scale * r['high']:+.2f}"
        rows.append((r["against"], r["subset"], r["budget"], bounds, words[r["value"]]))
    return Table("gates", ("gate", "trained on", "equal", "difference to the bound", "verdict"), rows)
