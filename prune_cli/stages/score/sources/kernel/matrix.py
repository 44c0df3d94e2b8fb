"""The kernel between all samples: one that is given, one that is kept, or one computed as it is needed."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.progress import Progress
from prune_cli.io.ids.columns import canonical_order
from prune_cli.io.runs.kernel_matrix import KernelFile, is_kernel, read_kernel, write_kernel
from prune_cli.methods.scores.kernel.kernels import Kernel, MatrixKernel, fill_matrix, parse_kernel
from prune_cli.methods.scores.kernel.needs import KernelScoreParams
from prune_cli.methods.scores.kernel.samples import Samples, make_samples
from prune_cli.stages.score.sources.kernel.work import KernelWork

TILE_ROWS = 512
"""Rows of a kernel that are written at once."""


def ready_samples(
    work: KernelWork,
    params: KernelScoreParams,
    state: dict[str, dict[str, Any]],
    warn: Callable[[str], None],
    progress: Progress,
) -> Samples:
    """Return the samples with their kernel: the one given, the one that was asked to be kept, or one computed as it is needed.

    Args:
        params: of a score; others may share the kernel.
        state: score -> what provenance says of it beside its parameters; added to.
        warn: told what the user should know.
    """
    order_n = canonical_order(work.ids)
    kernel: Kernel | None = None
    if work.load_kernel is not None:
        file = read_kernel(work.load_kernel)
        kernel = MatrixKernel(file.matrix_mm, file.places(work.ids, str(work.load_kernel)))
        _note_other_data(work, file, warn)
        made_as = file.provenance.get("parameters", {}).get("kernel")
        for name, theirs in work.methods.items():
            if (theirs.kernel, theirs.center) == (params.kernel, params.center):
                state.setdefault(name, {})["kernel"] = made_as
    samples = make_samples(work.values, work.codes_n, params, order_n=order_n, channels=None, kernel=kernel)
    whole = params.needs(len(order_n)).mode in {None, "exact"}
    networked = whole and parse_kernel(params.kernel).network is not None
    if kernel is not None or not (work.save_kernel or networked):
        return samples
    stem = hashlib.sha256(f"{params.kernel} {params.center}".encode()).hexdigest()[:16]
    path = work.save_kernel or work.folder / f"kernel-{stem}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    dtype = work.settings.dtype

    def fill(matrix: np.ndarray, first: int, last: int) -> None:
        fill_matrix(samples.kernel, order_n, matrix, first, last, work.runtime.device)
        progress("kernel", round(1000 * (last / len(order_n)) ** 2), 1000, None)

    provenance = dataclasses.replace(
        work.provenance,
        method="kernel",
        parameters={
            "kernel": params.kernel,
            "center": params.center,
            "precision": dtype,
            "data": work.provenance.parameters.get("data"),
        },
        score_direction={},
    )
    ids = work.ids.take(pa.array(order_n))
    if work.save_kernel is not None or not is_kernel(path, ids, provenance):
        write_kernel(path, ids, dtype, provenance, fill, TILE_ROWS)
    file = read_kernel(path)
    return dataclasses.replace(samples, kernel=MatrixKernel(file.matrix_mm, file.places(work.ids, str(path))))


def _note_other_data(work: KernelWork, file: KernelFile, warn: Callable[[str], None]) -> None:
    theirs = {entry.get("sha256") for entry in file.provenance.get("inputs", [])}
    if not theirs & {entry.sha256 for entry in work.provenance.inputs}:
        warn(f"{work.load_kernel} was made from another file; its rows are taken by their ids")
