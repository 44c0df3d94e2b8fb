"""The kernel part of ``prune score``: the complexity gap, block by block."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError, InterruptedRun
from prune_cli.core.progress import Progress
from prune_cli.core.runtime import Runtime, format_size
from prune_cli.engines.local import map_blocks
from prune_cli.io.blocks import BlockFolder
from prune_cli.io.columns import canonical_order
from prune_cli.io.manifest import Dataset
from prune_cli.io.provenance import Provenance
from prune_cli.methods.scores import complexity_gap

PROCESS_BYTES = 900 * 2**20
"""Resident size of Python with torch, pyarrow and Pillow loaded and a few buffers, measured; stated by ``--plan``."""


def kernel_scores(
    values: np.ndarray,
    channels: int | None,
    codes_n: np.ndarray,
    ids: pa.Array,
    params: complexity_gap.ComplexityGapParams,
    runtime: Runtime,
    folder: Path | None,
    provenance: Provenance,
    progress: Progress,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the columns of ``cg`` and facts for the summary (with ``warnings``); finished blocks are kept in the folder."""
    rows = complexity_gap.make_rows(values, channels, params.center)
    order_n = canonical_order(ids)
    blocks = complexity_gap.plan_blocks(codes_n, params)
    settings: dict[str, Any] = {"seed": runtime.seed, "device": runtime.device, "precision": runtime.precision}
    finished = 0

    def within(task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
        progress("scoring", finished, len(blocks), {"% of the block": 100 * done / max(total, 1)})

    def compute(block: complexity_gap.Block) -> Mapping[str, np.ndarray]:
        nonlocal finished
        result = complexity_gap.score_block(rows, codes_n, order_n, block, params, **settings, progress=within)
        finished += 1
        progress("scoring", finished, len(blocks), {"class": block.class_code})
        return _to_arrays(result)

    store = BlockFolder(folder, {**provenance.to_dict(), "rows": len(codes_n)}) if folder is not None else None
    progress("scoring", 0, len(blocks))
    try:
        found = map_blocks(blocks, lambda b: f"{b.class_code}/{b.repeat}", compute, store)
    except KeyboardInterrupt:
        kept = (
            f"; finished blocks are kept in {folder}, the same command goes on from there"
            if store is not None and finished
            else ""
        )
        raise InterruptedRun(f"interrupted after {finished} of {len(blocks)} blocks{kept}") from None
    results = [_from_arrays(arrays) for arrays in found]
    columns = complexity_gap.combine_blocks(results, len(codes_n), params)
    facts: dict[str, Any] = {
        "blocks": len(blocks),
        "smallest_pivot": min(r.smallest_pivot for r in results),
        "jitter": max(r.jitter for r in results),
        "duplicates": sum(r.duplicates for r in results),
        "warnings": [],
    }
    if facts["jitter"] > 0:
        facts["warnings"].append(
            f"{facts['duplicates']} exact duplicate row(s) make the kernel singular; {facts['jitter']:.2g} was added to its diagonal "
            "there (state your own with -p ridge=1e-6)"
        )
    if runtime.precision == "float32":
        error = complexity_gap.float32_error(
            rows, codes_n, order_n, blocks[0], params, seed=runtime.seed, device=runtime.device
        )
        facts["float32_relative_error"] = error
        facts["warnings"].append(
            f"float32: largest relative error {error:.1e}, measured against float64 on one block of at most 2,000 rows"
        )
    return columns, facts


def _to_arrays(result: complexity_gap.BlockResult) -> dict[str, np.ndarray]:
    return {f.name: np.asarray(getattr(result, f.name)) for f in dataclasses.fields(result)}


def _from_arrays(arrays: Mapping[str, np.ndarray]) -> complexity_gap.BlockResult:
    return complexity_gap.BlockResult(**{k: v if v.ndim else v.item() for k, v in arrays.items()})  # type: ignore[arg-type]


def kernel_precision(runtime: Runtime) -> str:
    """Return the dtype that the kernel is factored in."""
    return "float64" if runtime.precision == "auto" else runtime.precision


def kernel_estimate(dataset: Dataset, params: complexity_gap.ComplexityGapParams, runtime: Runtime) -> dict[str, Any]:
    """Return the figures of ``--plan``."""
    width = dataset.input_width()
    stored = 1 if dataset.kind == "image" else 4
    codes_n = dataset.labels.codes_n
    dtype = kernel_precision(runtime)
    sizes = {
        b.class_code: complexity_gap.block_size(codes_n, b, params) for b in complexity_gap.plan_blocks(codes_n, params)
    }
    largest = max(sizes.values(), key=sum)
    block_bytes = max(complexity_gap.block_memory(p, n, width, dtype) for p, n in sizes.values())
    input_bytes = len(dataset) * width * stored
    flops = params.repeats * sum((p + n) ** 3 / 3 + p**3 / 3 + (p + n) ** 2 * width for p, n in sizes.values())
    return {
        "rows": len(dataset),
        "numbers_per_row": width,
        "classes": len(sizes),
        "passes_over_data": 1,
        "algorithm": f"closed form, one blocked in-place Cholesky per class and repeat, {dtype}",
        "blocks": len(sizes) * params.repeats,
        "largest_block_rows": sum(largest),
        "flops": flops,
        "input_bytes": input_bytes,
        "block_bytes": block_bytes,
        "peak_memory_bytes": PROCESS_BYTES + input_bytes + block_bytes,
        "disk_bytes": len(dataset) * (32 + 8 * (4 if params.terms else 1)),
    }


def require_kernel_memory(estimate: Mapping[str, Any], runtime: Runtime) -> None:
    """Raise where the largest block does not fit into the memory that may be used."""
    budget = runtime.memory_budget()
    if estimate["peak_memory_bytes"] > budget:
        raise InputError(
            f"the largest class block has {estimate['largest_block_rows']:,} rows; the run would need "
            f"{format_size(estimate['peak_memory_bytes'])} of memory and may use {format_size(budget)}",
            "use --precision float32 (half of it), a smaller -p ratio, fewer rows, or a larger --memory-limit",
        )
