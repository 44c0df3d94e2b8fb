"""What kernel scores will cost, before any of it is computed: for ``--plan``, and to refuse what cannot fit."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.runtime import Runtime, format_size
from prune_cli.engines.pool import Pool
from prune_cli.io.manifests.data import Dataset
from prune_cli.methods.devices import product_rate, resolve_device
from prune_cli.methods.scores.kernel.kernels import parse_kernel
from prune_cli.methods.scores.kernel.ntk_margin import RIDGE_ROWS
from prune_cli.methods.scores.kernel.params import KernelScoreParams, Mode
from prune_cli.methods.scores.kernel.pieces.solving import piece_of
from prune_cli.methods.scores.kernel.solver.problem import item_size
from prune_cli.stages.frame.engine import machine_figures, workers_ahead
from prune_cli.stages.score.reading import is_mapped

PROCESS_BYTES = 900 * 2**20
"""Resident size of Python with torch, pyarrow and Pillow loaded and a few buffers, measured; stated by ``--plan``."""

BLOCK_PROCESS_BYTES = 500 * 2**20
"""Resident size of a process that computes blocks, beside the block: measured upper bound."""

LARGE_PICTURE = 32_768
"""Numbers a sample above which pixels are refused: 104 x 104 in colour. Their inner products say little of what is in a picture."""

_PATIENCE = 3600.0  # seconds that ``exact`` may take to be recommended


def kernel_precision(runtime: Runtime) -> str:
    """Return the dtype that the kernel is factored in."""
    return "float64" if item_size(runtime.precision) == 8 else "float32"


def refuse_large_pictures(dataset: Dataset, force: bool) -> None:
    """Raise where the samples are large pictures, whose pixels a kernel should not be taken of.

    Raises:
        InputError: unless forced.
    """
    if dataset.kind != "image" or force:
        return
    width = dataset.input_width()
    if width > LARGE_PICTURE:
        raise InputError(
            f"the pictures have {width:,} numbers each; kernels of pixels say little of pictures this large",
            "take their embeddings: prune score DATA --method loss --model torchvision:resnet18 --weights FILE --save-features f.parquet; "
            "prune manifest merge DATA f.parquet -o joined.parquet; prune score joined.parquet --input embedding; or --image-size 32; "
            "or --force",
        )


def kernel_estimate(
    dataset: Dataset, methods: Mapping[str, KernelScoreParams], runtime: Runtime, save_kernel: bool, advise: bool, shards: int | None = None
) -> dict[str, Any]:
    """Return the figures of ``--plan``.

    Args:
        methods: name of the score -> its parameters.
        advise: whether to say what other modes would cost, and how long more machines take; half a second to measure this one.
        shards: how many machines are meant, or None.
    """
    width = dataset.input_width()
    stored = 1 if dataset.kind == "image" else 4
    codes_n = dataset.labels.codes_n
    codes_n = codes_n[codes_n >= 0]
    n, dtype = len(codes_n), kernel_precision(runtime)
    of_data = (codes_n, width, int(codes_n.max()) + 1 if n else 0, dtype, stored)
    needs = {name: params.needs(n) for name, params in methods.items()}
    pieces = {name: piece_of(params, needs[name], needs[name].ridge or 0.0) for name, params in methods.items()}
    costs = {(needs[m].mode, methods[m].kernel, needs[m].ridge): piece.cost(*of_data) for m, piece in pieces.items()}
    words = [piece.words(dtype) for piece in pieces.values()]
    input_bytes = len(dataset) * width * stored
    mapped = dataset.kind == "embedding" and is_mapped(input_bytes, runtime)
    held_bytes = 0 if mapped else input_bytes
    flops = sum(c["flops"] for c in costs.values())
    if any(need.ridge is None for need in needs.values()):
        flops += 9.0 * min(n, RIDGE_ROWS) ** 3
    block_bytes = round(max(c["memory"] for c in costs.values()))
    networked = any(parse_kernel(p.kernel).network is not None for p in methods.values())
    matrix = n * n * (8 if dtype == "float64" else 4) if save_kernel or networked else 0
    figures: dict[str, Any] = {
        "rows": len(dataset),
        "numbers_per_row": width,
        "classes": len(np.unique(codes_n)),
        "passes_over_data": 1,
        "algorithm": "; ".join(dict.fromkeys(words)),
        "blocks": round(sum(c["blocks"] for c in costs.values())),
        "largest_block_rows": round(max(c["rows"] for c in costs.values())),
        "flops": flops,
        "input_bytes": input_bytes,
        "block_bytes": block_bytes,
        "peak_memory_bytes": PROCESS_BYTES + held_bytes + block_bytes,
        "disk_bytes": round(len(dataset) * 64 + max(c["disk"] for c in costs.values()) + matrix) + (input_bytes - held_bytes),
    }
    if networked:
        figures["kernel"] = "by neural-tangents, whose time depends on the network: try a few hundred rows first"
    if advise:
        block, held = block_bytes + BLOCK_PROCESS_BYTES, PROCESS_BYTES + held_bytes
        figures |= machine_figures(figures["blocks"], block, held, flops, dtype, runtime, shards)
        figures |= _advice(next(iter(methods.values())), of_data, flops, runtime)
    return figures


def kernel_workers(estimate: Mapping[str, Any], runtime: Runtime, shards: int) -> contextlib.AbstractContextManager[Pool | None]:
    """Return processes that get ready for the blocks of an estimate, in one of so many shards, while the inputs are read."""
    held = estimate["peak_memory_bytes"] - estimate["block_bytes"]
    nbytes = estimate["block_bytes"] + BLOCK_PROCESS_BYTES
    return workers_ahead(runtime, held, -(-estimate["blocks"] // shards), nbytes, estimate["flops"] / shards)


def _advice(params: KernelScoreParams, of_data: tuple[np.ndarray, int, int, str, int], flops: float, runtime: Runtime) -> dict[str, Any]:
    """Return about how long this takes, what other modes would, and which is recommended."""
    dtype, needs = of_data[3], params.needs(len(of_data[0]))
    rate = product_rate(dtype, str(resolve_device(runtime.device)))
    found: dict[str, Any] = {"about": _duration(flops / rate)}
    modes: tuple[Mode, ...] = ("exact", "partition", "nystrom")
    seconds = 0.0
    against = ""
    for mode in modes:
        cost = piece_of(params, dataclasses.replace(needs, mode=mode), 0.0).cost(*of_data)
        taken = cost["flops"] / rate
        found[f"with mode={mode}"] = (
            f"about {_duration(taken)}, {format_size(cost['memory'])} of memory, {format_size(cost['disk'])} on disk"
        )
        if mode == "exact":
            seconds, free = taken, shutil.disk_usage(Path.cwd()).free
            if taken > _PATIENCE:
                against = f"exact would take about {_duration(taken)}"
            elif cost["disk"] > free:
                against = f"exact wants {format_size(cost['disk'])} on disk, and {format_size(free)} are free"
    half = " (in half of the time with --precision float32)" if dtype == "float64" and seconds > 300 else ""
    found["recommended"] = f"mode=partition: {against}" if against else f"mode=exact: no draw, and it fits{half}"
    return found


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def require_room(estimate: Mapping[str, Any], folder: Path, runtime: Runtime) -> None:
    """Raise where the largest block does not fit into the memory that may be used, or the factor onto the disk."""
    budget = runtime.memory_budget()
    if estimate["peak_memory_bytes"] > budget:
        raise InputError(
            f"the largest block has {estimate['largest_block_rows']:,} rows; the run would need "
            f"{format_size(estimate['peak_memory_bytes'])} of memory and may use {format_size(budget)}",
            "use --precision float32 (half of it), -p mode=partition, a smaller -p ratio, fewer rows, or a larger --memory-limit",
        )
    there = next(parent for parent in (folder, *folder.resolve().parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    if estimate["disk_bytes"] > free:
        raise InputError(
            f"the run would write {format_size(estimate['disk_bytes'])} to {there}, where {format_size(free)} are free",
            "use --precision float32 (half of it), -p mode=partition, or name a larger disk with --work-dir",
        )
