"""Trainings and what came of them: history, evaluations, what they would call their samples, what is left of a network that shrank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.plots import HeatMap, Plot, Series
from prune_cli.stages.report.files import ReportFile
from prune_cli.stages.report.sections.section import Block, Section, Table

_MANY = 60
_LISTED = 200


def evaluation_section(files: Sequence[ReportFile]) -> Section:
    """Return the figures, the accuracy of each class and the confusion of each evaluation."""
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
                HeatMap(f"confusion-{number}", f"{file.name}: confusion", "predicted", "labeled", values, names, names, words)
            )
    return section


def ledger_section(files: Sequence[ReportFile]) -> Section:
    """Return the rows that were bad, the first of each ledger."""
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


_BINS, _CHANGES = 40, 20


def relabels_section(files: Sequence[ReportFile]) -> Section:
    """Return the changes of each file of new labels, and how sure the run is that the given ones are right."""
    section = Section("relabels", "New labels")
    for number, file in enumerate(files):
        found = file.source.read(["label", "new_label", "p_clean"])
        old, new = (found[name].cast(pa.string()) for name in ("label", "new_label"))
        differs = pc.not_equal(old, new).fill_null(False)
        changed = pc.sum(differs).as_py() or 0
        section.blocks.append(f"{file.name}: {changed:,} of {len(found):,} labels changed ({changed / len(found):.1%}).")
        pairs = pa.table({"label": old, "new label": new}).filter(differs).group_by(["label", "new label"]).aggregate([([], "count_all")])
        pairs = pairs.sort_by([("count_all", "descending"), ("label", "ascending"), ("new label", "ascending")])
        rows = [(r["label"], r["new label"], f"{r['count_all']:,}") for r in pairs.slice(0, _CHANGES).to_pylist()]
        if rows:
            section.blocks.append(Table(f"{file.name}: most frequent changes", ("label", "new label", "rows"), rows, (2,)))
        p_clean = found["p_clean"].cast(pa.float64()).to_numpy()
        edges = np.linspace(0, 1, _BINS + 1)
        mask = differs.combine_chunks().to_numpy(zero_copy_only=False)
        series = [
            Series(name, edges.tolist(), np.histogram(p_clean[part & np.isfinite(p_clean)], edges)[0].tolist())
            for name, part in (("label kept", ~mask), ("label changed", mask))
        ]
        section.blocks.append(
            Plot(
                f"p-clean-{number}", f"{file.name}: probability that the given label is right", "p_clean", "rows", series,
                "histogram", words=f"Histogram of p_clean, median {np.nanmedian(p_clean):.3g}.",
            )
        )  # fmt: skip
    return section


def runs_section(files: Sequence[ReportFile]) -> Section:
    """Return history and size of each run folder."""
    section = Section("runs", "Trainings")
    rows = []
    for number, (file, run) in enumerate((file, file.run) for file in files if file.run is not None):
        model = run.model
        history = file.source.read(file.source.schema.names).to_pylist()
        rows.append(
            (
                file.name, str(model["architecture"]), str(model["recipe"]), str(model["seed"]), f"{model['parameters']:,}",
                f"{model['flops']:,}", f"{history[-1]['train_accuracy']:.2%}", f"{sum(r['seconds'] for r in history):,.1f}",
            )
        )  # fmt: skip
        section.blocks.append(_history(file.name, history, number))
        if "structure" in model:
            section.blocks += _widths(file.name, model["structure"], history, number)
    heading = ("run", "network", "recipe", "seed", "parameters", "FLOPs", "training accuracy", "seconds")
    section.blocks.insert(0, Table("runs", heading, rows, (3, 4, 5, 6, 7)))
    return section


def _history(name: str, history: Sequence[dict[str, Any]], number: int) -> Plot:
    passes = [row["epoch"] for row in history]
    accuracy = Series("training accuracy", passes, [row["train_accuracy"] for row in history])
    words = f"Training accuracy of {name}, from {accuracy.y[0]:.1%} to {accuracy.y[-1]:.1%} in {len(passes)} passes."
    return Plot(f"history-{number}", f"{name}: training", "pass", "accuracy on the training samples", [accuracy], percent="y", words=words)


def _widths(name: str, structure: dict[str, Any], history: Sequence[dict[str, Any]], number: int) -> list[Block]:
    """Return how wide each layer was and is, and how the network shrank."""
    units: dict[str, Sequence[int]] = structure["units"]
    names, whole = list(units), structure["whole"]
    left, gone = [units[n][0] for n in names], [units[n][1] - units[n][0] for n in names]
    places = list(range(len(names)))
    words = "; ".join(f"{n}: {units[n][0]} of {units[n][1]}" for n in names)
    bars = Plot(
        f"widths-{number}", f"{name}: units left of each layer", "layer", "units",
        [Series("left", places, left), Series("cut out", places, gone)], "bars", names, words=f"Units left: {words}.",
    )  # fmt: skip
    passes = [row["epoch"] for row in history]
    sizes = [
        Series(label, passes, [row[column] / whole[column] for row in history])
        for label, column in (("FLOPs", "flops"), ("parameters", "parameters"))
        if column in history[0]
    ]
    blocks: list[Block] = [bars]
    if sizes:
        blocks.append(
            Plot(
                f"sizes-{number}", f"{name}: how it shrank", "pass", "share of the whole network", sizes, percent="y",
                words="; ".join(f"{s.name} end at {s.y[-1]:.0%}" for s in sizes),
            )
        )  # fmt: skip
    if history and history[0].get("units") is not None:
        over = [
            Series(layer, passes, [row["units"][i] for row in history]) for i, layer in enumerate(names)
            if i < len(history[0]["units"])
        ]  # fmt: skip
        blocks.append(
            Plot(
                f"widths-over-{number}", f"{name}: units of each layer over time", "pass", "units", over,
                words="Units of each layer at the end of every pass.",
            )
        )  # fmt: skip
    removed = ", ".join(structure.get("removed", [])) or "none"
    rows = [(n, f"{units[n][1]:,}", f"{units[n][0]:,}") for n in names]
    blocks.append(Table(f"{name}: widths of layers; residual branches gone: {removed}", ("layer", "whole", "left"), rows, (1, 2)))
    return blocks
