"""Networks by their names.

This module imports torch, so it is imported inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from prune_cli.core.errors import InputError
from prune_cli.core.rng import stream_seed
from prune_cli.methods.training.networks.architectures import NETWORKS, TORCHVISION, Architecture, parse_architecture
from prune_cli.methods.training.networks.from_torchvision import build_torchvision_network
from prune_cli.methods.training.networks.network import Network
from prune_cli.methods.training.networks.pictures import VGG16, LeNet5, LinearNetwork, MultilayerPerceptron, ResNet, ResNet9


def build_network(architecture: str, input_shape: tuple[int, ...], n_classes: int, seed: int) -> Network:
    """Return a freshly initialised network on the CPU in float32.

    Args:
        architecture: ``NAME[:WIDTH]`` or ``torchvision:NAME``.
        input_shape: (H, W, C) of the pictures or (D,) of the vectors.
        n_classes: 2 or more.
        seed: the run's seed; the initial weights come from its stream ``("init",)``, torch's own state is left alone.
    Returns:
        The network; the same arguments give the same weights, on every device.
    Raises:
        InputError: an unknown architecture, vectors for a network of pictures, a size or number of channels the
            network does not take.
    """
    kind = parse_architecture(architecture)
    _check_shape(kind, input_shape, n_classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "init"))
        if kind.model is not None:
            return build_torchvision_network(kind.model, input_shape, n_classes)
        return _build_own(kind, input_shape, n_classes)


def _check_shape(kind: Architecture, input_shape: tuple[int, ...], n_classes: int) -> None:
    if len(input_shape) not in {1, 3} or min(input_shape) < 1:
        raise InputError(f"an input of shape {input_shape} is neither (H, W, C) nor (D,)", "give pictures or vectors")
    if n_classes < 2:
        raise InputError(f"{n_classes} class(es) to tell apart", "give data of two classes or more")
    if len(input_shape) == 1 and not kind.known.takes_vectors:
        fitting = " or ".join(name for name, known in NETWORKS.items() if known.takes_vectors)
        raise InputError(
            f"architecture '{kind}' takes pictures, and the input is a vector of {input_shape[0]} numbers",
            f"use {fitting}, or train on the images (--input image)",
        )
    if kind.name == TORCHVISION and input_shape[2] not in {1, 3}:
        raise InputError(f"architecture '{kind}' takes 1 or 3 channels, not {input_shape[2]}", "use resnet9 or resnet18")


def _build_own(kind: Architecture, input_shape: tuple[int, ...], n_classes: int) -> Network:
    n_inputs = int(np.prod(input_shape))
    channels, width = input_shape[-1], kind.width or 0
    builders: dict[str, Callable[[], Network]] = {
        "linear": lambda: LinearNetwork(n_inputs, n_classes),
        "mlp": lambda: MultilayerPerceptron(n_inputs, width, n_classes),
        "lenet5": lambda: LeNet5(input_shape[0], input_shape[1], channels, width, n_classes),
        "resnet9": lambda: ResNet9(channels, width, n_classes),
        "resnet18": lambda: ResNet(channels, width, n_classes, (2, 2, 2, 2)),
        "resnet20": lambda: ResNet(channels, width, n_classes, (3, 3, 3)),
        "resnet56": lambda: ResNet(channels, width, n_classes, (9, 9, 9)),
        "preactresnet18": lambda: ResNet(channels, width, n_classes, (2, 2, 2, 2), preactivation=True),
        "vgg16": lambda: VGG16(channels, width, n_classes),
    }
    network = builders[kind.name]()
    for module in network.modules():
        if module is network.head or not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        nn.init.kaiming_normal_(module.weight, mode="fan_out" if isinstance(module, nn.Conv2d) else "fan_in")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return network
