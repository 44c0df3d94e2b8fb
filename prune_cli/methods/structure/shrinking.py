"""What shrinks networks while they train: complexity-aware training, and magnitude pruning to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prune_cli.methods.structure.params import ComplexityAwareParams, MagnitudeParams
from prune_cli.methods.training.loop.contract import Structure, StructureMaker

if TYPE_CHECKING:
    import torch

    from prune_cli.methods.training.networks.network import Network


def complexity_aware(params: ComplexityAwareParams) -> StructureMaker:
    r"""Return what learns, while networks train, which of their units and layers they can do without.

    Each unit (filter) and each residual branch has a gate xi, 0 or 1, drawn in every step with probability theta of being 1.
    Minimised over weights and thetas is ``E[loss] + sum_k c_k theta_k``, where ``c_k = strength d/dtheta_k (flops_weight
    E[FLOPs] / FLOPs_0 + (1 - flops_weight) E[parameters] / parameters_0)``: a structure that is worth less to the loss than its
    price goes. ``theta_k <- clip(theta_k - a_k (g_k + c_k), 0, 1)`` with g_k the loss with the gate on less that with it off, and
    ``a_k = 1 / (T c_k)``, so that what is of no use goes in T steps, whatever its price. What has gone is cut out at once, with its
    batch-norm entries, momenta and whatever is coupled to it by additions; a branch that has gone leaves its shortcut. At the end
    of the time for it every gate is decided, and training goes on with the small network alone.

    Args:
        params: see `ComplexityAwareParams`.
    Returns:
        What makes a `Structure` for the networks of a training.
    Cost:
        That of the recipe, less with every cut; a loss of the batch twice where a layer is measured, one layer every few steps.
    Source:
        Guenter, Sideris, 2024, arXiv:2411.09127; 2022, arXiv:2205.04650; 2024, arXiv:2406.04549. Deviations: gates are drawn for
        a batch and multiplied into the weights that read a unit; g of a unit is by default the mean of the remembered slopes of the
        loss with the gate on and with it off, where theirs is the slope where the gate is, which vanishes at a minimum over the
        weights for any gate that is always on; g of a layer, which no slope tells, is the loss with it less that without it,
        measured on the batch, one layer every few steps; the step is scaled by the price; gates are decided at a fixed time.
    """

    def make(networks: Sequence[Network], input_shape: tuple[int, ...], n_steps: int, seed: int, device: torch.device) -> Structure:
        from prune_cli.methods.structure.cutting import whole_shapes
        from prune_cli.methods.structure.learned_gates import LearnedGates

        shapes = whole_shapes(networks, input_shape, device, params.start, params.end)
        return LearnedGates(shapes, params, n_steps, seed, device)

    return make


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
        from prune_cli.methods.structure.cutting import SmallestNorms, whole_shapes

        shapes = whole_shapes(networks, input_shape, device, params.start, params.end)
        return SmallestNorms(shapes, params, n_steps, device)

    return make
