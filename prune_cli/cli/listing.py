"""``--list-methods``: what there is to choose from, straight from the registry."""

from __future__ import annotations

from prune_cli.cli.console import Console
from prune_cli.core.params import describe_params
from prune_cli.methods.registry import PRESETS, Kind, methods_of


def list_methods(kind: Kind) -> None:
    """Print every method of a kind with its parameters, defaults, cost and source to standard output."""
    console = Console()
    for method in methods_of(kind).values():
        console.result(f"{method.name}\n  {method.summary}")
        for column, direction in method.columns.items():
            console.result(f"  column {column}: {direction} when high")
        for name, type_name, default, help in describe_params(method.params_class()):
            console.result(f"  -p {name}={'none' if default is None else default}  ({type_name})  {help}")
        for preset, methods in PRESETS.items():
            if method.name in methods:
                values = ", ".join(f"{k}={v}" for k, v in methods[method.name].items())
                console.result(f"  --preset {preset}: {values}")
        console.result(f"  cost: {method.cost}\n  source: {method.source}\n")
