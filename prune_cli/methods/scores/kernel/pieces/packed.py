"""Blocks of kernel scores as plain values and the rows they need: what a process that has none of the data can do.

Every block holds its own rows with what standardises them, so that it takes as little as it needs and gives the same numbers
wherever it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.progress import Progress, silent
from prune_cli.methods.arrays import IntArray
from prune_cli.methods.scores.kernel.kernels import ReluKernel
from prune_cli.methods.scores.kernel.rows.making import unpack_rows
from prune_cli.methods.scores.kernel.samples import Samples
from prune_cli.methods.scores.kernel.sides import SidesResult, score_sides
from prune_cli.methods.scores.kernel.solver.problem import Problem, SampleSet
from prune_cli.methods.scores.kernel.solver.sets import solve_set
from prune_cli.methods.scores.kernel.solver.solution import SetResult

Arrays = Mapping[str, NDArray[Any]]


def pack_sides(kernel: ReluKernel, pos: IntArray, neg: IntArray) -> dict[str, NDArray[Any]]:
    """Return the arrays of `score_packed_sides`: of samples that are scored and those drawn against them."""
    return {**kernel.rows.pack(np.concatenate([neg, pos])), "positions": pos}


def score_packed_sides(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, Any]:
    """Return a `SidesResult` as arrays.

    Args:
        values: ``depth`` of the kernel, ``ridge``, ``device``, ``precision``.
        arrays: as `pack_sides` gives them.
        progress: told how far it is.
    """
    kernel = ReluKernel(unpack_rows(arrays), values["depth"])
    positions = arrays["positions"]
    n_neg = kernel.n_samples - len(positions)
    result = score_sides(
        kernel,
        np.arange(n_neg, kernel.n_samples),
        np.arange(n_neg),
        values["ridge"],
        device=values["device"],
        precision=values["precision"],
        progress=progress,
    )
    return to_arrays(dataclasses.replace(result, positions=positions))


def pack_set(kernel: ReluKernel, codes_n: NDArray[Any], positions: IntArray) -> dict[str, NDArray[Any]]:
    """Return the arrays of `solve_packed_set`: of the samples of a set."""
    return {**kernel.rows.pack(positions), "codes": codes_n[positions], "positions": positions}


def solve_packed_set(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, Any]:
    """Return a `SetResult` as arrays.

    Args:
        values: ``depth`` of the kernel, ``n_classes``, ``problem`` and ``part`` as lists, ``seed``, ``device``, ``precision``.
        arrays: as `pack_set` gives them.
        progress: told how far it is.
    """
    kernel = ReluKernel(unpack_rows(arrays), values["depth"])
    samples = Samples(kernel.rows, kernel, arrays["codes"], values["n_classes"], np.arange(kernel.n_samples))
    result = solve_set(
        samples,
        samples.order_n,
        Problem(*values["problem"]),
        SampleSet(*values["part"]),
        seed=values["seed"],
        device=values["device"],
        precision=values["precision"],
        progress=progress,
    )
    return to_arrays(dataclasses.replace(result, positions=arrays["positions"]))


def to_arrays(result: SidesResult | SetResult) -> dict[str, NDArray[Any]]:
    """Return a result as arrays by the names of its fields."""
    return {f.name: np.asarray(getattr(result, f.name)) for f in dataclasses.fields(result)}


def sides_result(arrays: Arrays) -> SidesResult:
    """Return what `to_arrays` made arrays of."""
    return SidesResult(**_scalars(arrays))


def set_result(arrays: Arrays) -> SetResult:
    """Return what `to_arrays` made arrays of."""
    return SetResult(**_scalars(arrays))


def _scalars(arrays: Arrays) -> dict[str, Any]:
    return {name: array if array.ndim else array.item() for name, array in arrays.items()}
