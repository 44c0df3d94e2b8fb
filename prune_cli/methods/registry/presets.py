"""Presets: the parameters of published tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prune_cli.methods.registry.method import Kind

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
        "selection": {"window": {"step": 0.05, "ridge": 1.0, "bias": False, "scope": "global"}},
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
    "prune4rel-imagenet": {
        "selection": {"neighbor_confidence": {"tau": 0.95, "eta": 100.0}},
    },
    "ccs-cifar10": {"selection": {"stratified": {"strata": 50, "mis_rate": "cifar10"}}},
    "ccs-cifar100": {"selection": {"stratified": {"strata": 50, "mis_rate": "cifar100"}}},
}
"""Preset name -> kind -> method -> parameters, each from a published table (methods.md says which values are recalled)."""
