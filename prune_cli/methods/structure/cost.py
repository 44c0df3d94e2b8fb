"""Expected cost of a network whose units and layers are there with some probability: FLOPs and parameters, multilinear in them.

This module imports torch, so it is imported inside functions only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prune_cli.methods.structure.blueprint import Blueprint


class CostModel:
    """FLOPs and parameters of a network as functions of the keep probabilities.

    Args:
        blueprint: of the network.
        device: where the probabilities are.
    """

    def __init__(self, blueprint: Blueprint, device: torch.device) -> None:
        n_spaces, n_branches = len(blueprint.spaces), len(blueprint.branches)
        sizes = torch.tensor([space.size for space in blueprint.spaces], device=device, dtype=torch.long)
        self.n_units = int(sizes.sum())
        self._space_u = torch.repeat_interleave(torch.arange(n_spaces, device=device), sizes)
        self._one = torch.ones(1, device=device, dtype=torch.float64)
        terms = blueprint.terms
        self._costs_2t = torch.tensor(
            [[t.flops for t in terms], [t.parameters for t in terms]], dtype=torch.float64, device=device
        )
        self._first_t, self._second_t, self._branch_t = (
            torch.tensor([k if k >= 0 else absent for k in numbers], device=device)
            for numbers, absent in (
                ([t.first for t in terms], n_spaces),
                ([t.second for t in terms], n_spaces),
                ([t.branch for t in terms], n_branches),
            )
        )
        self._n_spaces = n_spaces

    def __call__(self, theta_g: Tensor) -> Tensor:
        """Return the expected FLOPs of one forward pass of one sample and the expected parameters, (2,) float64, differentiable.

        Args:
            theta_g: (G,) keep probabilities, 0 to 1: of the units of each space in turn, then of the branches.
        """
        theta_g = theta_g.double()
        live = self._one.new_zeros(self._n_spaces).index_add(0, self._space_u, theta_g[: self.n_units])
        units = torch.cat([live, self._one])
        branches = torch.cat([theta_g[self.n_units :], self._one])
        factor_t = units[self._first_t] * units[self._second_t] * branches[self._branch_t]
        return self._costs_2t @ factor_t

    def price(self, theta_g: Tensor, share_2: Tensor) -> Tensor:
        """Return (G,) the derivative of ``share_2 . cost`` by each keep probability."""
        theta_g = theta_g.detach().double().requires_grad_()
        with torch.enable_grad():
            (price_g,) = torch.autograd.grad(self(theta_g) @ share_2, theta_g)
        return price_g
