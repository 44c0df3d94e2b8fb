"""Gradient norms against autograd of one sample at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from prune_cli.methods.scores.record.grand import gradient_norms, last_layer_gradient_norms
from prune_cli.methods.training.networks.building import build_network
from prune_cli.methods.training.networks.network import Network

SHAPES = {
    "linear": (7,),
    "mlp:16": (7,),
    "lenet5": (12, 10, 1),
    "resnet9:4": (16, 16, 3),
    "resnet18:4": (16, 16, 3),
    "preactresnet18:4": (16, 16, 3),
    "vgg16:4": (32, 32, 1),
    "torchvision:mobilenet_v3_small": (32, 32, 3),
}


def problem(architecture: str) -> tuple[Network, torch.Tensor, torch.Tensor]:
    shape, make = SHAPES[architecture], torch.Generator().manual_seed(0)
    network = build_network(architecture, shape, 5, seed=1)
    size = shape if len(shape) == 1 else (shape[2], shape[0], shape[1])
    inputs = torch.randn(9, *size, generator=make)
    network.train()
    with torch.no_grad():
        network(inputs)  # statistics of batch-norm that are not those it begins with
    return network.eval(), inputs, torch.arange(9) % 5


def slow(network: Network, inputs: torch.Tensor, labels: torch.Tensor, head_only: bool) -> list[float]:
    norms = []
    for input_, label in zip(inputs, labels, strict=True):
        network.zero_grad()
        F.cross_entropy(network(input_[None]), label[None]).backward()
        parameters = (network.head if head_only else network).parameters()
        norms.append(sum(float(p.grad.double().square().sum()) for p in parameters) ** 0.5)
    network.zero_grad(set_to_none=True)
    return norms


@pytest.mark.parametrize("architecture", SHAPES)
def test_it_is_the_norm_of_each_samples_gradient(architecture: str) -> None:
    network, inputs, labels = problem(architecture)
    found = gradient_norms(network, inputs, labels)
    assert found.tolist() == pytest.approx(slow(network, inputs, labels, head_only=False), rel=1e-5)
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("architecture", ["linear", "mlp:16", "resnet9:4"])
def test_the_closed_form_of_the_last_layer(architecture: str) -> None:
    network, inputs, labels = problem(architecture)
    found = last_layer_gradient_norms(network, inputs, labels)
    assert found.tolist() == pytest.approx(slow(network, inputs, labels, head_only=True), rel=1e-5)


@pytest.mark.parametrize("chunk_bytes", [1, 100_000, None])
def test_chunks_change_nothing(chunk_bytes: int | None) -> None:
    network, inputs, labels = problem("resnet9:4")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = gradient_norms(network, inputs, labels, chunk_bytes=chunk_bytes)
    assert found.tolist() == pytest.approx(slow(network, inputs, labels, head_only=False), rel=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
