"""``--list-methods``: what there is to choose from, straight from the registry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from prune_cli.cli.console import Console
from prune_cli.core.params import describe_params
from prune_cli.methods.registry.lookup import PRESETS, TRAINING, methods_of, training_params
from prune_cli.methods.registry.method import Kind

_TRAINING_SUMMARY = "what the scores of one training share; -p standard.NAME=VALUE is for its recipe"


def describe_methods(kind: Kind) -> list[dict[str, Any]]:
    """Return every method of a kind as JSON values: names, columns with their direction, cost, source, parameters, presets.

    For scores the last entry is what the scores of one training share, which has parameters and presets alone.
    """
    found: list[dict[str, Any]] = [
        {
            "name": method.name,
            "aliases": list(method.aliases),
            "summary": method.summary,
            "columns": dict(method.columns),
            "cost": method.cost,
            "source": method.source,
            "parameters": _parameters(method.params_class()),
            "presets": _presets(kind, method.name),
        }
        for method in methods_of(kind).values()
    ]
    if kind == "score":
        shared = {"parameters": _parameters(training_params()), "presets": _presets(kind, TRAINING)}
        found.append({"name": TRAINING, "aliases": [], "summary": _TRAINING_SUMMARY, "columns": {}, **shared})
    return found


def list_methods(kinds: Sequence[Kind], *, as_json: bool = False) -> None:
    """Print every method of some kinds to standard output: a table of them, then the parameters of each.

    Args:
        kinds: in the order they are printed.
        as_json: one JSON object instead, kind -> what `describe_methods` returns.
    """
    console = Console()
    if as_json:
        console.result(json.dumps({kind: describe_methods(kind) for kind in kinds}))
        return
    for kind in kinds:
        methods = describe_methods(kind)
        console.tabulate(f"{kind} methods", _overview(methods))
        for method in methods:
            console.result(f"{_names(method)}\n  {method['summary']}")
            if "source" in method:
                console.result(f"  cost: {method['cost']}\n  source: {method['source']}")
            for preset, values in method["presets"].items():
                console.result(f"  --preset {preset}: {', '.join(f'{k}={v}' for k, v in values.items())}")
            if method["parameters"]:
                console.tabulate(None, _parameter_rows(method["parameters"]))
            else:
                console.result("  no parameters\n")


def _overview(methods: list[dict[str, Any]]) -> list[list[str]]:
    heading = ["method", "columns", "cost", "what it is"]
    rows = [
        [
            _names(method),
            "\n".join(f"{column}: {direction} when high" for column, direction in method["columns"].items()),
            method["cost"],
            method["summary"],
        ]
        for method in methods
        if "cost" in method
    ]
    wanted = [i for i in range(4) if i != 1 or any(row[1] for row in rows)]
    return [[row[i] for i in wanted] for row in [heading, *rows]]


def _parameter_rows(parameters: list[dict[str, Any]]) -> list[list[str]]:
    return [
        ["parameter", "type", "what it does"],
        *(
            [f"-p {p['name']}={'none' if p['default'] is None else p['default']}", p["type"].replace("|", " | "), p["help"]]
            for p in parameters
        ),
    ]


def _names(method: dict[str, Any]) -> str:
    return ", ".join((method["name"], *method["aliases"]))


def _parameters(params_class: type) -> list[dict[str, Any]]:
    return [{"name": name, "type": kind, "default": default, "help": help} for name, kind, default, help in describe_params(params_class)]


def _presets(kind: Kind, owner: str) -> dict[str, dict[str, Any]]:
    return {name: dict(kinds[kind][owner]) for name, kinds in PRESETS.items() if owner in kinds.get(kind, {})}
