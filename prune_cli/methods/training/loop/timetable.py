"""Which samples when, at which learning rate, and at what cost: all of a run that follows from its budget and its seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError
from prune_cli.core.rng import generator
from prune_cli.core.runtime import Runtime
from prune_cli.methods.training.data.inputs import IntArray, TrainingSet

BATCH_SIZE = 128
"""Samples a step where ``--batch-size`` says nothing."""


@dataclass(frozen=True)
class Budget:
    """How long to train: passes over the selection, or optimiser steps; exactly one of them.

    Raises:
        InputError: both, neither, or less than 1.
    """

    epochs: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise InputError("a training budget is epochs or steps, one of them", "give --epochs N or --steps N")
        if (self.epochs or self.steps or 0) < 1:
            raise InputError(f"a training budget of {self.epochs or self.steps or 0}", "give 1 or more")


@dataclass(frozen=True)
class StepPlan:
    """How the stream of samples is cut into steps.

    With ``steps`` every step has exactly the batch size. With ``epochs`` the stream is as long as that many passes and
    is cut into ``ceil(samples / batch size)`` steps whose sizes differ by one at most, never a small rest.

    Args:
        n_steps: optimiser steps, S.
        n_samples: presentations in all, T.
        n_selected: samples in a pass.
    """

    n_steps: int
    n_samples: int
    n_selected: int

    def bounds(self, step: int) -> tuple[int, int]:
        """Return where step ``s`` (from 0) begins and ends in the stream: ``T s // S`` and ``T (s + 1) // S``."""
        return self.n_samples * step // self.n_steps, self.n_samples * (step + 1) // self.n_steps

    def step_of(self, epoch: int) -> int:
        """Return how many steps it takes until every sample was presented ``epoch`` times, at most all there are."""
        return min(self.n_steps, -(-epoch * self.n_selected * self.n_steps // self.n_samples))


def plan_steps(budget: Budget, n_selected: int, batch_size: int) -> StepPlan:
    """Return the plan of a budget.

    Raises:
        InputError: a batch of fewer than 2, which batch-norm cannot take.
    Example:
        >>> plan = plan_steps(Budget(epochs=2), n_selected=5, batch_size=4)
        >>> [plan.bounds(step) for step in range(plan.n_steps)]
        [(0, 3), (3, 6), (6, 10)]
    """
    if batch_size < 2:
        raise InputError(f"a batch of {batch_size}", "give --batch-size 2 or more")
    if budget.steps is not None:
        return StepPlan(budget.steps, budget.steps * batch_size, n_selected)
    n_samples = (budget.epochs or 0) * n_selected
    return StepPlan(min(-(-n_samples // batch_size), n_samples // 2), n_samples, n_selected)


@dataclass(frozen=True)
class Batch:
    """The samples of one step.

    Args:
        positions: (B,) int64 positions in the training set.
        passes: (B,) int64 the pass each belongs to, rising.
        draws: (B, K) float32 in [0, 1), for the augmentation.
    """

    positions: IntArray
    passes: IntArray
    draws: NDArray[np.float32]


class SampleStream:
    """The samples in the order of training: pass after pass over the selection, each in a fresh random order.

    The order and the draws of a pass are made for the whole data set by rank, and what is not selected is then left
    out. So two selections see the samples they share in the same order and with the same augmentation, and their
    differences are paired.
    """

    def __init__(self, data: TrainingSet, seed: int, n_draws: int) -> None:
        self._seed, self._n_draws, self._n_selected = seed, n_draws, len(data)
        self._position_of_rank = np.full(data.n_ranks, -1, dtype=np.int64)
        self._position_of_rank[data.ranks_m] = np.arange(len(data))
        self._pass = -1

    def batch(self, start: int, stop: int) -> Batch:
        """Return the samples ``start`` to ``stop`` of the stream; fast when called in rising order."""
        n = self._n_selected
        positions, passes, draws = [], [], []
        while start < stop:
            number, first = divmod(start, n)
            last = min(n, first + stop - start)
            self._enter(number)
            positions.append(self._positions[first:last])
            draws.append(self._draws[first:last])
            passes.append(np.full(last - first, number, dtype=np.int64))
            start += last - first
        return Batch(np.concatenate(positions), np.concatenate(passes), np.concatenate(draws))

    def _enter(self, number: int) -> None:
        if number == self._pass:
            return
        n = len(self._position_of_rank)
        ranks = generator(self._seed, "order", number).permutation(n)
        ranks = ranks[self._position_of_rank[ranks] >= 0]
        self._positions = self._position_of_rank[ranks]
        self._draws = generator(self._seed, "augment", number).random((n, self._n_draws), dtype=np.float32)[ranks]
        self._pass = number


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a function of the step alone: a linear warm-up, then a cosine or a constant.

    Args:
        n_steps: S.
        n_warmup: steps until the peak; step s < n_warmup has ``peak (s + 1) / (n_warmup + 1)``.
        final_fraction: the cosine ends just above this share of the peak.
        cosine: false for a constant rate after the warm-up.
    """

    peak: float
    n_steps: int
    n_warmup: int
    final_fraction: float
    cosine: bool

    def rate(self, step: int) -> float:
        """Return the learning rate of step ``step``, from 0.

        Example:
            >>> [round(Schedule(1.0, 6, 2, 0.0, True).rate(step), 3) for step in range(6)]
            [0.333, 0.667, 1.0, 0.854, 0.5, 0.146]
        """
        if step < self.n_warmup:
            return self.peak * (step + 1) / (self.n_warmup + 1)
        if not self.cosine:
            return self.peak
        done = (step - self.n_warmup) / (self.n_steps - self.n_warmup)
        return self.peak * (self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * done)) / 2)


PROCESS_BYTES = 1200 * 2**20
"""Resident size of Python with torch and torchvision loaded and their thread pools at work, measured."""


def planned_steps(epochs: int, n_selected: int, runtime: Runtime) -> int:
    """Return the optimiser steps of some passes over a selection.

    >>> planned_steps(2, 1000, Runtime(batch_size=100))
    20
    """
    return plan_steps(Budget(epochs=epochs), n_selected, runtime.batch_size or BATCH_SIZE).n_steps


def training_cost(
    architecture: str, input_shape: tuple[int, ...], n_classes: int, budget: Budget, n_selected: int, runtime: Runtime
) -> dict[str, Any]:
    """Return the figures of ``--plan`` for a training run: steps, flops, memory without the inputs.

    Args:
        input_shape: (H, W, C) or (D,).
    Returns:
        ``rows``, ``passes_over_data``, ``steps``, ``parameters``, ``flops`` (three forward passes a presentation) and
        ``peak_memory_bytes``: weights, gradients, momentum, and the activations of a batch kept twice.
    """
    import torch

    from prune_cli.methods.training.networks.building import build_network
    from prune_cli.methods.training.networks.network import network_cost

    batch_size = runtime.batch_size or BATCH_SIZE
    network = build_network(architecture, input_shape, n_classes, seed=0)
    plan = plan_steps(budget, n_selected, batch_size)
    kept = 0

    def count(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        nonlocal kept
        if isinstance(output, torch.Tensor):
            kept += output.numel()

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    cost = network_cost(network, input_shape)
    return {
        "rows": n_selected,
        "passes_over_data": round(plan.n_samples / n_selected, 2),
        "steps": plan.n_steps,
        "parameters": cost.parameters,
        "flops": 3 * cost.flops * plan.n_samples,
        "peak_memory_bytes": PROCESS_BYTES + 4 * (3 * cost.parameters + 2 * kept * batch_size),
        "disk_bytes": 4 * cost.parameters + 10_000,
    }
