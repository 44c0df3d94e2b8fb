"""Cutting entries and residual branches out of a network, with the optimiser's state; which tensors are a branch.

This module imports torch, so it is imported inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet as torchvision_resnet

from prune_cli.core.errors import InputError
from prune_cli.methods.training.networks.network import Network
from prune_cli.methods.training.networks.pictures import BasicBlock, PreActivationBlock, Residual


@dataclass(frozen=True)
class Branch:
    """The branch of a residual block, which can go.

    Args:
        block: name of the block's module.
        tensors: names of the tensors that go with the branch.
        scaled: of these, the ones that a factor on the branch can be multiplied into.
    """

    block: str
    tensors: tuple[str, ...]
    scaled: tuple[str, ...]


class Shortcut(nn.Module):
    """A residual block without its branch: its parts one after the other, rectified after the one named.

    Args:
        parts: name -> module, as they were named in the block.
        rectified: the part whose output goes through ReLU.
    """

    def __init__(self, parts: dict[str, nn.Module], rectified: str) -> None:
        super().__init__()
        self._rectified = rectified
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        for name, part in self.named_children():
            x = part(x)
            if name == self._rectified:
                x = F.relu(x, inplace=True)
        return x


def residual_blocks(network: Network) -> list[tuple[Branch, nn.Module]]:
    """Return the residual blocks whose branches can go, in the order of the modules: our own, and torchvision's ResNets'.

    Of each its branch, and what stands in its place without that.
    """
    found = []
    for name, module in network.named_modules():
        left: nn.Module = nn.Identity()
        match module:
            case Residual():
                parts, scaled = [n for n, _ in module.named_children()], f"{len(module) - 1}.norm"
            case BasicBlock():
                parts, scaled = ["conv1", "norm1", "conv2", "norm2"], "norm2"
                if not isinstance(module.shortcut, nn.Identity):
                    left = Shortcut({"shortcut": module.shortcut}, "shortcut")
            case PreActivationBlock():
                parts, scaled = ["conv1", "norm2", "conv2"], "conv2"
                if module.shortcut is None:
                    parts.append("norm1")
                else:
                    left = Shortcut({"norm1": module.norm1, "shortcut": module.shortcut}, "norm1")
            case torchvision_resnet.BasicBlock() | torchvision_resnet.Bottleneck():
                numbers = (1, 2, 3) if isinstance(module, torchvision_resnet.Bottleneck) else (1, 2)
                parts, scaled = [f"{kind}{k}" for k in numbers for kind in ("conv", "bn")], f"bn{numbers[-1]}"
                if module.downsample is not None:
                    left = Shortcut({"downsample": module.downsample}, "downsample")
            case _:
                continue
        tensors = {p: [f"{name}.{p}.{t}" for t, v in module.get_submodule(p).state_dict().items() if v.dim()] for p in (*parts, scaled)}
        branch = tuple(tensor for part in parts for tensor in tensors[part])
        found.append(
            (Branch(name, branch, tuple(tensor for tensor in tensors[scaled] if "running" not in tensor.rpartition(".")[2])), left)
        )
    return found


Entries = Mapping[str, Sequence[tuple[int, Tensor]]]
"""Name of a tensor in the state dict -> dimensions, and (K,) int64 the entries of each that stay, ascending."""


def keep_entries(network: Network, entries: Entries, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Keep some entries of tensors; the rest is gone.

    Args:
        entries: what stays; tensors that the network has no more are passed over.
        optimizer: of its parameters; momenta are cut alike.
    """
    state = dict(network.named_parameters()) | dict(network.named_buffers())
    for name, cuts in entries.items():
        if name not in state:
            continue  # went with a branch

        def cut(tensor: Tensor, cuts: Sequence[tuple[int, Tensor]] = cuts) -> Tensor:
            part = tensor
            for dim, kept in cuts:
                part = part.index_select(dim, kept.to(tensor.device))
            return _laid_out_as(tensor, part)

        _replace(network, name, cut, optimizer)


