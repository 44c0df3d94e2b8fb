"""Blueprint, cost and surgery: costs against torch's counter and finite differences, and outputs that stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prune_cli.core.errors import InputError
from prune_cli.methods.structure.blueprint import Blueprint, draw_blueprint
from prune_cli.methods.structure.cutting import CostModel, Shape
from prune_cli.methods.structure.learned_gates import Gates
from prune_cli.methods.training.networks.building import build_network
from prune_cli.methods.training.networks.network import Network, network_cost, zero_input
from prune_cli.methods.training.networks.surgery import take_shape

CPU = torch.device("cpu")
NETWORKS = [
    ("lenet5:4", (28, 28, 1)),
    ("mlp:9", (12,)),
    ("resnet9:4", (28, 28, 1)),
    ("resnet18:4", (16, 16, 3)),
    ("preactresnet18:4", (16, 16, 3)),
    ("resnet20:4", (16, 16, 3)),
    ("resnet56:2", (16, 16, 3)),
    ("vgg16:3", (32, 32, 3)),
    ("torchvision:resnet18", (64, 64, 1)),
    ("torchvision:resnet50", (64, 64, 3)),
    ("torchvision:mobilenet_v3_small", (64, 64, 3)),
]


def trained(architecture: str, shape: tuple[int, ...]) -> Network:
    """Return a network whose batch-norms are not what they were made as."""
    network = build_network(architecture, shape, 10, seed=0)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                n = module.num_features
                module.weight.copy_(0.5 + torch.rand(n, generator=rng))
                module.bias.copy_(torch.rand(n, generator=rng) - 0.5)
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.copy_(torch.rand(n, generator=rng) - 0.5)
                module.running_var.copy_(0.5 + torch.rand(n, generator=rng))
    return network


def some_gates(blueprint: Blueprint, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    gates = (torch.rand(blueprint.n_gates, generator=rng) < 0.6).float()
    start = 0
    for space in blueprint.spaces:
        gates[start] = 1
        start += space.size
    return gates


@pytest.mark.parametrize(("architecture", "shape"), NETWORKS)
def test_cutting_what_is_gated_off_leaves_the_output_and_costs_what_the_model_says(architecture: str, shape: tuple[int, ...]) -> None:
    network = trained(architecture, shape).eval()
    whole = Shape(draw_blueprint(network, shape), CPU)
    before = network_cost(network, shape)
    assert whole.live_cost().tolist() == [before.flops, before.parameters]
    gates = some_gates(whole.blueprint)
    x = torch.randn(3, *zero_input(shape).shape[1:], generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        plain = network(x)
        with Gates(whole.blueprint).applied(network, gates):
            expected = network(x)
        assert torch.equal(network(x), plain) and not torch.allclose(expected, plain, atol=1e-3)
        foreseen = whole.cost(gates).tolist()
        found = whole.keep(gates > 0)
        assert found is not None
        found[0](network, None)
        assert torch.allclose(network(x), expected, atol=1e-5 * float(expected.abs().max()))
    after = network_cost(network, shape)
    assert [after.flops, after.parameters] == whole.live_cost().tolist() == foreseen
    assert sum(live for live, _ in whole.units().values()) < sum(n for _, n in whole.units().values())
    again = build_network(architecture, shape, 10, seed=5).eval()
    take_shape(again, whole.removed(), {n: t.shape for n, t in network.state_dict().items()})
    again.load_state_dict(network.state_dict())
    assert torch.allclose(again(x), network(x), atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize(("architecture", "shape"), [("resnet9:4", (28, 28, 1)), ("preactresnet18:2", (16, 16, 3))])
def test_the_price_is_the_derivative_of_the_expected_cost(architecture: str, shape: tuple[int, ...]) -> None:
    cost = CostModel(draw_blueprint(build_network(architecture, shape, 10, seed=0), shape), CPU)
    blueprint = draw_blueprint(build_network(architecture, shape, 10, seed=0), shape)
    theta = torch.rand(blueprint.n_gates, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = torch.tensor([0.7, 0.2], dtype=torch.float64)
    price = cost.price(theta, share)
    for gate in range(0, len(theta), 7):
        step = torch.zeros_like(theta)
        step[gate] = 0.25  # multilinear: any step will do
        slope = (cost(theta + step) - cost(theta - step)) @ share / 0.5
        assert float(price[gate]) == pytest.approx(float(slope), rel=1e-9)


def test_the_cost_by_hand() -> None:
    blueprint = draw_blueprint(build_network("mlp:2", (3,), 2, seed=0), (3,))
    cost = CostModel(blueprint, CPU)
    assert [space.name for space in blueprint.spaces] == ["hidden1", "hidden2"]
    # theta .5, .25 and 1, .5: 3 x .75 + .75 x 1.5 + 1.5 x 2 multiply-adds; biases .75 + 1.5 + 2
    flops, parameters = cost(torch.tensor([0.5, 0.25, 1.0, 0.5])).tolist()
    assert flops == 2 * (2.25 + 1.125 + 3.0)
    assert parameters == 6.375 + 4.25


def test_a_network_without_units_is_refused() -> None:
    with pytest.raises(InputError, match="no units and no layers"):
        draw_blueprint(build_network("linear", (5,), 3, seed=0), (5,))


def test_units_that_are_added_stand_or_fall_together() -> None:
    blueprint = draw_blueprint(build_network("resnet9:4", (28, 28, 1), 10, seed=0), (28, 28, 1))
    trunk = next(space for space in blueprint.spaces if space.name == "layer1.conv")
    written = {m.tensor for m in trunk.members if m.dim == 0 and m.tensor.endswith("conv.weight")}
    assert written == {"layer1.conv.weight", "residual1.1.conv.weight"}
    assert {m.tensor for m in trunk.readers} == {"residual1.0.conv.weight", "layer2.conv.weight"}
    assert [branch.block for branch in blueprint.branches] == ["residual1", "residual3"]


class Odd(Network):
    """A network with operations that units cannot be followed through."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.mixed = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3), nn.Conv2d(8, 5, 1)
        self.head = nn.Linear(5, 2)

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.first(inputs), self.second(inputs)], dim=1)
        return self.mixed(both).mean(dim=(2, 3))


