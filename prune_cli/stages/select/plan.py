"""What ``prune select --plan`` says: memory, passes, blocks of work and how long they take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prune_cli.core.runtime import Runtime
from prune_cli.engines.block import BlockWork
from prune_cli.methods.selection.capabilities import Explained, HoldsMemory, ProblemSize
from prune_cli.methods.selection.choosing import block_work
from prune_cli.stages.frame.machine_plan import machine_figures
from prune_cli.stages.select.budgets import Budget
from prune_cli.stages.select.inputs import Inputs
from prune_cli.stages.select.memory import LIBRARY_BYTES
from prune_cli.stages.select.request import Request


def plan_of(request: Request, inputs: Inputs, budgets: Sequence[Budget]) -> dict[str, Any]:
    """Return the figures of ``--plan``; of blocks those of one budget inside each class as if there were no classes."""
    rows, memory, passes = inputs.memory.rows, inputs.memory.peak, 1
    more: dict[str, Any] = {}
    if inputs.features is not None:
        vectors, params = inputs.vectors, request.params
        division, streamed = vectors.division, vectors.streamed
        memory += LIBRARY_BYTES + (0 if streamed else 2 * inputs.features.nbytes)
        if streamed:
            passes = 4 if division is None else 3 * division.count
        if division is not None:
            more["partitions"] = division.words(rows)
        n_classes = len(inputs.scores.labels.classes) if inputs.scores.labels is not None else 1
        counts = [budget.count for budget in budgets]
        problem = ProblemSize(rows, inputs.features.width, max(1, n_classes), counts, vectors.held, vectors.left)
        if isinstance(params, HoldsMemory):
            memory += params.extra_bytes(problem)
        if isinstance(params, Explained):
            more |= params.plan(problem)
        work = block_work(params, problem)
        more |= _blocks(work, vectors.engine_bytes, request.options.runtime) if work is not None else {}
    return {
        "rows": rows,
        "passes_over_data": passes,
        "algorithm": f"{request.method.name}: {request.method.cost}",
        "ids": inputs.memory.sorting(),
        **more,
        "peak_memory_bytes": memory,
        "disk_bytes": 48 * rows * len(budgets),
    }


def _blocks(work: BlockWork, held: int, runtime: Runtime) -> dict[str, Any]:
    """Return what there is to say of blocks of work."""
    figures = machine_figures(work.count, work.nbytes, held, work.flops, "float32", runtime, None)
    del figures["peak_memory_bytes"]
    return {"blocks": work.count, "flops": work.flops, "block_bytes": work.nbytes, **figures}