def remove_branches(network: Network, names: Iterable[str], optimizer: torch.optim.Optimizer | None = None) -> None:
    """Take the branches of residual blocks out; their shortcuts stay.

    Args:
        network: changed in place.
        optimizer: of its parameters; it forgets those of the branches.
    Raises:
        InputError: no such block.
    """
    for name in names:
        left = {branch.block: module for branch, module in residual_blocks(network)}
        if name not in left:
            raise InputError(f"the network has no residual block '{name}'", "take the model of that architecture")
        network.set_submodule(name, left[name])
    if optimizer is not None:
        alive = {id(p) for p in network.parameters()}
        for group in optimizer.param_groups:
            for parameter in [p for p in group["params"] if id(p) not in alive]:
                optimizer.state.pop(parameter, None)
            group["params"] = [p for p in group["params"] if id(p) in alive]


def take_shape(
    network: Network, removed: Iterable[str], shapes: Mapping[str, Sequence[int]], optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Give a whole network the shape of a cut one; what its tensors hold is then for the caller to fill in.

    Args:
        network: as it was built, changed in place.
        removed: blocks whose branches are gone.
        shapes: name in the state dict -> shape.
    Raises:
        InputError: a tensor that would have to grow, or another number of dimensions.
    """
    remove_branches(network, removed, optimizer)
    for name, tensor in network.state_dict().items():
        wanted = tuple(shapes.get(name, tensor.shape))
        if wanted == tuple(tensor.shape):
            continue
        if len(wanted) != tensor.dim() or any(w > n for w, n in zip(wanted, tensor.shape, strict=True)):
            raise InputError(
                f"the weights do not fit the architecture: {name!r} is {list(wanted)}, and whole {list(tensor.shape)}",
                "take model.safetensors and model.json from the same run",
            )

        def cut(old: Tensor, wanted: tuple[int, ...] = wanted) -> Tensor:
            return _laid_out_as(old, old[tuple(slice(n) for n in wanted)])

        _replace(network, name, cut, optimizer)


def _replace(network: Network, name: str, cut: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer | None) -> None:
    """Put what ``cut`` makes of a tensor, and of its momentum, in its place."""
    path, _, attribute = name.rpartition(".")
    module = network.get_submodule(path)
    with torch.no_grad():
        old = getattr(module, attribute)
        if not isinstance(old, nn.Parameter):
            setattr(module, attribute, cut(old))
        else:
            new = nn.Parameter(cut(old.detach()), requires_grad=old.requires_grad)
            setattr(module, attribute, new)
            if optimizer is not None:
                for group in optimizer.param_groups:
                    group["params"] = [new if p is old else p for p in group["params"]]
                state = optimizer.state.pop(old, {})
                optimizer.state[new] = {k: cut(v) if isinstance(v, Tensor) and v.shape == old.shape else v for k, v in state.items()}
    _tell_sizes(module, len(getattr(module, attribute)))


def _tell_sizes(module: nn.Module, size: int) -> None:
    """Set the attributes that say how large a layer is, one of whose tensors has become ``size`` long."""
    if isinstance(module, nn.Conv2d):
        depthwise = module.groups > 1
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.weight.shape[0] if depthwise else module.weight.shape[1]
        module.groups = module.weight.shape[0] if depthwise else 1
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.BatchNorm2d):
        module.num_features = size


def _laid_out_as(whole: Tensor, part: Tensor) -> Tensor:
    """Return a copy of a part in the memory format of the whole; its strides go by its shape alone, however it was cut."""
    last = whole.dim() == 4 and whole.is_contiguous(memory_format=torch.channels_last)
    form = torch.channels_last if last else torch.contiguous_format
    return torch.empty(part.shape, dtype=part.dtype, device=part.device, memory_format=form).copy_(part)
