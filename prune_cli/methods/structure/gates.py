"""Gates on units and layers: a factor 0 or 1 each, multiplied into the weights that read a unit, or end a branch.

This module imports torch, so it is imported inside functions only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from prune_cli.methods.structure.blueprint import Blueprint
from prune_cli.methods.training.networks.network import Network


@dataclass(frozen=True)
class _Gated:
    """A tensor that gates are multiplied into.

    Args:
        path, attribute: where it is.
        units: slices of the gates for its second dimension with how often each repeats, or None.
        branch: number of the branch's gate, or -1.
    """

    path: str
    attribute: str
    units: tuple[slice, int] | None
    branch: int


class Gates:
    """Where the gates of a network act.

    Gates are one vector: those of the units of each space in turn, then those of the branches.

    Args:
        blueprint: of the network as it is.
    """

    def __init__(self, blueprint: Blueprint) -> None:
        n_units = blueprint.n_gates - len(blueprint.branches)
        units = {
            reader.tensor: (where, reader.repeat)
            for space, where in zip(blueprint.spaces, blueprint.bounds(), strict=True)
            for reader in space.readers
        }
        branches = {tensor: n_units + k for k, branch in enumerate(blueprint.branches) for tensor in branch.scaled}
        self._gated = [_Gated(*_split(name), units.get(name), branches.get(name, -1)) for name in dict.fromkeys([*units, *branches])]

    @contextlib.contextmanager
    def applied(self, network: Network, gates_g: Tensor) -> Iterator[None]:
        """Within the block the network computes with these gates; what is differentiated reaches weights and gates.

        Args:
            network: whose blueprint it is.
            gates_g: (G,) float32 on its device.
        """
        put: list[tuple[nn.Module, str]] = []
        try:
            for gated in self._gated:
                module = network.get_submodule(gated.path)
                product = self._product(gated, getattr(module, gated.attribute), gates_g)
                put.append((module, gated.attribute))
                module.__dict__[gated.attribute] = product  # found before the parameter of that name, which stays
            yield
        finally:
            for module, attribute in put:
                module.__dict__.pop(attribute, None)

    @staticmethod
    def _product(gated: _Gated, weight: Tensor, gates_g: Tensor) -> Tensor:
        product = weight
        if gated.units is not None:
            where, repeat = gated.units
            factor = gates_g[where]
            if repeat > 1:
                factor = factor.repeat_interleave(repeat)
            product = product * factor.view(1, -1, *[1] * (weight.dim() - 2))
        if gated.branch >= 0:
            product = product * gates_g[gated.branch]
        return product


def _split(name: str) -> tuple[str, str]:
    path, _, attribute = name.rpartition(".")
    return path, attribute
