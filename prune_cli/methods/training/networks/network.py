"""A network: features and a linear head; what it costs, and its weights by the names they are saved under.

This module imports torch, so it is imported inside functions only. A network takes (B, C, H, W) or (B, D) float tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from prune_cli.core.errors import InputError


class Network(nn.Module):
    """A classifier in two parts: ``features`` gives the penultimate embedding (B, D), ``head`` the logits (B, C)."""

    head: nn.Linear
    draws_noise = False
    """Whether a forward pass in training draws random numbers (dropout, dropped layers)."""

    @property
    def is_convolutional(self) -> bool:
        """Return whether the network has a convolution, which is what memory formats are about."""
        return any(isinstance(module, nn.Conv2d) for module in self.modules())

    @property
    def gains_from_tiles(self) -> bool:
        """Return whether matrix tiles make bfloat16 fast: there are convolutions, and none goes channel by channel."""
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        return bool(convolutions) and all(c.groups == 1 or c.groups < c.in_channels for c in convolutions)

    def features(self, inputs: Tensor) -> Tensor:
        """Return the penultimate embedding, (B, D)."""
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits, (B, C)."""
        return cast(Tensor, self.head(self.features(inputs)))

    def published_name(self, name: str) -> str:
        """Return the name under which a tensor is saved: the one its original network gives it."""
        return name

    def published_tensors(self) -> dict[str, Tensor]:
        """Return the weights and batch-norm statistics under the names that they are saved by.

        Batch-norm's count of batches is left out: nothing reads it, and torch fills it in on loading.
        """
        state = self.state_dict()
        return {self.published_name(n): t for n, t in state.items() if not n.endswith("num_batches_tracked")}


@dataclass(frozen=True)
class NetworkCost:
    """What a network is and takes.

    Args:
        parameters: trained numbers.
        flops: floating-point operations of one forward pass of one sample; a multiply-add counts two, and
            convolutions and matrix products alone are counted.
        embedding_size: length of the penultimate embedding.
    """

    parameters: int
    flops: int
    embedding_size: int


def network_cost(network: Network, input_shape: tuple[int, ...]) -> NetworkCost:
    """Return the parameters and the forward flops of a network, by one forward pass of an empty sample.

    Torch counts what attention itself multiplies from 2.15 on; with older ones the flops of transformers come out lower.

    Args:
        network: on the CPU, as `build_network` made it.
        input_shape: (H, W, C) or (D,), as it was built for.
    """
    from torch.utils.flop_counter import FlopCounterMode

    was_training = network.training
    with FlopCounterMode(display=False) as counter:  # gradients stay on: without them attention takes an uncounted path
        network.eval()(zero_input(input_shape))
    network.train(was_training)
    n_parameters = sum(p.numel() for p in network.parameters())
    return NetworkCost(n_parameters, int(counter.get_total_flops()), network.head.in_features)


def zero_input(input_shape: tuple[int, ...]) -> Tensor:
    """Return one empty sample as a network takes it; ``input_shape`` is (H, W, C) or (D,)."""
    return torch.zeros(1, *(input_shape[-1:] + input_shape[:-1]))


def export_tensors(network: Network) -> dict[str, np.ndarray]:
    """Return the weights and batch-norm statistics as float32 arrays under their published names."""
    return {
        name: np.ascontiguousarray(tensor.detach().cpu().float().numpy()).copy() for name, tensor in network.published_tensors().items()
    }


def load_tensors(network: Network, tensors: Mapping[str, np.ndarray]) -> None:
    """Put saved weights into a network of the same architecture.

    Raises:
        InputError: a tensor is missing, left over, or of another shape.
    """
    wanted = network.published_tensors()
    odd = sorted(wanted.keys() ^ tensors.keys())
    odd += [name for name in wanted.keys() & tensors.keys() if tuple(wanted[name].shape) != tensors[name].shape]
    if odd:
        raise InputError(
            f"the weights do not fit the architecture: {len(odd)} tensor(s) differ, as {odd[0]!r}",
            "take model.safetensors and model.json from the same run",
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(torch.from_numpy(np.array(tensors[name], dtype=np.float32)))
