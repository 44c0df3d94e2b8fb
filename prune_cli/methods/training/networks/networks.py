"""Networks: small ones for small pictures and for vectors, and torchvision's; each is features and a linear head.

This module imports torch, so it is imported inside functions only. A network takes (B, C, H, W) or (B, D) float
tensors and works for any picture size: a layer never pools below 1 x 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prune_cli.core.errors import InputError
from prune_cli.core.rng import stream_seed
from prune_cli.methods.training.networks.architectures import (
    DEFAULT_WIDTHS,
    FOR_EMBEDDINGS,
    TORCHVISION,
    Architecture,
    parse_architecture,
)


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

    def published_names(self) -> set[str]:
        """Return the names of all tensors that are saved."""
        return {self.published_name(n) for n in self.state_dict() if not n.endswith("num_batches_tracked")}


class LinearNetwork(Network):
    """Softmax regression: the embedding is the input itself, flattened."""

    def __init__(self, n_inputs: int, n_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(n_inputs, n_classes)

    def features(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)


class MultilayerPerceptron(Network):
    """Two hidden ReLU layers of one width, on vectors or flattened pictures."""

    def __init__(self, n_inputs: int, width: int, n_classes: int) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(n_inputs, width)
        self.hidden2 = nn.Linear(width, width)
        self.head = nn.Linear(width, n_classes)

    def features(self, inputs: Tensor) -> Tensor:
        return F.relu(self.hidden2(F.relu(self.hidden1(inputs.flatten(1)))))


class LeNet5(Network):
    """LeCun 1998 with ReLU and max-pooling: 6 and 16 filters of 5 x 5, then 120 and 84 units.

    Pictures smaller than 32 x 32 are padded to that size with the mean colour, as LeCun did with the 28 x 28 digits.
    """

    side = 32

    def __init__(self, height: int, width: int, channels: int, n_filters: int, n_classes: int) -> None:
        super().__init__()
        n1, n2, n3, n4 = (max(1, round(n * n_filters / 6)) for n in (6, 16, 120, 84))
        map_h, map_w = (((max(side, self.side) - 4) // 2 - 4) // 2 for side in (height, width))
        self.conv1 = nn.Conv2d(channels, n1, 5)
        self.conv2 = nn.Conv2d(n1, n2, 5)
        self.hidden1 = nn.Linear(n2 * map_h * map_w, n3)
        self.hidden2 = nn.Linear(n3, n4)
        self.head = nn.Linear(n4, n_classes)

    def features(self, inputs: Tensor) -> Tensor:
        height, width = inputs.shape[-2:]
        lack_h, lack_w = max(0, self.side - height), max(0, self.side - width)
        if lack_h or lack_w:
            inputs = F.pad(inputs, (lack_w // 2, lack_w - lack_w // 2, lack_h // 2, lack_h - lack_h // 2))
        x = F.relu(F.max_pool2d(self.conv1(inputs), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return F.relu(self.hidden2(F.relu(self.hidden1(x.flatten(1)))))


class ConvBlock(nn.Module):
    """3 x 3 convolution, batch-norm, ReLU, with an optional 2 x 2 max-pooling right after the convolution.

    Pooling first leaves a quarter of the pixels to batch-norm and ReLU; ReLU and max commute, and so does batch-norm
    with a positive scale.
    """

    def __init__(self, n_in: int, n_out: int, pool: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(n_out)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.pool:
            x = _halve(x)
        return F.relu(self.norm(x), inplace=True)


class Residual(nn.Sequential):
    """A branch that is added to its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, super().forward(x))  # type: ignore[no-untyped-call]


