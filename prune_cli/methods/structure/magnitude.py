"""Magnitude pruning of units: those with the smallest weights go, at fixed times; the plain way, to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prune_cli.core.params import param
from prune_cli.methods.training.loop.structure import Structure, StructureMaker

if TYPE_CHECKING:
    import torch

    from prune_cli.methods.training.networks.networks import Network


@dataclass(frozen=True)
class MagnitudeParams:
    """Parameters of ``magnitude``."""

    target_flops: float = param(0.5, "share of the FLOPs to end with", low=0.0, high=1.0)
    rounds: int = param(1, "cuts, evenly spaced between start and end; 1: one shot, at the end of that time", low=1)
    start: float = param(0.05, "share of the steps before the first of several cuts", low=0.0, high=1.0)
    end: float = param(0.6, "share of the steps after which the last cut is made; training goes on", low=0.0, high=1.0)


def magnitude(params: MagnitudeParams) -> StructureMaker:
    """Return what cuts the units of smallest L1 norm, the same share of every layer, until the FLOPs are within the target.

    A unit's norm is that of all weights that write it, those of every layer that is added to it among them. Residual blocks stay.

    Args:
        params: see `MagnitudeParams`.
    Source:
        Li, Kadav, Durdanovic, Samet, Graf, ICLR 2017, arXiv:1608.08710. Deviation: one share for all layers, found by bisection.
    """

    def make(
        networks: Sequence[Network], input_shape: tuple[int, ...], n_steps: int, seed: int, device: torch.device
    ) -> Structure:
        from prune_cli.methods.structure.cutting import whole_shapes
        from prune_cli.methods.structure.smallest_norms import SmallestNorms

        shapes = whole_shapes(networks, input_shape, device, params.start, params.end)
        return SmallestNorms(shapes, params, n_steps, device)

    return make
