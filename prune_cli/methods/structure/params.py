"""Parameters of the structures, which their registry and what does their work both read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prune_cli.core.params import param


@dataclass(frozen=True)
class ComplexityAwareParams:
    """Parameters of ``complexity_aware``."""

    strength: float = param(0.3, "price of the whole network, in units of the loss: higher prunes more", low=0.0)
    layer_weight: float = param(1.0, "price of a layer, against that of its units; 0: layers stay", low=0.0)
    unit_weight: float = param(1.0, "price of a unit; 0: units stay", low=0.0)
    flops_weight: float = param(0.5, "share of the price that goes by FLOPs; the rest goes by parameters", low=0.0, high=1.0)
    target_flops: float | None = param(None, "share of the FLOPs to end with, to which strength is steered", low=0.0, high=1.0)
    start: float = param(0.05, "share of the steps before gates are learned", low=0.0, high=1.0)
    end: float = param(0.6, "share of the steps after which every gate is decided", low=0.0, high=1.0)
    patience: float = param(0.2, "share of the time between in which a structure of no use goes", low=0.001, high=1.0)
    explore: float = param(0.02, "least share of the steps in which a gate is tried off, or on", low=0.0, high=0.5)
    estimate: Literal["both_ends", "first_order", "exact"] = param(
        "both_ends", "of units slopes with the gate on and off, of layers losses; slopes where it is; exact, for tests"
    )


@dataclass(frozen=True)
class MagnitudeParams:
    """Parameters of ``magnitude``."""

    target_flops: float = param(0.5, "share of the FLOPs to end with", low=0.0, high=1.0)
    rounds: int = param(1, "cuts, evenly spaced between start and end; 1: one shot, at the end of that time", low=1)
    start: float = param(0.05, "share of the steps before the first of several cuts", low=0.0, high=1.0)
    end: float = param(0.6, "share of the steps after which the last cut is made; training goes on", low=0.0, high=1.0)
