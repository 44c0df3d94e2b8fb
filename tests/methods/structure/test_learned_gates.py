"""Gates on a toy whose answer is known: what is worth more than its price stays, the rest goes, nothing is left undecided."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from prune_cli.methods.structure.blueprint import draw_blueprint
from prune_cli.methods.structure.cutting import Shape
from prune_cli.methods.structure.learned_gates import LearnedGates
from prune_cli.methods.structure.params import ComplexityAwareParams
from prune_cli.methods.training.networks.network import Network
from prune_cli.methods.training.networks.pictures import ConvBlock, Residual

CPU = torch.device("cpu")
UNITS = 8


class Toy(Network):
    """Hidden units that pass their inputs on, to a head that passes them on: its outputs are the gates."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(UNITS, UNITS, bias=False), nn.Linear(UNITS, UNITS, bias=False)
        with torch.no_grad():
            self.hidden.weight.copy_(torch.eye(UNITS))
            self.head.weight.copy_(torch.eye(UNITS))

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.hidden(inputs)


def train(worth: torch.Tensor, power: int, **params: Any) -> tuple[LearnedGates, list[int], list[float]]:
    """Learn the gates of the toy for the loss ``sum worth (1 - gate)^power``.

    Returns:
        The gates, the units that are left, and what was left of the probabilities before they were decided.
    """
    network = Toy()
    structure = LearnedGates([Shape(draw_blueprint(network, (UNITS,)), CPU)], ComplexityAwareParams(**params), 400, 0, CPU)
    for step in range(400):
        structure.begin_step(0, step)

        def loss() -> torch.Tensor:
            with structure.gated(0, network, learning=True):
                out = network(torch.ones(1, UNITS))[0]
            return (worth * (1 - out) ** power).sum()

        if structure.asks_losses:
            with torch.no_grad():
                structure.probe(0, lambda: float(loss()))
        loss().backward()
        before = [t.clone() for t in structure.theta]
        change = structure.update(0, step, network)
        if change is not None:
            change(network, None)
        network.zero_grad()
        if structure.decided[0]:
            break
    return structure, network.head.weight.argmax(0).tolist(), before[0].tolist()


# of 16 inputs and outputs of each of 8 units, FLOPs and parameters alike: one unit costs 1/8 of the whole
PRICE = 0.4 / UNITS
WORTH = torch.tensor([0.0, 0.3, 0.5, 0.7, 1.3, 1.5, 2.0, 10.0]) * PRICE


@pytest.mark.parametrize("estimate", ["both_ends", "exact", "first_order"])
@pytest.mark.parametrize("power", [1, 2])
def test_a_unit_stays_where_its_worth_exceeds_its_price(estimate: Any, power: int) -> None:
    structure, left, before = train(WORTH, power, strength=0.4, estimate=estimate)
    assert left == [4, 5, 6, 7]
    assert structure.facts()["units"] == [4] and structure.decided == [True]
    # every probability is 0 or 1 before it is decided; by the slope where the gate is, not where the loss is curved
    decided = [theta < 0.05 or theta > 0.95 for theta in before]
    assert all(decided) == (estimate != "first_order" or power == 1)


def test_exact_means_a_cubic_too() -> None:
    assert train(WORTH, 3, strength=0.4, estimate="exact")[1] == [4, 5, 6, 7]


@pytest.mark.parametrize(("price", "stay"), [({"unit_weight": 0.0}, UNITS), ({"strength": 100.0}, 1), ({"strength": 1e-6}, UNITS)])
def test_no_price_no_cut_and_any_price_leaves_one(price: dict[str, float], stay: int) -> None:
    _, left, _ = train(WORTH.clamp_min(1e-3), 1, estimate="exact", **price)
    assert len(left) == stay


@pytest.mark.parametrize("target", [0.25, 0.5, 0.75])
def test_strength_is_steered_to_a_share_of_the_flops(target: float) -> None:
    worth = torch.linspace(0.1, 1.0, UNITS)
    structure, left, _ = train(worth, 1, strength=0.3, target_flops=target)
    assert left == list(range(UNITS - round(UNITS * target), UNITS))
    assert structure.described()["flops"] == target * structure.described()["structure"]["whole"]["flops"]


def test_what_has_no_price_stays_whatever_the_target() -> None:
    structure, left, _ = train(torch.linspace(0.1, 1.0, UNITS), 1, strength=0.3, target_flops=0.25, unit_weight=0.0)
    assert left == list(range(UNITS)) and structure.facts()["units"] == [UNITS]


class ToyWithLayer(Network):
    """A branch added to what it is given: of the input 1 its output is 1 and its gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.residual, self.head = ConvBlock(1, 2), Residual(ConvBlock(2, 2)), nn.Linear(2, 2)
        with torch.no_grad():
            for block in (self.stem, self.residual[0]):
                block.conv.weight.zero_()
                block.conv.weight[:, :, 1, 1] = torch.eye(2) if block is not self.stem else 1.0

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.residual(self.stem(inputs)).mean((2, 3))


@pytest.mark.parametrize(("worth", "stays"), [(0.5, True), (0.01, False)])
def test_a_layer_stays_for_its_worth_where_no_slope_tells(worth: float, stays: bool) -> None:
    # the loss falls from worth to 0 as the gate goes from 0 to 1, level at both ends
    network = ToyWithLayer().eval()
    params = ComplexityAwareParams(strength=0.3, unit_weight=0.0, explore=0.0)
    structure = LearnedGates([Shape(draw_blueprint(network, (4, 4, 1)), CPU)], params, 400, 0, CPU)
    for step in range(400):
        structure.begin_step(0, step)

        def loss() -> torch.Tensor:
            with structure.gated(0, network, learning=True):
                gate = network.features(torch.ones(1, 1, 4, 4))[0, 0] - 1
            return worth * (1 - 3 * gate**2 + 2 * gate**3)

        with torch.no_grad():
            structure.probe(0, lambda: float(loss()))
        loss().backward()
        change = structure.update(0, step, network)
        if change is not None:
            change(network, None)
    assert (len(list(network.residual.children())) == 1) is stays
    assert structure.facts()["layers"] == [int(stays)]


def test_where_all_are_certain_those_stay_that_are_worth_most_for_their_price() -> None:
    # at next to no price all stay until half of the FLOPs have to go: what is remembered of their worth decides
    worth = torch.linspace(0.1, 1.0, UNITS)
    _, left, before = train(worth, 1, strength=1e-6, target_flops=0.5, patience=1.0)
    assert min(before) == 1.0 and left == [4, 5, 6, 7]
