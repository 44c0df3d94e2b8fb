"""Residual blocks: which tensors are their branch, and what is left without it.

This module imports torch, so it is imported inside functions only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet as torchvision_resnet

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


@dataclass(frozen=True)
class ResidualBlock:
    """A residual block of a network: its branch, and what stands in its place without that."""

    branch: Branch
    left: nn.Module


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


def residual_blocks(network: Network) -> list[ResidualBlock]:
    """Return the residual blocks whose branches can go, in the order of the modules: our own, and torchvision's ResNets'."""
    found = []
    for name, module in network.named_modules():
        if isinstance(module, Residual):
            last = f"{len(module) - 1}.norm"
            found.append(_block(name, module, [n for n, _ in module.named_children()], [last], nn.Identity()))
        elif isinstance(module, BasicBlock):
            plain = isinstance(module.shortcut, nn.Identity)
            left = nn.Identity() if plain else Shortcut({"shortcut": module.shortcut}, "shortcut")
            found.append(_block(name, module, ["conv1", "norm1", "conv2", "norm2"], ["norm2"], left))
        elif isinstance(module, PreActivationBlock):
            branch, left = ["conv1", "norm2", "conv2"], nn.Identity()
            if module.shortcut is None:
                branch.append("norm1")
            else:
                left = Shortcut({"norm1": module.norm1, "shortcut": module.shortcut}, "norm1")
            found.append(_block(name, module, branch, ["conv2"], left))
        elif isinstance(module, torchvision_resnet.BasicBlock | torchvision_resnet.Bottleneck):
            deep = isinstance(module, torchvision_resnet.Bottleneck)
            numbers = (1, 2, 3) if deep else (1, 2)
            kept = module.downsample
            left = nn.Identity() if kept is None else Shortcut({"downsample": kept}, "downsample")
            branch = [f"{kind}{k}" for k in numbers for kind in ("conv", "bn")]
            found.append(_block(name, module, branch, [branch[-1]], left))
    return found


def _block(
    name: str, module: nn.Module, branch: Iterable[str], scaled: Iterable[str], left: nn.Module
) -> ResidualBlock:
    def tensors(parts: Iterable[str], buffers: bool) -> tuple[str, ...]:
        return tuple(
            f"{name}.{part}.{tensor}"
            for part in parts
            for tensor, value in module.get_submodule(part).state_dict().items()
            if value.dim() and (buffers or "running" not in tensor)
        )

    return ResidualBlock(Branch(name, tensors(branch, True), tensors(scaled, False)), left)
