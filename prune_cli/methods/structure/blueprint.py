"""What can be cut out of a network: which entries of which tensors belong to one unit, and what each operation costs.

The network is exported once (torch.export) and its operations are followed from the input on: whatever is added to one another, or goes
through the same batch-norm, shares its units. This module imports torch, so it is imported inside functions only.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from prune_cli.core.errors import InputError
from prune_cli.methods.training.networks.network import Network, zero_input
from prune_cli.methods.training.networks.surgery import Branch, Entries, residual_blocks


@dataclass(frozen=True)
class Member:
    """Where the units of a space are in a tensor.

    Args:
        tensor: its name in the state dict.
        dim: the dimension that runs over the units.
        repeat: consecutive entries each unit has there: the pixels of a map where it is flattened.
    """

    tensor: str
    dim: int
    repeat: int = 1


@dataclass(frozen=True)
class Space:
    """Units (or filters) that stand or fall together in every tensor that has them.

    Args:
        name: the module whose outputs they first are.
        members: every place of them.
        readers: of these, the weights that take them as inputs; a unit that is multiplied by 0 there is as good as gone.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    readers: tuple[Member, ...]


@dataclass(frozen=True)
class Term:
    """A share of the cost: ``flops`` and ``parameters`` times the live units of two spaces, where the branch is there.

    Args:
        flops, parameters: for one unit of each.
        first, second: numbers of spaces, -1 for none (a factor of 1).
        branch: number of the residual branch that it is in, -1 for none.
    """

    flops: float
    parameters: float
    first: int
    second: int
    branch: int


@dataclass(frozen=True)
class Blueprint:
    """What can be cut out of a network, and what each part costs.

    Args:
        spaces: that can be cut.
        branches: of residual blocks, that can go.
        terms: whose sum is the cost.
    """

    spaces: tuple[Space, ...]
    branches: tuple[Branch, ...]
    terms: tuple[Term, ...]

    @property
    def n_gates(self) -> int:
        """Return the number of units and branches."""
        return sum(space.size for space in self.spaces) + len(self.branches)

    def bounds(self) -> list[slice]:
        """Return where the units of each space are in a vector of gates; the branches follow."""
        ends = itertools.accumulate(space.size for space in self.spaces)
        return [slice(end - space.size, end) for space, end in zip(self.spaces, ends, strict=True)]

    def entries(self, kept: Sequence[Tensor]) -> Entries:
        """Return which entries of which tensors stay where some units of every space do.

        What is computed is unchanged, to rounding, where what goes was multiplied by 0 in all weights that read it.

        Args:
            kept: for each space, (K,) int64 the units that stay, ascending, one or more.
        """
        found: dict[str, list[tuple[int, Tensor]]] = {}
        for space, kept_k in zip(self.spaces, kept, strict=True):
            if len(kept_k) == space.size:
                continue
            for member in space.members:
                entries = kept_k
                if member.repeat > 1:
                    within = torch.arange(member.repeat, device=kept_k.device)
                    entries = (kept_k[:, None] * member.repeat + within).flatten()
                found.setdefault(member.tensor, []).append((member.dim, entries))
        return found

    def without(self, sizes: Sequence[int], removed: frozenset[int]) -> tuple[Blueprint, tuple[int, ...]]:
        """Return it with other numbers of units and without some branches, and the numbers of the spaces that are left.

        Args:
            removed: numbers of branches; spaces that are all inside them are gone as well.
        """
        gone = {tensor for k in removed for tensor in self.branches[k].tensors}
        left, spaces = [], []
        for k, (space, size) in enumerate(zip(self.spaces, sizes, strict=True)):
            members, readers = (tuple(m for m in part if m.tensor not in gone) for part in (space.members, space.readers))
            if members:
                left.append(k)
                spaces.append(Space(space.name, size, members, readers))
        branches = [k for k in range(len(self.branches)) if k not in removed]
        space_of, branch_of = ({old: new for new, old in enumerate(kept)} | {-1: -1} for kept in (left, branches))
        terms = [
            dataclasses.replace(t, first=space_of[t.first], second=space_of[t.second], branch=branch_of[t.branch])
            for t in self.terms
            if t.branch not in removed
        ]
        return Blueprint(tuple(spaces), tuple(self.branches[k] for k in branches), tuple(terms)), tuple(left)