def test_units_that_go_through_unknown_operations_are_left_alone() -> None:
    blueprint = draw_blueprint(Odd(), (8, 8, 1))
    assert [space.name for space in blueprint.spaces] == ["mixed"]
    assert CostModel(blueprint, CPU)(torch.ones(5)).tolist()[1] == sum(p.numel() for p in Odd().parameters())


def test_the_last_unit_of_a_layer_stays() -> None:
    shape = Shape(draw_blueprint(build_network("lenet5:4", (28, 28, 1), 10, seed=0), (28, 28, 1)), CPU)
    assert shape.keep(torch.zeros(shape.blueprint.n_gates, dtype=torch.bool)) is not None
    assert [live for live, _ in shape.units().values()] == [1, 1, 1, 1]


def test_momenta_are_cut_with_their_weights() -> None:
    network = build_network("resnet9:4", (28, 28, 1), 10, seed=0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    whole = Shape(draw_blueprint(network, (28, 28, 1)), CPU)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
    network(torch.randn(4, 1, 28, 28)).sum().backward()
    optimizer.step()
    kept = {n: p.detach().clone() for n, p in network.named_parameters()}
    momenta = {n: optimizer.state[p]["momentum_buffer"].clone() for n, p in network.named_parameters()}
    gates = torch.ones(whole.blueprint.n_gates)
    gates[[1, 2]], gates[-1] = 0, 0  # two filters of the stem, and the last block
    found = whole.keep(gates > 0)
    assert found is not None
    found[0](network, optimizer)
    left = np.array([0, 3])
    now = dict(network.named_parameters())
    assert torch.equal(now["stem.conv.weight"], kept["stem.conv.weight"][left])
    assert torch.equal(now["layer1.conv.weight"], kept["layer1.conv.weight"][:, left])
    buffer = optimizer.state[now["layer1.conv.weight"]]["momentum_buffer"]
    assert torch.equal(buffer, momenta["layer1.conv.weight"][:, left])
    assert buffer.stride() == now["layer1.conv.weight"].stride()
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in now.values()}
    assert {id(p) for p in optimizer.state} == {id(p) for p in now.values()}
    network(torch.randn(4, 1, 28, 28)).sum().backward()
    optimizer.step()


class Tokens(Network):
    """A network whose middle is over tokens: (B, T, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3, bias=False), nn.LayerNorm(6)
        self.wide, self.narrow, self.last = nn.Linear(6, 12), nn.Linear(12, 6), nn.Linear(6 * 36, 5)
        self.head = nn.Linear(5, 2)

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        tokens = self.conv(inputs).flatten(2).transpose(1, 2)
        tokens = tokens + self.narrow(torch.relu(self.wide(self.norm(tokens))))
        return torch.relu(self.last(tokens.flatten(1)))


def test_units_of_tokens_are_left_alone_and_cost_what_they_cost() -> None:
    network = Tokens()
    blueprint = draw_blueprint(network, (8, 8, 1))
    assert [space.name for space in blueprint.spaces] == ["last"]
    cost = network_cost(network, (8, 8, 1))
    assert CostModel(blueprint, CPU)(torch.ones(5)).tolist() == [cost.flops, cost.parameters]
