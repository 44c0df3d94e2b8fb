"""Methods, presets and exporters, found by the name that the user types."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prune_cli.core.errors import InputError
from prune_cli.methods.registry.method import Direction, Kind, Method
from prune_cli.methods.registry.scores import SCORES
from prune_cli.methods.registry.selections import SELECTIONS
from prune_cli.methods.registry.trainings import RECIPES, STRUCTURES

if TYPE_CHECKING:
    from prune_cli.methods.scores.record.needs import RecordNeeds

_SGD = {"lr": 0.02, "warmup_fraction": 0.0, "final_lr_fraction": 0.005}
_SOP = {**_SGD, "lr_u": 10.0, "lr_v": 100.0, "consistency": 0.9, "balance": 0.1}
_DIVIDEMIX = {**_SGD, "warmup": 10, "lambda_u": 1.0, "threshold": 0.5, "temperature": 0.5, "mixup": 4.0}

PRESETS: Mapping[str, Mapping[Kind, Mapping[str, Mapping[str, Any]]]] = {
    "cg-paper": {"score": {"cg": {"ratio": 1.0, "repeats": 10}}},
    "cg-paper-cifar100": {"score": {"cg": {"ratio": 4.0, "repeats": 10}}},
    "fast": {"score": {"training": {"epochs": 20}}},
    "el2n-paper": {"score": {"training": {"epochs": 200, "runs": 10}, "el2n": {"epoch": 20}}},
    "dual-paper": {"score": {"training": {"epochs": 200}, "dual": {"epochs": 30, "window": 10, "terms": True}}},
    "tdds-paper": {"score": {"training": {"epochs": 200}, "tdds": {"epochs": 90, "window": 10}}},
    "bws-cifar10": {
        "score": {"training": {"epochs": 20}},
        "selection": {"window": {"step": 0.05, "ridge": 1.0, "ridge_unit": "none", "bias": False, "scope": "global", "judge": "all"}},
    },
    "prune4rel-cifar10n": {
        "selection": {"neighbor_confidence": {"tau": 0.975, "eta": 1.0}},
        "recipe": {"sop": _SOP, "dividemix": _DIVIDEMIX},
    },
    "prune4rel-cifar100n": {
        "selection": {"neighbor_confidence": {"tau": 0.95, "eta": 1.0}},
        "recipe": {"sop": {**_SOP, "lr_u": 1.0}, "dividemix": {**_DIVIDEMIX, "warmup": 30}},
    },
    "prune4rel-webvision": {
        "selection": {"neighbor_confidence": {"tau": 0.95, "eta": 1.0}},
        "recipe": {"sop": {**_SOP, "lr_u": 0.1, "lr_v": 1.0}},
    },
    "prune4rel-clothing1m": {
        "selection": {"neighbor_confidence": {"tau": 0.8, "eta": 1.0}},
        "recipe": {"dividemix": {**_DIVIDEMIX, "warmup": 1, "lambda_u": 0.1, "mixup": 0.5}},
    },
    "prune4rel-imagenet": {"selection": {"neighbor_confidence": {"tau": 0.95, "eta": 100.0}}},
    "elr-cifar100": {"recipe": {"elr": {"beta": 0.9, "strength": 7.0}, "elr_plus": {"beta": 0.9, "strength": 7.0}}},
    "ccs-cifar10": {"selection": {"stratified": {"strata": 50, "mis_rate": "cifar10", "range": "full"}}},
    "ccs-cifar100": {"selection": {"stratified": {"strata": 50, "mis_rate": "cifar100", "range": "full"}}},
    "d2-cifar10": {"selection": {"d2": {"neighbors": 5, "gamma": 0.1, "unit": "none", "mis_rate": 0.4}}},
}
"""Preset name -> kind -> method -> parameters, each from a published table (methods.md says which values are recalled)."""


_METHODS = (*SCORES, *SELECTIONS, *RECIPES, *STRUCTURES)

# Directions of scores that other tools write; ours are in the entries above.
_PUBLISHED_DIRECTIONS: Mapping[str, Direction] = {"cscore": "easier"}

TRAINING = "training"
"""Owner of the parameters that the scores of one training share."""


def training_params() -> type:
    """Return the parameter dataclass of the training that scores of a record share."""
    return getattr(importlib.import_module("prune_cli.methods.scores.record.needs"), "TrainingParams")  # type: ignore[no-any-return]  # noqa: B009


def chosen_in_classes(selection: Method, column: str | None) -> bool:
    """Return whether a selection by a score column is published as chosen inside each class.

    >>> chosen_in_classes(find_method("selection", "top"), "cg"), chosen_in_classes(find_method("selection", "top"), "el2n")
    (True, False)
    """
    if selection.in_classes != "by_score":
        return selection.in_classes
    return any(method.in_classes is True and column in method.columns for method in SCORES)


def methods_of(kind: Kind) -> dict[str, Method]:
    """Return the methods of one kind by name, in the order they are listed."""
    return {m.name: m for m in _METHODS if m.kind == kind}


def find_method(kind: Kind, name: str) -> Method:
    """Return the method of that kind and name.

    Raises:
        InputError: no such method; the cure lists those there are.
    """
    known = methods_of(kind)
    name = next((m.name for m in known.values() if name in m.aliases), name)
    if name not in known:
        raise InputError(f"unknown {kind} method '{name}'", f"use one of: {', '.join(known)}")
    return known[name]


def scores_of_record(where: Callable[[RecordNeeds], bool]) -> list[str]:
    """Return the scores of a record that need such of it, in the order they are listed."""
    found = {name: method for name, method in methods_of("score").items() if method.needs == "record"}
    return [name for name, method in found.items() if where(method.params_class()().needs(0))]


EXPORTS: Mapping[str, tuple[str, str]] = {"onnx": ("prune_cli.methods.training.networks.exchange", "to_onnx")}
"""Format -> module and function that make a file of a trained network."""


def find_exporter(name: str) -> Callable[[Any, Any], bytes]:
    """Return what makes a file of a trained network's tensors and model, once the packages it needs are there.

    Raises:
        InputError: no such format.
        UnavailableError: its packages are missing.
    """
    if name not in EXPORTS:
        raise InputError(f"unknown format '{name}' to export to", f"use one of: {', '.join(EXPORTS)}")
    module = importlib.import_module(EXPORTS[name][0])
    module.require()
    return getattr(module, EXPORTS[name][1])  # type: ignore[no-any-return]


def preset_params(preset: str | None, kind: Kind, owners: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the preset's parameters for each of the owners that run; empty ones where it says nothing.

    Raises:
        InputError: no such preset, or it says nothing about any of them.
    """
    if preset is None:
        return {owner: {} for owner in owners}
    if preset not in PRESETS:
        raise InputError(f"unknown preset '{preset}'", f"use one of: {', '.join(PRESETS)}")
    found = {owner: dict(PRESETS[preset].get(kind, {}).get(owner, {})) for owner in owners}
    if not any(found.values()):
        meant = [f"{name} ({its_kind})" for its_kind, named in PRESETS[preset].items() for name in named]
        raise InputError(f"preset '{preset}' is for {', '.join(meant)}, not for {owners[0]}", "leave it out")
    return found


def published_direction(column: str) -> Direction | None:
    """Return the direction of a score column known by name, or None."""
    for method in _METHODS:
        if column in method.columns:
            return method.columns[column]
    return _PUBLISHED_DIRECTIONS.get(column)
