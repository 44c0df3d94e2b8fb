"""Complexity-aware training: units and layers are there with a probability that is learned, priced by what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prune_cli.core.params import param
from prune_cli.methods.training.loop.structure import Structure, StructureMaker

if TYPE_CHECKING:
    import torch

    from prune_cli.methods.training.networks.networks import Network


@dataclass(frozen=True)
class ComplexityAwareParams:
    """Parameters of ``complexity_aware``."""

    strength: float = param(0.3, "price of the whole network, in units of the loss: higher prunes more", low=0.0)
    layer_weight: float = param(1.0, "price of a layer, against that of its units; 0: layers stay", low=0.0)
    unit_weight: float = param(1.0, "price of a unit; 0: units stay", low=0.0)
    flops_weight: float = param(
        0.5, "share of the price that goes by FLOPs; the rest goes by parameters", low=0.0, high=1.0
    )
    target_flops: float | None = param(
        None, "share of the FLOPs to end with, to which strength is steered", low=0.0, high=1.0
    )
    start: float = param(0.05, "share of the steps before gates are learned", low=0.0, high=1.0)
    end: float = param(0.6, "share of the steps after which every gate is decided", low=0.0, high=1.0)
    patience: float = param(0.2, "share of the time between in which a structure of no use goes", low=0.001, high=1.0)
    explore: float = param(0.02, "least share of the steps in which a gate is tried off, or on", low=0.0, high=0.5)
    estimate: Literal["both_ends", "first_order", "exact"] = param(
        "both_ends", "of units slopes with the gate on and off, of layers losses; slopes where it is; exact, for tests"
    )


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
    Source:
        Guenter, Sideris, 2024, arXiv:2411.09127; 2022, arXiv:2205.04650; 2024, arXiv:2406.04549. Deviations: gates are drawn for
        a batch and multiplied into the weights that read a unit; g of a unit is by default the mean of the remembered slopes of the
        loss with the gate on and with it off, where theirs is the slope where the gate is, which vanishes at a minimum over the
        weights for any gate that is always on; g of a layer, which no slope tells, is the loss with it less that without it,
        measured on the batch, one layer every few steps; the step is scaled by the price; gates are decided at a fixed time.
    """

    def make(
        networks: Sequence[Network], input_shape: tuple[int, ...], n_steps: int, seed: int, device: torch.device
    ) -> Structure:
        from prune_cli.methods.structure.cutting import whole_shapes
        from prune_cli.methods.structure.learned_gates import LearnedGates

        shapes = whole_shapes(networks, input_shape, device, params.start, params.end)
        return LearnedGates(shapes, params, n_steps, seed, device)

    return make