class ResNet9(Network):
    """The nine-layer residual network of the DAWNBench entries: fast on small pictures.

    Source:
        Page, "How to train your ResNet", 2018, with pooling before batch-norm as in its part 8. The factor 0.125 of
        the logits stands at the features here, so that the head is linear in the embedding as everywhere.
    """

    def __init__(self, channels: int, width: int, n_classes: int) -> None:
        super().__init__()
        w1, w2, w4, w8 = width, 2 * width, 4 * width, 8 * width
        self.stem = ConvBlock(channels, w1)
        self.layer1 = ConvBlock(w1, w2, pool=True)
        self.residual1 = Residual(ConvBlock(w2, w2), ConvBlock(w2, w2))
        self.layer2 = ConvBlock(w2, w4, pool=True)
        self.layer3 = ConvBlock(w4, w8, pool=True)
        self.residual3 = Residual(ConvBlock(w8, w8), ConvBlock(w8, w8))
        self.head = nn.Linear(w8, n_classes)

    def features(self, inputs: Tensor) -> Tensor:
        x = self.residual1(self.layer1(self.stem(inputs)))
        x = self.residual3(self.layer3(self.layer2(x)))
        return cast(Tensor, 0.125 * x.amax(dim=(2, 3)))


class PointConv(nn.Conv2d):
    """A 1 x 1 convolution with a stride: of the pixels that the stride takes, which are taken first.

    The library that torch uses on CPUs with AVX2 alone writes beyond its memory in the gradient of a 1 x 1 convolution with a stride and
    fewer than 8 channels: a crash, and wrong gradients as reported. With a stride of 1 it does not. Seen with oneDNN 3.13.3, as torch
    2.15 has it; https://github.com/uxlfoundation/oneDNN/issues/6035.
    """

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__(n_in, n_out, 1, stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(input[:, :, ::rows, ::columns], self.weight)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with batch-norm after each, and a shortcut (He 2016)."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(PointConv(n_in, n_out, stride), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


class PreActivationBlock(nn.Module):
    """Batch-norm and ReLU before each of two 3 x 3 convolutions, and a shortcut (He 2016, identity mappings)."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(n_in)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        changes = stride != 1 or n_in != n_out
        self.shortcut = PointConv(n_in, n_out, stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = F.relu(self.norm2(self.conv1(y)), inplace=True)
        return cast(Tensor, self.conv2(y) + shortcut)


class ResNet(Network):
    """A residual network for small pictures: a 3 x 3 stem, no pooling before the first stage, filters doubled in each stage.

    With two blocks in each of four stages it is ResNet-18; with n in each of three, from 16 filters on, ResNet-(6 n + 2) of CIFAR.
    With ``preactivation`` it is PreActResNet-18 as the noisy-label literature uses it, without a last batch-norm.

    Source:
        He, Zhang, Ren, Sun, CVPR 2016 and ECCV 2016; sizes for CIFAR as in Liu's public collection. Deviation: where the number of
        filters changes, the shortcut is a 1 x 1 convolution in ResNet-20 and 56 too (their option B).
    """

    def __init__(
        self, channels: int, width: int, n_classes: int, stages: tuple[int, ...], preactivation: bool = False
    ) -> None:
        super().__init__()
        block: type[nn.Module] = PreActivationBlock if preactivation else BasicBlock
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.stem_norm = None if preactivation else nn.BatchNorm2d(width)
        built: list[nn.Module] = []
        n_in = width
        for number, n_blocks in enumerate(stages):
            n_out, stride = width * 2**number, 1 if number == 0 else 2
            built.append(
                nn.Sequential(*(block(n_out if k else n_in, n_out, 1 if k else stride) for k in range(n_blocks)))
            )
            n_in = n_out
        self.stages = nn.Sequential(*built)
        self.head = nn.Linear(n_in, n_classes)

    def features(self, inputs: Tensor) -> Tensor:
        x = self.stem(inputs)
        if self.stem_norm is not None:
            x = F.relu(self.stem_norm(x), inplace=True)
        return cast(Tensor, self.stages(x).mean(dim=(2, 3)))


class VGG16(Network):
    """VGG-16 with batch-norm for small pictures: thirteen convolutions, one linear layer.

    Source:
        Simonyan, Zisserman, ICLR 2015; sizes for CIFAR as in Liu's public collection. Deviation: convolutions have no
        bias, which batch-norm would cancel.
    """

    def __init__(self, channels: int, width: int, n_classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        n_in = channels
        for factor, repeats in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
            for repeat in range(repeats):
                blocks.append(ConvBlock(n_in, factor * width, pool=repeat == repeats - 1))
                n_in = factor * width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(n_in, n_classes)

    def features(self, inputs: Tensor) -> Tensor:
        return cast(Tensor, self.blocks(inputs).mean(dim=(2, 3)))


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
        network = _construct(kind, input_shape, n_classes)
    if kind.name == TORCHVISION:
        _check_runs(network, architecture, input_shape)
    return network


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


def export_tensors(network: Network) -> dict[str, np.ndarray]:
    """Return the weights and batch-norm statistics as float32 arrays under their published names.

    Batch-norm's count of batches is left out: nothing reads it, and torch fills it in on loading.
    """
    return {
        network.published_name(name): np.ascontiguousarray(tensor.detach().cpu().float().numpy()).copy()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def load_tensors(network: Network, tensors: Mapping[str, np.ndarray]) -> None:
    """Put saved weights into a network of the same architecture.

    Raises:
        InputError: a tensor is missing, left over, or of another shape.
    """
    wanted = {
        network.published_name(name): tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
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


def _halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2) if min(x.shape[-2:]) >= 2 else x


def zero_input(input_shape: tuple[int, ...]) -> Tensor:
    """Return one empty sample as a network takes it; ``input_shape`` is (H, W, C) or (D,)."""
    return torch.zeros(1, *_channels_first(input_shape))


def _channels_first(input_shape: tuple[int, ...]) -> tuple[int, ...]:
    return input_shape if len(input_shape) == 1 else (input_shape[2], input_shape[0], input_shape[1])


def _check_shape(kind: Architecture, input_shape: tuple[int, ...], n_classes: int) -> None:
    if len(input_shape) not in {1, 3} or min(input_shape) < 1:
        raise InputError(f"an input of shape {input_shape} is neither (H, W, C) nor (D,)", "give pictures or vectors")
    if n_classes < 2:
        raise InputError(f"{n_classes} class(es) to tell apart", "give data of two classes or more")
    if len(input_shape) == 1 and kind.name not in FOR_EMBEDDINGS:
        raise InputError(
            f"architecture '{kind}' takes pictures, and the input is a vector of {input_shape[0]} numbers",
            f"use {' or '.join(FOR_EMBEDDINGS)}, or train on the images (--input image)",
        )
    if kind.name == TORCHVISION and input_shape[2] not in {1, 3}:
        raise InputError(
            f"architecture '{kind}' takes 1 or 3 channels, not {input_shape[2]}", "use resnet9 or resnet18"
        )


def _construct(kind: Architecture, input_shape: tuple[int, ...], n_classes: int) -> Network:
    if kind.name == TORCHVISION:
        return _torchvision_network(str(kind.model), input_shape, n_classes)
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
    assert builders.keys() == DEFAULT_WIDTHS.keys()
    network = builders[kind.name]()
    for module in network.modules():
        if module is network.head or not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        nn.init.kaiming_normal_(module.weight, mode="fan_out" if isinstance(module, nn.Conv2d) else "fan_in")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return network


def _torchvision_network(name: str, input_shape: tuple[int, ...], n_classes: int) -> Network:
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
    except (ValueError, RuntimeError, AssertionError) as error:
        raise _misfit(f"torchvision:{name}", input_shape, error) from error
    heads = [n for n, m in body.named_modules() if isinstance(m, nn.Linear) and m.out_features == n_classes]
    if not heads:
        raise InputError(f"torchvision:{name} does not end in a linear layer", "use torchvision:resnet50 or another")
    return TorchvisionNetwork(body, heads[-1])


def _check_runs(network: Network, architecture: str, input_shape: tuple[int, ...]) -> None:
    try:
        with torch.no_grad():
            network.eval()(zero_input(input_shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise _misfit(architecture, input_shape, error) from error
    network.train()


def _misfit(architecture: str, input_shape: tuple[int, ...], error: Exception) -> InputError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return InputError(
        f"architecture {architecture!r} does not take pictures of {input_shape[0]} x {input_shape[1]}: {reason}",
        "resize the pictures to the size it was made for (224 x 224 fits most), or use resnet9 or resnet18",
    )
