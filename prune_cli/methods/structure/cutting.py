"""The structure of networks as it shrinks: which units and branches are left, what they cost, and how that is kept.

This module imports torch, so it is imported inside functions only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from prune_cli.core.errors import InputError
from prune_cli.methods.structure.blueprint import Blueprint, draw_blueprint
from prune_cli.methods.structure.params import MagnitudeParams
from prune_cli.methods.training.loop.contract import Change, Structure
from prune_cli.methods.training.networks.network import Network
from prune_cli.methods.training.networks.surgery import keep_entries, remove_branches, take_shape


class CostModel:
    """FLOPs and parameters of a network as functions of the keep probabilities."""

    def __init__(self, blueprint: Blueprint, device: torch.device) -> None:
        n_spaces, terms = len(blueprint.spaces), blueprint.terms
        sizes = torch.tensor([space.size for space in blueprint.spaces], device=device, dtype=torch.long)
        self.n_units = int(sizes.sum())
        self._space_u = torch.repeat_interleave(torch.arange(n_spaces, device=device), sizes)
        self._one = torch.ones(1, device=device, dtype=torch.float64)
        self._costs_2t = torch.tensor([[t.flops for t in terms], [t.parameters for t in terms]], dtype=torch.float64, device=device)
        numbers = torch.tensor([(t.first, t.second, t.branch) for t in terms], device=device)
        self._first_t, self._second_t, self._branch_t = numbers.unbind(1)  # -1 is the last entry, which is a factor of 1
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


class Shape:
    """What is left of one network."""

    def __init__(self, blueprint: Blueprint, device: torch.device) -> None:
        self.whole, self.blueprint, self._device = blueprint, blueprint, device
        self.cost = CostModel(blueprint, device)
        self.whole_cost_2 = self.live_cost()

    def live_cost(self) -> Tensor:
        """Return FLOPs and parameters of all that is left, (2,) float64."""
        return self.cost(torch.ones(self.blueprint.n_gates, device=self._device))

    def keep(self, live_g: Tensor) -> tuple[Change, Tensor] | None:
        """Return how a network is cut to what is live, and the places of what is left among the gates; None where nothing goes.

        Args:
            live_g: (G,) bool; at least one unit of each space, or the first one stays.
        """
        live_g = live_g.clone()
        before, bounds, n_units = self.blueprint, self.blueprint.bounds(), self.cost.n_units
        for where in bounds:
            if not live_g[where].any():
                live_g[where.start] = True
        if bool(live_g.all()):
            return None
        kept = [live_g[where].nonzero()[:, 0] for where in bounds]
        removed = frozenset((~live_g[n_units:]).nonzero()[:, 0].tolist())
        names = [before.branches[k].block for k in sorted(removed)]
        after, left = before.without([len(k) for k in kept], removed)
        places = [kept[k] + bounds[k].start for k in left]
        places.append(live_g[n_units:].nonzero()[:, 0] + n_units)
        self.blueprint, self.cost = after, CostModel(after, self._device)
        entries = before.entries(kept)

        def change(network: Network, optimizer: torch.optim.Optimizer | None) -> None:
            remove_branches(network, names, optimizer)
            keep_entries(network, entries, optimizer)

        return change, torch.cat(places)

    def removed(self) -> list[str]:
        """Return the names of the blocks whose branches are gone."""
        left = {branch.block for branch in self.blueprint.branches}
        return [branch.block for branch in self.whole.branches if branch.block not in left]

    def restore(self, removed: Sequence[str], shapes: Mapping[str, Sequence[int]]) -> Change:
        """Take up a shape, and return what gives it to a whole network."""
        numbers = frozenset(k for k, branch in enumerate(self.whole.branches) if branch.block in set(removed))
        sizes = []
        for space in self.whole.spaces:
            first = next((m for m in space.members if m.tensor in shapes), None)
            sizes.append(space.size if first is None else shapes[first.tensor][first.dim] // first.repeat)
        self.blueprint, _ = self.whole.without(sizes, numbers)
        self.cost = CostModel(self.blueprint, self._device)

        def change(network: Network, optimizer: torch.optim.Optimizer | None) -> None:
            take_shape(network, removed, shapes, optimizer)

        return change

    def units(self) -> dict[str, list[int]]:
        """Return the live units of each space and how many there were."""
        live = {space.name: space.size for space in self.blueprint.spaces}
        return {space.name: [live.get(space.name, 0), space.size] for space in self.whole.spaces}


def whole_shapes(networks: Sequence[Network], input_shape: tuple[int, ...], device: torch.device, start: float, end: float) -> list[Shape]:
    """Return the shapes of networks that are whole, all of one architecture.

    Args:
        networks: on the CPU.
        start, end: shares of the steps between which they shrink.
    Raises:
        InputError: nothing can be cut out of them, or start is not before end.
    """
    if start >= end:
        raise InputError(f"start={start:g} is not before end={end:g}", "leave them out")
    blueprint = draw_blueprint(networks[0], input_shape)
    return [Shape(blueprint, device) for _ in networks]


def _named(cost_2: Tensor) -> dict[str, int]:
    return dict(zip(("flops", "parameters"), map(round, cost_2.tolist()), strict=True))


class ShrinkingStructure(Structure):
    """What every structure that shrinks has: a shape for each network, and how it is told."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self.shapes = shapes

    def facts(self) -> Mapping[str, Any]:
        """Return the first network's FLOPs, parameters, live units by layer, and which branches are there."""
        shape = self.shapes[0]
        gone = set(shape.removed())
        return {
            **_named(shape.live_cost()),
            "units": [live for live, _ in shape.units().values()],
            "layers": [int(branch.block not in gone) for branch in shape.whole.branches],
        }

    def described(self) -> Mapping[str, Any]:
        """Return the first network's size, and what is gone."""
        shape = self.shapes[0]
        whole = _named(shape.whole_cost_2)
        return {**_named(shape.live_cost()), "structure": {"removed": shape.removed(), "units": shape.units(), "whole": whole}}

    def state(self) -> Any:
        """Return the blocks that are gone, of each network."""
        return {"removed": [shape.removed() for shape in self.shapes]}


