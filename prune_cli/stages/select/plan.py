"""What ``prune select --plan`` says: memory, passes, blocks of work and how long they take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prune_cli.core.runtime import Runtime
from prune_cli.engines.block import BlockWork
from prune_cli.io.manifests.features import FeatureFile
from prune_cli.io.manifests.joined import Joined
from prune_cli.methods.registry.method import Method
from prune_cli.methods.selection.confidence.neighbor_confidence import neighbor_plan
from prune_cli.methods.selection.greedy.partitions import plan_words
from prune_cli.stages.frame.machine_plan import machine_figures
from prune_cli.stages.frame.memory import RowMemory
from prune_cli.stages.select.budgets import Budget
from prune_cli.stages.select.vectors import (
    LIBRARY_BYTES,
    engine_bytes,
    held_bytes,
    memory_left,
    partitions_of,
    streams,
)

if TYPE_CHECKING:
    from prune_cli.stages.select.command import SelectOptions

ROW_BYTES, OTHER_FILE_ROW_BYTES, CLASS_ROW_BYTES, FEATURE_ROW_BYTES = 36, 20, 90, 200
"""Memory of a row: of a choice by one score, and what another file, ``--per-class`` and a method with features add; upper bounds."""


def row_memory(options: SelectOptions, method: Method, rows: int) -> RowMemory:
    """Return what the rows take beside their vectors."""
    row_bytes = ROW_BYTES + OTHER_FILE_ROW_BYTES * (len(options.scores) - 1)
    if "features" in method.uses:
        row_bytes += FEATURE_ROW_BYTES
    if options.per_class:
        row_bytes += CLASS_ROW_BYTES
    return RowMemory(rows, row_bytes, options.runtime.memory_budget())


def plan_of(
    options: SelectOptions,
    of_rows: RowMemory,
    method: Method,
    params: Any,
    features: FeatureFile | None,
    scores: Joined,
    budgets: Sequence[Budget],
) -> dict[str, Any]:
    """Return the figures of ``--plan``; of blocks those of one budget inside each class as if there were no classes."""
    rows, memory, passes = of_rows.rows, of_rows.peak, 1
    more: dict[str, Any] = {}
    if features is not None:
        streamed, partitions = streams(options, method, params, features), partitions_of(params)
        memory += LIBRARY_BYTES + (0 if streamed else 2 * features.nbytes)
        passes = 1
        if streamed:
            passes = 4 if partitions == 1 else 3 * partitions
        if partitions > 1:
            more["partitions"] = plan_words(partitions, params.overlap, params.oversample, rows)
        if hasattr(params, "extra_bytes"):
            memory += params.extra_bytes(rows, features.width, len(budgets))
        if method.asks_memory:
            allowed = memory_left(options, method, params, features)
            memory += held_bytes(options, method, params, features) + allowed
            more |= {"neighbors": neighbor_plan(params, rows), "edges_at_most_bytes": allowed}
        if method.in_blocks:
            n_classes = len(scores.labels.classes) if scores.labels is not None else 1
            work = params.block_work(rows, features.width, max(1, n_classes), [budget.count for budget in budgets])
            held = engine_bytes(options, method, params, features)
            more |= _blocks(work, held, options.runtime) if work is not None else {}
    return {
        "rows": rows,
        "passes_over_data": passes,
        "algorithm": f"{method.name}: {method.cost}",
        "ids": of_rows.sorting(),
        **more,
        "peak_memory_bytes": memory,
        "disk_bytes": 48 * rows * len(budgets),
    }


def _blocks(work: BlockWork, held: int, runtime: Runtime) -> dict[str, Any]:
    """Return what there is to say of blocks of work."""
    figures = machine_figures(work.count, work.nbytes, held, work.flops, "float32", runtime, None)
    del figures["peak_memory_bytes"]
    return {"blocks": work.count, "flops": work.flops, "block_bytes": work.nbytes, **figures}
