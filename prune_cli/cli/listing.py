"""``--list-methods``: what there is to choose from, straight from the registry."""

from __future__ import annotations

from prune_cli.cli.console import Console
from prune_cli.core.params import describe_params
from prune_cli.methods.registry import PRESETS, TRAINING, Kind, methods_of, training_params


def list_methods(kind: Kind) -> None:
    """Print every method of a kind with its parameters, defaults, cost and source to standard output."""
    console = Console()
    for method in methods_of(kind).values():
        console.result(f"{', '.join((method.name, *method.aliases))}\n  {method.summary}")
        for column, direction in method.columns.items():
            console.result(f"  column {column}: {direction} when high")
        _list_params(console, kind, method.name, method.params_class())
        console.result(f"  cost: {method.cost}\n  source: {method.source}\n")
    if kind == "score":
        console.result(f"{TRAINING}\n  what the scores of one training share; -p standard.NAME=VALUE is for its recipe")
        _list_params(console, kind, TRAINING, training_params())


def _list_params(console: Console, kind: Kind, owner: str, params_class: type) -> None:
    for name, type_name, default, help in describe_params(params_class):
        console.result(f"  -p {name}={'none' if default is None else default}  ({type_name})  {help}")
    for preset, kinds in PRESETS.items():
        owners = kinds.get(kind, {})
        if owner in owners:
            console.result(f"  --preset {preset}: {', '.join(f'{k}={v}' for k, v in owners[owner].items())}")
