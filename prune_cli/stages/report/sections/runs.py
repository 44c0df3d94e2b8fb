"""Trainings: how they went, and what is left of a network that shrank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prune_cli.core.plots import Plot, Series
from prune_cli.stages.report.files import ReportFile
from prune_cli.stages.report.sections.section import Block, Section, Table


def runs_section(files: Sequence[ReportFile]) -> Section | None:
    """Return history and size of each run folder."""
    if not files:
        return None
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
    return Plot(
        f"history-{number}",
        f"{name}: training",
        "pass",
        "accuracy on the training samples",
        [accuracy],
        percent="y",
        words=words,
    )


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
    blocks.append(
        Table(f"{name}: widths of layers; residual branches gone: {removed}", ("layer", "whole", "left"), rows, (1, 2))
    )
    return blocks
