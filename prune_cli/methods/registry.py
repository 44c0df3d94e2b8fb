"""Every method by its name on the command line: where it lives, what it needs, the direction of what it returns.

Plain data: nothing heavy is imported until `Method.load` is called. A new method is one module and one entry here;
the command line, ``--list-methods`` and the contract tests read this table and nothing else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from prune_cli.core.errors import InputError

Direction = Literal["harder", "easier"]
Kind = Literal["score", "selection", "recipe"]


@dataclass(frozen=True)
class Method:
    """One entry of the registry.

    Args:
        name: what the user types.
        kind: ``score`` (a number per sample), ``selection`` (which samples) or ``recipe`` (how to train).
        module: import path of the module.
        function: name of the public function in it.
        params: name of its parameter dataclass in the same module.
        summary: one line for ``--list-methods``.
        cost: time and memory in words and symbols.
        source: paper or origin.
        columns: score columns it can return -> the direction of a high value.
    """

    name: str
    kind: Kind
    module: str
    function: str
    params: str
    summary: str
    cost: str
    source: str
    columns: Mapping[str, Direction] = field(default_factory=dict)

    def load(self) -> Callable[..., Any]:
        """Return the method's function, importing its module."""
        return getattr(importlib.import_module(self.module), self.function)  # type: ignore[no-any-return]

    def params_class(self) -> type:
        """Return the method's parameter dataclass, importing its module (which imports nothing heavy by itself)."""
        return getattr(importlib.import_module(self.module), self.params)  # type: ignore[no-any-return]


_METHODS = (
    Method(
        name="cg",
        kind="score",
        module="prune_cli.methods.scores.complexity_gap",
        function="complexity_gap_scores",
        params="ComplexityGapParams",
        summary="complexity gap: how much the label complexity drops without the sample; needs no training",
        cost="3/8 n^3 flops and one n x n matrix for each class and repeat, n = (1 + ratio) * class size",
        source="Ki, Choi, Chung, ICLR 2023, arXiv:2301.00930",
        columns={"cg": "harder", "cg_a2": "harder", "cg_ab": "harder", "cg_b2": "harder"},
    ),
    Method(
        name="random",
        kind="selection",
        module="prune_cli.methods.selection.baselines",
        function="random_order",
        params="RandomParams",
        summary="a uniformly random order: the rival to beat, always",
        cost="N log N",
        source="simple random sampling without replacement",
    ),
    Method(
        name="top",
        kind="selection",
        module="prune_cli.methods.selection.baselines",
        function="top_order",
        params="TopParams",
        summary="the hardest or the easiest first, after an offset that skips the extreme",
        cost="N log N",
        source="the usual baseline; offset as in Sorscher 2022 and Zheng 2023",
    ),
    Method(
        name="standard",
        kind="recipe",
        module="prune_cli.methods.training.standard",
        function="train_standard",
        params="StandardParams",
        summary="cross-entropy with SGD, nesterov momentum, cosine schedule, crop and flip",
        cost="steps x batch x 3 forward passes",
        source="He 2016, with label smoothing (Szegedy 2016) and cosine decay (Loshchilov 2017)",
    ),
)

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "cg-paper": {"cg": {"ratio": 1.0, "repeats": 10}},
    "cg-paper-cifar100": {"cg": {"ratio": 4.0, "repeats": 10}},
}
"""Preset name -> method -> parameters, each from a published table (methods.md says which values are recalled)."""

# Directions of scores that other tools write under these names; ours are in the entries above.
_PUBLISHED_DIRECTIONS: Mapping[str, Direction] = {
    "el2n": "harder",
    "grand": "harder",
    "forgetting": "harder",
    "loss": "harder",
    "entropy": "harder",
    "dyn_unc": "harder",
    "dual": "harder",
    "tdds": "harder",
    "aum": "easier",
    "margin": "easier",
    "confidence": "easier",
    "cscore": "easier",
}


def methods_of(kind: Kind) -> dict[str, Method]:
    """Return the methods of one kind by name, in the order they are listed."""
    return {m.name: m for m in _METHODS if m.kind == kind}


def find_method(kind: Kind, name: str) -> Method:
    """Return the method of that kind and name.

    Raises:
        InputError: no such method; the cure lists those there are.
    """
    known = methods_of(kind)
    if name not in known:
        raise InputError(f"unknown {kind} method '{name}'", f"use one of: {', '.join(known)}")
    return known[name]


def preset_params(preset: str | None, method: str) -> dict[str, Any]:
    """Return the preset's parameters for one method, empty without a preset.

    Raises:
        InputError: no such preset, or it says nothing about this method.
    """
    if preset is None:
        return {}
    if preset not in PRESETS:
        raise InputError(f"unknown preset '{preset}'", f"use one of: {', '.join(PRESETS)}")
    if method not in PRESETS[preset]:
        raise InputError(f"preset '{preset}' is for {', '.join(PRESETS[preset])}, not for {method}", "leave it out")
    return dict(PRESETS[preset][method])


def published_direction(column: str) -> Direction | None:
    """Return the direction of a score column known by name, or None."""
    for method in _METHODS:
        if column in method.columns:
            return method.columns[column]
    return _PUBLISHED_DIRECTIONS.get(column)
