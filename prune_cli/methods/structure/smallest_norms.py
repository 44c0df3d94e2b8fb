"""Units of the smallest L1 norm, cut at fixed times.

This module imports torch, so it is imported inside functions only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from prune_cli.methods.structure.cutting import Shape, ShrinkingStructure
from prune_cli.methods.structure.params import MagnitudeParams
from prune_cli.methods.training.loop.contract import Change
from prune_cli.methods.training.networks.network import Network


class SmallestNorms(ShrinkingStructure):
    """What `prune_cli.methods.structure.magnitude.magnitude` does, step by step.

    Args:
        shapes: one for each network.
        n_steps: of the whole budget.
        device: where the networks train.
    """

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
        """Cut, where it is time to."""
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
        """Take up what `state` returned."""
        self.done[turn] = int(state["done"][turn])
        return self.shapes[turn].restore(state["removed"][turn], shapes)
