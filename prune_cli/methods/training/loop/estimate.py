"""What a training run will cost, before anything runs."""

from __future__ import annotations

from typing import Any

from prune_cli.core.runtime import Runtime
from prune_cli.methods.training.loop.timetable import BATCH_SIZE, Budget, plan_steps

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
        architecture: ``NAME[:WIDTH]``.
        input_shape: (H, W, C) or (D,).
        n_classes: C.
        budget: passes or steps.
        n_selected: samples trained on.
        runtime: batch size.
    Returns:
        ``rows``, ``passes_over_data``, ``steps``, ``parameters``, ``flops`` (three forward passes a presentation) and
        ``peak_memory_bytes``: weights, gradients, momentum, and the activations of a batch kept twice.
    """
    import torch

    from prune_cli.methods.training.networks.building import build_network
    from prune_cli.methods.training.networks.network import network_cost

    batch_size = runtime.batch_size or BATCH_SIZE
    network = build_network(architecture, input_shape, n_classes, seed=0)
    cost = network_cost(network, input_shape)
    plan = plan_steps(budget, n_selected, batch_size)
    kept = 0

    def count(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        nonlocal kept
        if isinstance(output, torch.Tensor):
            kept += output.numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if not list(m.children())]
    network_cost(network, input_shape)
    for hook in hooks:
        hook.remove()
    return {
        "rows": n_selected,
        "passes_over_data": round(plan.n_samples / n_selected, 2),
        "steps": plan.n_steps,
        "parameters": cost.parameters,
        "flops": 3 * cost.flops * plan.n_samples,
        "peak_memory_bytes": PROCESS_BYTES + 4 * (3 * cost.parameters + 2 * kept * batch_size),
        "disk_bytes": 4 * cost.parameters + 10_000,
    }
