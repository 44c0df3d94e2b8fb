"""Evaluations of single runs, and rows that were left out."""

from __future__ import annotations

from collections.abc import Sequence

from prune_cli.core.plots import HeatMap, Plot, Series
from prune_cli.stages.report.files import ReportFile
from prune_cli.stages.report.sections.section import Section, Table

_MANY = 60
_LISTED = 200


def evaluation_section(files: Sequence[ReportFile]) -> Section | None:
    """Return the figures, the accuracy of each class and the confusion of each evaluation."""
    if not files:
        return None
    section = Section("evaluation", "Tests")
    for number, file in enumerate(files):
        rows = file.source.read(["metric", "value", "unit", "class", "predicted"]).to_pylist()
        headline = [r for r in rows if r["class"] is None]
        shown = [(r["metric"], f"{r['value']:.4f}", r["unit"]) for r in headline]
        section.blocks.append(Table(f"{file.name}: figures", ("metric", "value", "unit"), shown, (1,)))
        classes = [(r["class"], r["value"]) for r in rows if r["metric"] == "accuracy" and r["class"] is not None]
        if 0 < len(classes) <= _MANY:
            bars = Series("", list(range(len(classes))), [value for _, value in classes])
            words = "Accuracy of each class: " + ", ".join(f"{name} {value:.0%}" for name, value in classes)
            section.blocks.append(
                Plot(
                    f"classes-{number}", f"{file.name}: accuracy of each class", "class", "accuracy", [bars], "bars",
                    [name for name, _ in classes], percent="y", words=words,
                )
            )  # fmt: skip
        cells = {(r["class"], r["predicted"]): r["value"] for r in rows if r["metric"] == "confusion"}
        names = list(dict.fromkeys([c for c, _ in classes] + [n for pair in cells for n in pair]))
        if cells and len(names) <= _MANY:
            values = [[cells.get((true, said), 0.0) for said in names] for true in names]
            wrong = sorted(((v, t, s) for (t, s), v in cells.items() if t != s), reverse=True)[:5]
            words = "Most often taken for another: " + "; ".join(f"{t} for {s}, {v:.0f}" for v, t, s in wrong)
            section.blocks.append(
                HeatMap(
                    f"confusion-{number}",
                    f"{file.name}: confusion",
                    "predicted",
                    "labeled",
                    values,
                    names,
                    names,
                    words,
                )
            )
    return section


def ledger_section(files: Sequence[ReportFile]) -> Section | None:
    """Return the rows that were bad, the first of each ledger."""
    if not files:
        return None
    section = Section("bad-rows", "Rows left out")
    for file in files:
        rows = [
            (str(r["id"]), r["path"] or "", r["reason"])
            for batch in file.source.batches(["id", "path", "reason"], _LISTED)
            for r in batch.to_pylist()
        ][:_LISTED]
        more = "" if file.source.rows <= _LISTED else f", the first {_LISTED} of {file.source.rows:,}"
        section.blocks.append(Table(f"{file.name}{more}", ("id", "path", "reason"), rows))
    return section
