"""Magnitude pruning of units: those with the smallest weights go, at fixed times; the plain way, to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prune_cli.methods.structure.params import MagnitudeParams
from prune_cli.methods.training.loop.contract import Structure, StructureMaker

if TYPE_CHECKING:
    import torch

    from prune_cli.methods.training.networks.network import Network


def magnitude(params: MagnitudeParams) -> StructureMaker:
    """Return what cuts the units of smallest L1 norm, the same share of every layer, until the FLOPs are within the target.

    A unit's norm is that of all weights that write it, those of every layer that is added to it among them. Residual blocks stay.

    Args:
        params: see `MagnitudeParams`.
    Returns:
        What makes a `Structure` for the networks of a training.
    Cost:
        That of the recipe, less after every cut.
    Source:
        Li, Kadav, Durdanovic, Samet, Graf, ICLR 2017, arXiv:1608.08710. Deviation: one share for all layers, found by bisection.
    """

    def make(networks: Sequence[Network], input_shape: tuple[int, ...], n_steps: int, seed: int, device: torch.device) -> Structure:
        from prune_cli.methods.structure.cutting import whole_shapes
        from prune_cli.methods.structure.smallest_norms import SmallestNorms

        shapes = whole_shapes(networks, input_shape, device, params.start, params.end)
        return SmallestNorms(shapes, params, n_steps, device)

    return make
