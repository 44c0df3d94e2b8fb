"""Networks: shapes, published sizes, costs by hand, names of weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from waiting import HANGS

from prune_cli.core.errors import InputError
from prune_cli.methods.training.networks.architectures import parse_architecture
from prune_cli.methods.training.networks.building import build_network
from prune_cli.methods.training.networks.network import export_tensors, load_tensors, network_cost
from prune_cli.methods.training.networks.pictures import PointConv

GREY, COLOUR = (28, 28, 1), (32, 32, 3)


def cost(architecture: str, shape: tuple[int, ...], n_classes: int = 10):
    return network_cost(build_network(architecture, shape, n_classes, seed=0), shape)


@pytest.mark.parametrize(
    ("architecture", "shape", "parameters", "embedding"),
    [
        ("linear", (784,), 784 * 10 + 10, 784),
        ("linear", GREY, 784 * 10 + 10, 784),
        ("mlp", (784,), 784 * 512 + 512 + 512 * 512 + 512 + 5130, 512),
        ("mlp:3", (5,), 5 * 3 + 3 + 3 * 3 + 3 + 3 * 10 + 10, 3),
        ("lenet5", GREY, 61_706, 84),  # LeCun's network with all connections between the convolutions
        ("lenet5", COLOUR, 61_706 + 2 * 25 * 6, 84),
        ("resnet9", COLOUR, 6_573_130, 512),  # Page's, as quoted for it
        ("resnet18", COLOUR, 11_173_962, 512),  # Liu's collection
        ("preactresnet18", COLOUR, 11_171_146, 512),  # Liu's collection
        ("vgg16", COLOUR, 14_728_266 - 4_224, 512),  # Liu's, without the 4,224 biases that batch-norm cancels
        ("torchvision:resnet18", COLOUR, 11_689_512 - 513_000 + 5_130, 512),  # torchvision's, with a head of 10
    ],
)
def test_parameters_are_those_published(architecture, shape, parameters, embedding):
    found = cost(architecture, shape)
    assert (found.parameters, found.embedding_size) == (parameters, embedding)


def test_width_scales_every_layer():
    def conv_and_norm(n_in: int, n_out: int) -> int:
        return 9 * n_in * n_out + 2 * n_out

    pairs = [(3, 16), (16, 32), (32, 32), (32, 32), (32, 64), (64, 128), (128, 128), (128, 128)]
    assert cost("resnet9:16", COLOUR).parameters == sum(conv_and_norm(*p) for p in pairs) + 128 * 10 + 10
    assert cost("lenet5:12", GREY).embedding_size == 168
    assert cost("vgg16:1", GREY).embedding_size == 8


def test_flops_by_hand():
    assert cost("linear", (784,)).flops == 2 * 784 * 10
    assert cost("mlp:3", (5,)).flops == 2 * (5 * 3 + 3 * 3 + 3 * 10)
    convolutions = 2 * 25 * 6 * 28 * 28 + 2 * 25 * 6 * 16 * 10 * 10
    assert cost("lenet5", GREY).flops == convolutions + 2 * (400 * 120 + 120 * 84 + 84 * 10)


@pytest.mark.skipif(
    tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < (2, 15),
    reason="torch counts the flops of attention from 2.15 on",
)
def test_flops_of_attention_are_counted():
    # One 16 x 16 patch of 32 x 32 gives 4 tokens and the class token; 12 layers of width 768, hidden 3072.
    tokens, width, hidden = 5, 768, 3072
    layer = tokens * width * (3 * width + width + 2 * hidden) + 2 * tokens * tokens * width
    patches = 4 * 16 * 16 * 3 * width
    assert cost("torchvision:vit_b_16", COLOUR).flops == 2 * (12 * layer + patches + width * 10)


@pytest.mark.parametrize("side", [1, 2, 3, 8, 28, 33, 64])
@pytest.mark.parametrize("architecture", ["linear", "mlp:4", "lenet5:2", "resnet9:2", "resnet18:2", "preactresnet18:2", "vgg16:2"])
def test_any_picture_size_trains(architecture, side):
    network = build_network(architecture, (side, side + 1, 3), 4, seed=0)
    inputs = torch.rand(5, 3, side, side + 1)
    embeddings = network.features(inputs)
    logits = network(inputs)
    assert embeddings.shape == (5, network.head.in_features) and logits.shape == (5, 4)
    logits.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("architecture", ["lenet5:2", "resnet9:2", "resnet18:2", "preactresnet18:2", "vgg16:2", "mlp:2"])
def test_logits_are_linear_in_the_embedding(architecture):
    network = build_network(architecture, COLOUR, 4, seed=0).eval()
    inputs = torch.rand(3, 3, 32, 32)
    embeddings = network.features(inputs)
    torch.testing.assert_close(embeddings @ network.head.weight.T + network.head.bias, network(inputs))


def test_a_small_picture_is_padded_for_lenet_with_nothing():
    network = build_network("lenet5", (28, 28, 1), 10, seed=0)
    inputs = torch.rand(2, 1, 28, 28)
    padded = torch.zeros(2, 1, 32, 32)
    padded[:, :, 2:30, 2:30] = inputs
    torch.testing.assert_close(network(inputs), network(padded))


def test_weights_depend_on_the_seed_and_not_on_torch_state():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = export_tensors(build_network("resnet9:2", GREY, 10, seed=0))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again, other = (export_tensors(build_network("resnet9:2", GREY, 10, seed=s)) for s in (0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["stem.conv.weight"], other["stem.conv.weight"])


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0", "mobilenet_v3_small", "regnet_x_400mf"])
def test_torchvision_weights_keep_torchvision_names(name):
    from torchvision import models

    shape = (32, 32, 3)
    if name == "squeezenet1_0":
        with pytest.raises(InputError, match="does not end in a linear layer"):
            build_network(f"torchvision:{name}", shape, 7, seed=0)
        return
    network = build_network(f"torchvision:{name}", shape, 7, seed=0).eval()
    original = models.get_model(name, weights=None, num_classes=7).eval()
    original.load_state_dict({k: torch.from_numpy(v) for k, v in export_tensors(network).items()})
    inputs = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(original(inputs), network(inputs))


@pytest.mark.parametrize(
    ("architecture", "gains"),
    [("resnet9:2", True), ("linear", False), ("torchvision:resnet18", True), ("torchvision:mobilenet_v3_small", False)],
)
def test_depthwise_convolutions_gain_nothing_from_tiles(architecture, gains):
    assert build_network(architecture, COLOUR, 3, seed=0).gains_from_tiles == gains


def test_torchvision_takes_grey_as_three_equal_channels():
    network = build_network("torchvision:resnet18", GREY, 3, seed=0).eval()
    inputs = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(network(inputs), network(inputs.repeat(1, 3, 1, 1)))


def test_saved_weights_come_back():
    network, other = (build_network("resnet9:2", GREY, 10, seed=s) for s in (0, 1))
    load_tensors(other, export_tensors(network))
    inputs = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(other.eval()(inputs), network.eval()(inputs))
    tensors = export_tensors(network)
    with pytest.raises(InputError, match=r"'head\.bias'"):
        load_tensors(other, {k: v for k, v in tensors.items() if k != "head.bias"})
    with pytest.raises(InputError, match=r"'head\.bias'"):
        load_tensors(other, tensors | {"head.bias": np.zeros(3, np.float32)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet99", "unknown architecture"),
        ("", "unknown architecture"),
        ("resnet9:0", "not 1 or more"),
        ("resnet9:-3", "not 1 or more"),
        ("resnet9:wide", "not 1 or more"),
        ("resnet9:", "not 1 or more"),
        ("linear:8", "linear has none"),
        ("torchvision", "names no model"),
        ("torchvision:resnet18:8", "gives a width"),
    ],
)
def test_a_bad_architecture_is_named_with_its_cure(text, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_architecture(text)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("architecture", "shape", "message"),
    [
        ("resnet9", (512,), "use linear or mlp"),
        ("torchvision:resnet18", (512,), "use linear or mlp"),
        ("torchvision:fasterrcnn_resnet50_fpn", COLOUR, "detection"),
        ("torchvision:resnet19", COLOUR, "no classifier 'resnet19'"),
        ("torchvision:resnet18", (32, 32, 4), "1 or 3 channels"),
        ("torchvision:alexnet", COLOUR, "does not take pictures of 32 x 32"),
        ("torchvision:vit_b_16", (33, 33, 3), "does not take pictures of 33 x 33"),
        ("resnet9", (3, 3), "neither"),
    ],
)
def test_a_misfit_is_named_with_its_cure(architecture, shape, message):
    with pytest.raises(InputError, match=message):
        build_network(architecture, shape, 10, seed=0)


def test_one_class_is_no_classification():
    with pytest.raises(InputError, match="two classes"):
        build_network("linear", (3,), 1, seed=0)


@pytest.mark.parametrize(("side", "stride"), [(8, 2), (9, 2), (15, 3), (8, 1)])
def test_a_point_convolution_is_the_convolution_with_its_stride(side: int, stride: int):
    inputs = torch.randn(4, 5, side, side, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    layer = PointConv(5, 7, stride).double()
    found, expected = layer(inputs), torch.nn.functional.conv2d(inputs, layer.weight, stride=stride)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected)


NARROW = """
import itertools, json, math
import torch
from prune_cli.methods.training.networks.building import build_network
errors = {1: [], 2: []}
for threads, architecture in itertools.product((1, 2), ("resnet18:3", "preactresnet18:4", "resnet20:2")):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = build_network(architecture, (16, 16, 3), 5, seed=0).to(memory_format=torch.channels_last)
    inputs = torch.randn(32, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    for _ in range(15):
        network.zero_grad()
        (network(inputs) ** 2).mean().backward()
    found = [p.grad for p in network.parameters()]
    exact = network.double()
    exact.zero_grad()
    (exact(inputs.double()) ** 2).mean().backward()
    for (name, parameter), gradient in zip(exact.named_parameters(), found, strict=True):
        error = (parameter.grad - gradient).abs().max() / parameter.grad.abs().max().clamp(min=1e-3)
        errors[threads].append((error.item(), architecture, name))
print(json.dumps([max(of, key=lambda e: (math.isnan(e[0]), e[0])) for of in errors.values()]))
"""


@pytest.fixture(scope="module")
def of_narrow() -> list[tuple[float, str, str]]:
    """The largest errors of gradients of narrow networks on one thread and on two, on a processor without AVX-512."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", NARROW]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("threads", [1, 2])
def test_narrow_networks_have_right_gradients_on_older_processors(threads: int, of_narrow):
    error, *where = of_narrow[threads - 1]
    assert error < 0.05, where
