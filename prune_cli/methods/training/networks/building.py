"""Networks by their names: our own, and torchvision's.

This module imports torch, so it is imported inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from prune_cli.core.errors import InputError
from prune_cli.core.rng import stream_seed
from prune_cli.methods.training.networks.architectures import NETWORKS, TORCHVISION, Architecture, parse_architecture
from prune_cli.methods.training.networks.network import Network, zero_input
from prune_cli.methods.training.networks.pictures import VGG16, LeNet5, LinearNetwork, MultilayerPerceptron, ResNet, ResNet9


class TorchvisionNetwork(Network):
    """A torchvision classifier without its last linear layer, which becomes the head; grey becomes three channels."""

    draws_noise = True

    def __init__(self, body: nn.Module, head_name: str) -> None:
        super().__init__()
        parent, _, attribute = head_name.rpartition(".")
        self.head = cast(nn.Linear, body.get_submodule(head_name))
        setattr(body.get_submodule(parent), attribute, nn.Identity())
        self.body = body
        self.head_name = head_name

    def features(self, inputs: Tensor) -> Tensor:
        x = inputs.expand(-1, 3, -1, -1) if inputs.shape[1] == 1 else inputs
        return cast(Tensor, self.body(x))

    def published_name(self, name: str) -> str:
        part, _, rest = name.partition(".")
        return f"{self.head_name}.{rest}" if part == "head" else rest


def build_torchvision_network(name: str, input_shape: tuple[int, ...], n_classes: int) -> TorchvisionNetwork:
    """Return a classifier of torchvision's by its name there, its weights drawn from torch's own random state.

    Raises:
        InputError: no such classifier, or one that does not end in a linear layer or does not take pictures of that size.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise InputError(
            f"torchvision has no classifier '{name}'",
            f"use one of: {', '.join(known)} (models for detection, segmentation and video are none)",
        )
    options: dict[str, Any] = {"weights": None, "num_classes": n_classes}
    if name in {"googlenet", "inception_v3"}:
        options |= {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        options |= {"image_size": input_shape[0]}
    try:
        body = models.get_model(name, **options)
        heads = [n for n, m in body.named_modules() if isinstance(m, nn.Linear) and m.out_features == n_classes]
        if not heads:
            raise InputError(f"torchvision:{name} does not end in a linear layer", "use torchvision:resnet50 or another")
        network = TorchvisionNetwork(body, heads[-1])
        with torch.no_grad():
            network.eval()(zero_input(input_shape))
    except (ValueError, RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"architecture 'torchvision:{name}' does not take pictures of {input_shape[0]} x {input_shape[1]}: {reason}",
            "resize the pictures to the size it was made for (224 x 224 fits most), or use resnet9 or resnet18",
        ) from error
    network.train()
    return network


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
        InputError: an unknown architecture, vectors for a network of pictures, a size or number of channels the network does not take.
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
