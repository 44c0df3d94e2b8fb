"""What a training says to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def tables(model: Mapping[str, Any], rows: int, rate: float) -> dict[str, list[list[str]]]:
    """Return what people read: what is left of a network that shrank, and how the training ended.

    Args:
        model: what ``model.json`` says.
        rows: that were trained on.
        rate: samples a second.
    """
    shown: dict[str, list[list[str]]] = {}
    if "structure" in model:
        whole, units = model["structure"]["whole"], model["structure"]["units"]
        shown["network"] = [
            ["", "whole", "left"],
            *([name, f"{whole[key]:,}", f"{model[key]:,} ({model[key] / whole[key]:.0%})"] for name, key in _LEFT),
            ["units", f"{sum(n for _, n in units.values()):,}", f"{sum(n for n, _ in units.values()):,}"],
            ["residual branches gone", "", ", ".join(model["structure"]["removed"]) or "none"],
        ]
    figures = model["metrics"]
    shown["trained"] = [
        ["architecture", "parameters", "rows", "steps", "train loss", "train accuracy", "samples/s"],
        [
            model["architecture"],
            f"{model['parameters']:,}",
            f"{rows:,}",
            f"{figures['step']:,}",
            f"{figures['train_loss']:.4f}",
            f"{figures['train_accuracy']:.4f}",
            f"{rate:,.0f}",
        ],
    ]
    return shown


_LEFT = (("FLOPs", "flops"), ("parameters", "parameters"))