_SAME_UNITS = {
    "relu", "relu_", "hardswish", "hardswish_", "hardsigmoid", "hardsigmoid_", "silu", "silu_", "sigmoid", "gelu", "leaky_relu", "relu6",
    "hardtanh", "hardtanh_", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "dropout", "dropout_", "clone",
    "contiguous", "mean", "amax", "pad",
}  # fmt: skip
"""Operations that leave every unit where it is; ``mean``, ``amax`` and ``pad`` where they go over rows and columns."""

_JOINING = {"add", "add_", "mul", "mul_", "sub", "sub_", "div", "div_"}


@dataclass
class _Units:
    """Units while the graph is followed; the last one in a chain of ``same`` stands for all."""

    name: str
    size: int
    fixed: bool = False
    same: _Units | None = None
    members: list[Member] = field(default_factory=list)
    readers: list[Member] = field(default_factory=list)

    def found(self) -> _Units:
        units = self
        while units.same is not None:
            units = units.same
        return units


@dataclass(frozen=True)
class _Value:
    """What is known of a tensor in the graph: its units, and the entries each has once maps are flattened."""

    units: _Units
    repeat: int = 1


class _Walk:
    """Follows an exported graph."""

    def __init__(self, exported: torch.export.ExportedProgram) -> None:
        signature = exported.graph_signature
        self._names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._parameters = set(signature.inputs_to_parameters.values())
        self._values: dict[str, _Value] = {}
        self.order: list[_Units] = []
        self.costs: list[tuple[str, float, float, _Units | None, _Units | None]] = []
        for node in exported.graph.nodes:
            if node.op == "placeholder" and node.name not in self._names:
                self._values[node.name] = _Value(self._new("input", int(node.meta["val"].shape[1]), fixed=True))
            elif node.op == "call_function":
                self._follow(node)
            elif node.op == "output":
                self._fix(node)

    def _new(self, name: str, size: int, *, fixed: bool = False) -> _Units:
        units = _Units(name, size, fixed)
        self.order.append(units)
        return units

    def _fix(self, node: Any) -> None:
        for other in node.all_input_nodes:
            if other.name in self._values:
                self._values[other.name].units.found().fixed = True

    def _unknown(self, node: Any) -> None:
        """Fix all units that go in: what comes out of an operation that is not known cannot be cut either; it has a cost."""
        self._fix(node)
        for other in node.all_input_nodes:
            tensor = self._names.get(other.name)
            if tensor not in self._parameters:
                continue
            shape = other.meta["val"].shape
            weighs = self._name(node) in {"conv2d", "linear"} and other is node.args[1]
            flops = 2.0 * math.prod(node.meta["val"].shape) * math.prod(shape[1:]) if weighs else 0.0
            self.costs.append((str(tensor), flops, float(math.prod(shape)), None, None))
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and value.dim() > 1:
            self._values[node.name] = _Value(self._new(node.name, int(value.shape[1]), fixed=True))

    def _follow(self, node: Any) -> None:
        name = self._name(node)
        values = [self._values[a.name] for a in node.args if hasattr(a, "name") and a.name in self._values]
        tensors = [self._names[a.name] for a in node.args if hasattr(a, "name") and a.name in self._names]
        dims = {"conv2d": 4, "linear": 2}.get(name, 0)
        if dims and len(values) == 1 and tensors and self._has(node.args[0], values[0], (dims,)):
            self._weigh(node, name, values[0], tensors)
        elif name == "batch_norm" and len(values) == 1 and values[0].repeat == 1:
            units = values[0].units.found()
            units.members += [Member(tensor, 0) for tensor in tensors]
            self.costs.append((tensors[0], 0.0, 2.0 if len(tensors) == 4 else 0.0, units, None))
            self._values[node.name] = values[0]
        elif name == "flatten" and len(values) == 1 and node.args[1:] == (1,) and self._has(node.args[0], values[0], (2, 4)):
            size = int(node.meta["val"].shape[1])
            self._values[node.name] = _Value(values[0].units, size // values[0].units.found().size)
        elif name in _SAME_UNITS and len(values) == 1 and self._over_maps(name, node):
            self._values[node.name] = values[0]
        elif name in _JOINING and values and not tensors and len({v.repeat for v in values}) == 1:
            self._join(node, values)
        else:
            self._unknown(node)

    @staticmethod
    def _name(node: Any) -> str:
        return str(node.target.name().removeprefix("aten::").partition(".")[0]) if hasattr(node.target, "name") else ""

    @staticmethod
    def _has(node: Any, value: _Value, dims: tuple[int, ...]) -> bool:
        """Return whether a tensor of so many dimensions has its units in the second one."""
        shape = node.meta["val"].shape
        return len(shape) in dims and int(shape[1]) == value.units.found().size * value.repeat

    @staticmethod
    def _over_maps(name: str, node: Any) -> bool:
        if name in {"mean", "amax"}:
            return len(node.args) > 1 and {d % 4 for d in node.args[1]} <= {2, 3} and node.args[0].meta["val"].dim() == 4
        return name != "pad" or len(node.args[1]) <= 4

    def _join(self, node: Any, values: list[_Value]) -> None:
        first, *rest = (v.units.found() for v in values)
        for other in rest:
            if other is first:
                continue
            if other.size != first.size:
                first.fixed = other.fixed = True
                continue
            other.same = first
            first.fixed |= other.fixed
            first.members += other.members
            first.readers += other.readers
        self._values[node.name] = values[0]

    def _weigh(self, node: Any, name: str, value: _Value, tensors: list[str]) -> None:
        weight, *bias = tensors
        shape = tuple(int(n) for n in node.args[1].meta["val"].shape)
        path = weight.rpartition(".")[0]
        groups = node.args[6] if name == "conv2d" and len(node.args) > 6 else 1
        pixels = math.prod(node.meta["val"].shape[2:]) if name == "conv2d" else 1
        each, read = math.prod(shape[2:]), value.units.found()
        if groups > 1:
            depthwise = groups == read.size == shape[0]
            if depthwise:
                read.members += [Member(tensor, 0) for tensor in tensors]
            else:
                read.fixed = True
            written = read if depthwise else self._new(path, shape[0], fixed=True)
            scale = 1 if depthwise else shape[1]
            self.costs.append((weight, 2.0 * each * pixels * scale, float(each * scale), written, None))
        else:
            reader = Member(weight, 1, value.repeat)
            read.members.append(reader)
            read.readers.append(reader)
            written = self._new(path, shape[0])
            written.members += [Member(tensor, 0) for tensor in tensors]
            per_pair = float(each * value.repeat)
            self.costs.append((weight, 2.0 * per_pair * pixels, per_pair, read, written))
        if bias:
            self.costs.append((weight, 0.0, 1.0, written, None))
        self._values[node.name] = _Value(written)


def draw_blueprint(network: Network, input_shape: tuple[int, ...]) -> Blueprint:
    """Return what can be cut out of a network, and what each part costs.

    Args:
        network: on the CPU, whole.
        input_shape: (H, W, C) or (D,).
    Returns:
        See `Blueprint`. Inputs, classes, and units that go through an operation that is not known are in no space.
    Raises:
        InputError: there is nothing to cut.
    """
    was_training = network.training
    walk = _Walk(torch.export.export(network.eval(), (zero_input(input_shape),)))
    network.train(was_training)
    branches = tuple(branch for branch, _ in residual_blocks(network))
    places = [units for units in walk.order if units.same is None and not units.fixed and units.readers]
    if not places and not branches:
        raise InputError("the network has no units and no layers that can be cut out", "take another architecture")
    number = {id(units): k for k, units in enumerate(places)}
    branch_of = {tensor: k for k, branch in enumerate(branches) for tensor in branch.tensors}
    terms = []
    for tensor, flops, parameters, first, second in walk.costs:
        whole = [None if units is None else units.found() for units in (first, second)]
        found = [number.get(id(units), -1) for units in whole]
        for units in (units for units, k in zip(whole, found, strict=True) if units is not None and k < 0):
            flops, parameters = flops * units.size, parameters * units.size
        terms.append(Term(flops, parameters, found[0], found[1], branch_of.get(tensor, -1)))
    spaces = tuple(Space(u.name, u.size, tuple(u.members), tuple(u.readers)) for u in places)
    return Blueprint(spaces, branches, tuple(terms))
