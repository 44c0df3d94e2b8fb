"""Gates on units and layers, whose probabilities are learned with the weights.

A gate is a factor 0 or 1, multiplied into the weights that read a unit, or end a branch.
This module imports torch, so it is imported inside functions only.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from prune_cli.core.rng import generator
from prune_cli.methods.structure.blueprint import Blueprint
from prune_cli.methods.structure.cutting import Shape, ShrinkingStructure
from prune_cli.methods.structure.params import ComplexityAwareParams
from prune_cli.methods.training.loop.contract import Change
from prune_cli.methods.training.networks.network import Network


class Gates:
    """Where the gates of a network act.

    Gates are one vector: those of the units of each space in turn, then those of the branches.
    """

    def __init__(self, blueprint: Blueprint) -> None:
        n_units, bounds = blueprint.n_gates - len(blueprint.branches), blueprint.bounds()
        # Tensor -> the gates of its second dimension and how often each repeats; tensor -> the gate of its branch.
        self._units = {m.tensor: (where, m.repeat) for space, where in zip(blueprint.spaces, bounds, strict=True) for m in space.readers}
        self._branches = {tensor: n_units + k for k, branch in enumerate(blueprint.branches) for tensor in branch.scaled}

    @contextlib.contextmanager
    def applied(self, network: Network, gates_g: Tensor) -> Iterator[None]:
        """Within the block the network computes with these gates; what is differentiated reaches weights and gates.

        Args:
            gates_g: (G,) float32 on its device.
        """
        with contextlib.ExitStack() as stack:
            for name in dict.fromkeys([*self._units, *self._branches]):
                path, _, attribute = name.rpartition(".")
                module = network.get_submodule(path)
                product = self._product(name, getattr(module, attribute), gates_g)
                stack.callback(module.__dict__.pop, attribute, None)
                module.__dict__[attribute] = product  # found before the parameter of that name, which stays
            yield

    def _product(self, name: str, weight: Tensor, gates_g: Tensor) -> Tensor:
        if name in self._units:
            where, repeat = self._units[name]
            factor = gates_g[where] if repeat == 1 else gates_g[where].repeat_interleave(repeat)
            weight = weight * factor.view(1, -1, *[1] * (weight.dim() - 2))
        return weight * gates_g[self._branches[name]] if name in self._branches else weight


GONE = 0.01
"""A structure is cut out when its probability is this low."""

_FASTEST = 3.0  # gates move this many times as fast at most as one of no use
_MEMORY = 0.95  # of the slopes with a gate as it mostly is
_RARE_MEMORY = 0.7  # of the slopes with a gate as it seldom is
_MEASURED_MEMORY = 0.9  # of what the loss gained by a layer
_MEASURES = 16  # of a layer, at least, in the time in which one of no use goes
_CERTAIN = 0.95  # probabilities above it say no more than that a gate stays
_SELDOM = 8  # steps between two measures, at most
_CUTS = 100  # occasions to cut, in the whole training


class LearnedGates(ShrinkingStructure):
    """Keep probabilities of all gates, of each network; see `prune_cli.methods.structure.shrinking.complexity_aware`."""

    def __init__(self, shapes: Sequence[Shape], params: ComplexityAwareParams, n_steps: int, seed: int, device: torch.device) -> None:
        super().__init__(shapes)
        self._params, self._seed, self._device = params, seed, device
        self._prices_layers = params.layer_weight > 0 and bool(shapes[0].blueprint.branches)
        self.asks_losses = params.estimate == "exact" or (params.estimate == "both_ends" and self._prices_layers)
        self._first, self._last = round(params.start * n_steps), max(1, round(params.end * n_steps))
        self._patience = max(2.0, params.patience * (self._last - self._first))
        self._cut_every = max(1, n_steps // _CUTS)
        n_gates = shapes[0].blueprint.n_gates
        self.theta = [torch.ones(n_gates, device=device) for _ in shapes]
        self.slopes = [torch.zeros((2, n_gates), device=device) for _ in shapes]  # with the gate off, and on
        self.measured = [torch.full((n_gates,), math.nan, device=device) for _ in shapes]  # of layers: what the loss gains
        self.log_strength = [math.log(max(params.strength, 1e-12)) for _ in shapes]
        self.decided = [False] * len(shapes)
        self._gates = [Gates(shape.blueprint) for shape in shapes]
        self._drawn: list[Tensor | None] = [None] * len(shapes)
        self._probed: list[Tensor | None] = [None] * len(shapes)
        self._step = 0
        self._share_2 = torch.tensor([params.flops_weight, 1 - params.flops_weight], dtype=torch.float64, device=device)
        self._share_2 = self._share_2 / shapes[0].whole_cost_2

    # --- forward and backward

    def gated(self, turn: int, network: Network, *, learning: bool) -> AbstractContextManager[None]:
        gates = self._drawn[turn] if learning else self.theta[turn]
        if self.decided[turn] or gates is None:
            return contextlib.nullcontext()
        return self._gates[turn].applied(network, gates)

    def begin_step(self, turn: int, step: int) -> None:
        self._probed[turn], self._step = None, step
        if self.decided[turn] or step < self._first:
            self._drawn[turn] = None
            return
        theta_g = self.theta[turn]
        draws = generator(self._seed, "gates", step, turn).random(len(theta_g), dtype="float32")
        tried = theta_g.clamp(self._params.explore, 1 - self._params.explore)
        self._drawn[turn] = (torch.from_numpy(draws).to(self._device) < tried).float().requires_grad_()

    def restart(self, turn: int) -> None:
        drawn = self._drawn[turn]
        if drawn is not None:
            drawn.grad = None

    def probe(self, turn: int, loss: Callable[[], float]) -> None:
        drawn = self._drawn[turn]
        if drawn is None:
            return
        gates = self._to_probe(turn)
        found = torch.full_like(drawn, math.nan)
        for gate in gates:
            losses = []
            for value in (1.0, 0.0):
                self._drawn[turn] = drawn.detach().index_fill(0, torch.tensor([gate], device=self._device), value)
                losses.append(loss())
            found[gate] = losses[0] - losses[1]
        self._drawn[turn], self._probed[turn] = drawn, found

    def _to_probe(self, turn: int) -> Sequence[int]:
        """Return the gates whose worth is measured in this step: all of them for tests, else one layer every few steps."""
        shape = self.shapes[turn]
        if self._params.estimate == "exact":
            return range(shape.blueprint.n_gates)
        n_layers = len(shape.blueprint.branches)
        if not n_layers:
            return ()
        every = max(1, min(_SELDOM, round(self._patience / (_MEASURES * n_layers))))
        turn_of, rest = divmod(self._step, every)
        return () if rest else (shape.cost.n_units + turn_of % n_layers,)

    # --- learning

    def update(self, turn: int, step: int, network: Network) -> Change | None:
        drawn = self._drawn[turn]
        if self.decided[turn] or drawn is None or drawn.grad is None:
            return None
        benefit_g = self._benefit(turn, drawn.detach(), drawn.grad)
        self._drawn[turn] = None
        theta_g = self.theta[turn]
        known_g = torch.isfinite(benefit_g)
        priced_g = self._prices(turn)
        strength = math.exp(self.log_strength[turn])
        pace_g = (benefit_g / (strength * priced_g).clamp_min(1e-12) + 1).clamp(-_FASTEST, _FASTEST)
        moved_g = (theta_g - pace_g / self._patience).clamp(0, 1)
        self.theta[turn] = torch.where((priced_g > 0) & known_g, moved_g, theta_g)
        target = self._params.target_flops
        if target is not None and step % 10 == 0:
            self._steer(turn, step, pace_g, target)
        if step + 1 >= self._last:
            return self.finish(turn, network)
        if (step + 1) % self._cut_every:
            return None
        live_g = self.theta[turn] > GONE
        if target is not None and self._flops_share(turn, live_g.float()) < target:
            return None  # more are on their way out than should be: strength falls, and some will come back
        return self._cut(turn, live_g)

    def _benefit(self, turn: int, drawn_g: Tensor, slope_g: Tensor) -> Tensor:
        """Return (G,) what the loss gains when a gate is on: below 0 where it is of use; NaN where that is not known yet."""
        probed = self._probed[turn]
        if self._params.estimate != "both_ends":
            found = slope_g if self._params.estimate == "first_order" or probed is None else probed
            self.slopes[turn] = _MEMORY * self.slopes[turn] + (1 - _MEMORY) * found
            self.measured[turn] = self.slopes[turn].mean(0)
            return found
        theta_g, on_g = self.theta[turn], drawn_g > 0
        off_slope, on_slope = self.slopes[turn]
        keep_on, keep_off = (torch.where(p > 0.5, _MEMORY, _RARE_MEMORY) for p in (theta_g, 1 - theta_g))
        self.slopes[turn] = torch.stack(
            [
                torch.where(on_g, off_slope, keep_off * off_slope + (1 - keep_off) * slope_g),
                torch.where(on_g, keep_on * on_slope + (1 - keep_on) * slope_g, on_slope),
            ]
        )
        if self._prices_layers and probed is not None:
            before = torch.where(torch.isfinite(self.measured[turn]), self.measured[turn], probed)
            mixed = _MEASURED_MEMORY * before + (1 - _MEASURED_MEMORY) * probed
            self.measured[turn] = torch.where(torch.isfinite(probed), mixed, self.measured[turn])
        return self._known(turn)

    def _known(self, turn: int) -> Tensor:
        """Return (G,) what is remembered of the benefits: slopes of units, measures of layers; NaN where there is none yet."""
        found = self.slopes[turn].mean(0)
        if not self._prices_layers:
            return found
        n_units = self.shapes[turn].cost.n_units
        return torch.cat([found[:n_units], self.measured[turn][n_units:]])

    def _weights(self, turn: int) -> Tensor:
        n_gates = self.shapes[turn].blueprint.n_gates
        weights_g = torch.full((n_gates,), self._params.unit_weight, dtype=torch.float32, device=self._device)
        weights_g[self.shapes[turn].cost.n_units :] = self._params.layer_weight
        return weights_g

    def _prices(self, turn: int) -> Tensor:
        return (self._weights(turn) * self.shapes[turn].cost.price(self.theta[turn], self._share_2)).float()

    def _flops_share(self, turn: int, theta_g: Tensor) -> float:
        return float((self.shapes[turn].cost(theta_g) / self.shapes[turn].whole_cost_2)[0])

    def _steer(self, turn: int, step: int, pace_g: Tensor, target: float) -> None:
        """Raise the strength while more FLOPs are under way than planned, and lower it while fewer are.

        What counts is where the gates will be at their pace in half of the time in which one of no use goes, against the plan for then:
        gates that are on their way out need no higher price.
        """
        ahead = 0.5 * self._patience
        passed = min(1.0, (step + ahead - self._first) / max(1.0, 0.8 * (self._last - self._first)))
        planned = 1 - passed * (1 - target)
        priced = self._weights(turn) > 0
        moved_g = (self.theta[turn] - torch.where(priced, pace_g, 0.0).nan_to_num() * ahead / self._patience).clamp(0, 1)
        off = self._flops_share(turn, moved_g) - planned
        self.log_strength[turn] += 10 * 5 / self._patience * max(-0.4, min(0.4, off))

    def finish(self, turn: int, network: Network) -> Change | None:
        if self.decided[turn]:
            return None
        target = self._params.target_flops
        live_g = self.theta[turn] > 0.5 if target is None else self._likeliest(turn, target)
        change = self._cut(turn, live_g)
        self.theta[turn] = torch.ones_like(self.theta[turn])
        self.decided[turn] = True
        return change

    def _likeliest(self, turn: int, target: float) -> Tensor:
        """Return (G,) bool: what has no price, and as many of the likeliest gates as the target share of the FLOPs allows.

        Of gates that are all but certain those stay that are worth most for their price.
        """
        stays_g = self._weights(turn) == 0
        worth_g = torch.where(stays_g, math.inf, self._worth(turn))
        certain_g = self.theta[turn] > _CERTAIN
        by_worth = worth_g.argsort(descending=True, stable=True)
        likely_g = torch.where(certain_g, 1.0, self.theta[turn])[by_worth] + stays_g[by_worth].float()
        order = by_worth[likely_g.argsort(descending=True, stable=True)]
        low, high = int(stays_g.sum()), len(order)
        while low < high:
            middle = (low + high + 1) // 2
            live_g = torch.zeros_like(self.theta[turn]).index_fill(0, order[:middle], 1.0)
            low, high = (middle, high) if self._flops_share(turn, live_g) <= target else (low, middle - 1)
        return torch.zeros_like(self.theta[turn]).index_fill(0, order[:low], 1.0) > 0

    def _worth(self, turn: int) -> Tensor:
        """Return (G,) what the loss loses without each gate, for its price; infinite where that is not known."""
        benefit_g = self._known(turn)
        return torch.where(torch.isfinite(benefit_g), -benefit_g, math.inf) / self._prices(turn).clamp_min(1e-12)

    def _cut(self, turn: int, live_g: Tensor) -> Change | None:
        live_g = live_g.clone()
        for where in self.shapes[turn].blueprint.bounds():
            if not live_g[where].any():  # never to no unit at all
                best = where.start + int(self.theta[turn][where].argmax())
                live_g[best] = True
                self.theta[turn] = self.theta[turn].index_fill(0, torch.tensor([best], device=self._device), 1.0)
        found = self.shapes[turn].keep(live_g)
        if found is None:
            return None
        change, places = found
        self.theta[turn], self.slopes[turn] = self.theta[turn][places], self.slopes[turn][:, places]
        self.measured[turn] = self.measured[turn][places]
        self._gates[turn] = Gates(self.shapes[turn].blueprint)
        return change

    # --- told and kept

    def facts(self) -> Mapping[str, Any]:
        theta_g = self.theta[0].cpu()
        histogram = torch.histc(theta_g, bins=10, min=0.0, max=1.0).long().tolist()
        histogram[0] += self.shapes[0].whole.n_gates - len(theta_g)  # those that are cut out already
        expected = self.shapes[0].cost(self.theta[0])[0]
        return {**super().facts(), "expected_flops": float(expected), "theta": histogram, "strength": math.exp(self.log_strength[0])}

    def arrays(self) -> Mapping[str, Tensor]:
        kept = {"theta": self.theta, "slopes": self.slopes, "measured": self.measured}
        return {f"{name}{k}": tensor for name, tensors in kept.items() for k, tensor in enumerate(tensors)}

    def state(self) -> Any:
        return {**super().state(), "log_strength": list(self.log_strength), "decided": list(self.decided)}

    def restore(
        self, turn: int, network: Network, arrays: Mapping[str, Tensor], state: Any, tensor_shapes: Mapping[str, Sequence[int]]
    ) -> Change | None:
        change: Change = self.shapes[turn].restore(state["removed"][turn], tensor_shapes)
        for name, tensors in (("theta", self.theta), ("slopes", self.slopes), ("measured", self.measured)):
            tensors[turn] = arrays[f"{name}{turn}"].to(self._device)
        self.log_strength[turn], self.decided[turn] = float(state["log_strength"][turn]), bool(state["decided"][turn])
        self._gates[turn] = Gates(self.shapes[turn].blueprint)
        return change
