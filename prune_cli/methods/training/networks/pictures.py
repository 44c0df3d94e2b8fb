"""Networks for small pictures, of any size, and for vectors: a layer never pools below 1 x 1.

This module imports torch, so it is imported inside functions only.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from prune_cli.methods.training.networks.network import Network


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
        if self.pool and min(x.shape[-2:]) >= 2:
            x = F.max_pool2d(x, 2)
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

    def __init__(self, channels: int, width: int, n_classes: int, stages: tuple[int, ...], preactivation: bool = False) -> None:
        super().__init__()
        block: type[nn.Module] = PreActivationBlock if preactivation else BasicBlock
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.stem_norm = None if preactivation else nn.BatchNorm2d(width)
        built: list[nn.Module] = []
        n_in = width
        for number, n_blocks in enumerate(stages):
            n_out, stride = width * 2**number, 1 if number == 0 else 2
            built.append(nn.Sequential(*(block(n_out if k else n_in, n_out, 1 if k else stride) for k in range(n_blocks))))
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