class SmallestNorms(ShrinkingStructure):
    """What `prune_cli.methods.structure.shrinking.magnitude` does, step by step."""

    def __init__(self, shapes: Sequence[Shape], params: MagnitudeParams, n_steps: int, device: torch.device) -> None:
        super().__init__(shapes)
        self._device = device
        first, last = params.start * n_steps, params.end * n_steps
        rounds = range(1, params.rounds + 1)
        self._targets = {
            max(1, round(first + (last - first) * k / params.rounds)): 1 - (1 - params.target_flops) * k / params.rounds for k in rounds
        }
        """Steps done -> share of the FLOPs that is left then."""
        self.done = [0] * len(shapes)

    def update(self, turn: int, step: int, network: Network) -> Change | None:
        return self._cut(turn, network, self._targets[step + 1]) if step + 1 in self._targets else None

    def finish(self, turn: int, network: Network) -> Change | None:
        """Cut to the last target, where training ended before its time."""
        if self.done[turn] == len(self._targets):
            return None
        self.done[turn] = len(self._targets) - 1
        return self._cut(turn, network, self._targets[max(self._targets)])

    def _cut(self, turn: int, network: Network, target: float) -> Change | None:
        self.done[turn] += 1
        shape = self.shapes[turn]
        ranks = []
        for space in shape.blueprint.spaces:
            norm_u = torch.zeros(space.size, device=self._device)
            for member in space.members:
                tensor = network.state_dict()[member.tensor]
                if member.dim == 0 and tensor.dim() > 1:
                    norm_u += tensor.abs().flatten(1).sum(1)
            place_u = torch.empty(space.size, device=self._device)
            place_u[norm_u.argsort(descending=True)] = torch.arange(space.size, device=self._device, dtype=torch.float32)
            ranks.append(place_u / space.size)  # 0: the largest
        rank_u = torch.cat(ranks)

        def live(share: float) -> Tensor:
            branches = torch.ones(len(shape.blueprint.branches), dtype=torch.bool, device=self._device)
            return torch.cat([(rank_u < share) | (rank_u == 0), branches])

        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            within = float((shape.cost(live(middle).float()) / shape.whole_cost_2)[0]) <= target
            low, high = (middle, high) if within else (low, middle)
        found = shape.keep(live(low))
        return None if found is None else found[0]

    def state(self) -> Any:
        """Return the branches that are gone, and how many cuts are made."""
        return {**super().state(), "done": list(self.done)}

    def restore(
        self, turn: int, network: Network, arrays: Mapping[str, Tensor], state: Any, shapes: Mapping[str, Sequence[int]]
    ) -> Change | None:
        self.done[turn] = int(state["done"][turn])
        return self.shapes[turn].restore(state["removed"][turn], shapes)
