"""All classes at once: one factorisation of a set of samples serves every one-vs-rest problem; see `System`.

This module imports torch inside functions only.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from prune_cli.core.arrays import IntArray
from prune_cli.core.errors import NumericalError
from prune_cli.core.progress import Progress, silent
from prune_cli.methods.devices import free_memory, resolve_device
from prune_cli.methods.scores.kernel.rows.contract import has_duplicates
from prune_cli.methods.scores.kernel.samples import Samples
from prune_cli.methods.scores.kernel.solver import triangle
from prune_cli.methods.scores.kernel.solver.factored import factor_triangle
from prune_cli.methods.scores.kernel.solver.nystrom import solve_nystrom
from prune_cli.methods.scores.kernel.solver.problem import Problem, SampleSet, SetResult, dtype_name, item_size, torch_dtype
from prune_cli.methods.scores.kernel.solver.system import Inverse, System
from prune_cli.methods.scores.kernel.solver.tile_columns import (
    WIDTH,
    Columns,
    PanelStore,
    columns_cost,
    factor_columns,
    inverse_diagonal,
    solve_refined,
)

_CARD = 0.7  # of a card's free memory, which a factor may take


def solve_set(
    samples: Samples,
    positions: IntArray,
    problem: Problem,
    one: SampleSet,
    *,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    store: PanelStore | None = None,
    progress: Progress = silent,
) -> SetResult:
    """Return the diagonal of G and what it makes of the classes, for the samples at ``positions``.

    Args:
        positions: as `set_members` gives them for this set.
        store: keeps what is finished within the set.
        seed, device, precision, progress: as `complexity_gap_scores` takes them.
    Raises:
        NumericalError: the kernel is singular with the jitter, too.
    """
    solve = {"exact": _solve_columns, "partition": _solve_triangle, "nystrom": solve_nystrom}[problem.mode]
    dtype, at, codes_b = torch_dtype(precision), resolve_device(device), samples.codes_n[positions]
    system = System(samples.kernel, positions, codes_b, samples.n_classes, problem, one.repeat, seed, dtype, at, store, progress)
    diagonal, solution, factored, residual = solve(system)
    if not (np.isfinite(diagonal).all() and np.isfinite(solution).all()):
        raise NumericalError("the scores are not finite", "pass -p ridge=1e-6 or --precision float64")
    given = solution[np.arange(len(codes_b)), codes_b]
    wanted = solution if problem.predictions else solution[:, :0]
    return SetResult(positions, diagonal, given, wanted, factored.smallest_pivot, factored.jitter, factored.duplicates, residual)


def _solve_triangle(system: System) -> Inverse:
    whole = triangle.allocate(len(system.positions), system.dtype, system.device)
    factored = factor_triangle(whole, system.block(system.dtype), system.problem.ridge, system.progress)
    signs = system.signs().to(system.dtype)
    triangle.solve(whole, signs)
    triangle.invert(whole)
    solution, diagonal = triangle.column_sums(whole, signs)
    return Inverse(diagonal.cpu().numpy(), solution.cpu().numpy(), factored)


def _solve_columns(system: System) -> Inverse:
    import torch

    kernel, size, at, store = system.kernel, len(system.positions), system.device, system.store
    block = system.block(system.dtype)
    if at.type == "cuda":
        free = free_memory(str(at))
        if free is not None and columns_cost(size, dtype_name(system.dtype))["disk"] < _CARD * free:
            store = None  # the factor stays on the card: what a kill loses is there again before it were read from a disk
    singular = kernel.rows is not None and has_duplicates(kernel.rows, system.positions)
    columns = Columns(size, WIDTH, system.dtype, at, store)
    factored = factor_columns(columns, block, system.problem.ridge, system.progress, singular)
    found = columns.facts("solution")
    if found is None:
        exact = partial(system.block, torch.float64)
        added = system.problem.ridge + factored.jitter
        solution, residuals = solve_refined(columns, exact, added, system.signs(), system.progress)
        found = columns.keep("solution", solution=solution.cpu().numpy(), residual=np.array(residuals[-1] if residuals else 0.0))
    diagonal = inverse_diagonal(columns, system.progress)
    return Inverse(diagonal, found["solution"], factored, float(found["residual"]))


_OVERHEAD = 64 * 2**20


def problem_cost(problem: Problem, n_samples: int, n_features: int, n_classes: int, dtype: str, itemsize: int) -> dict[str, float]:
    """Return the flops of a whole problem, the bytes of its largest set in memory, and those it keeps on disk."""
    if problem.mode == "exact":
        cost = columns_cost(n_samples, dtype)
        memory = cost["memory"] + n_samples * n_features * itemsize + 4 * n_samples * n_classes * 8
        return {"flops": cost["flops"] + n_samples**2 * n_features, "memory": memory + _OVERHEAD, "disk": cost["disk"]}
    if problem.mode == "nystrom":
        m, chunk = min(problem.landmarks, max(1, n_samples // 2)), 8192
        flops = problem.repeats * n_samples * (3 * (2 * m * n_features + m * m) + 4 * m * m + m * m)
        memory = 3 * m * m * 8 + 3 * chunk * m * 8 + n_samples * n_classes * 8 * 2
        return {"flops": flops, "memory": memory + _OVERHEAD, "disk": 16 * m * (m + n_classes) * 8}
    b = min(problem.block_size, n_samples)
    parts = -(-n_samples // b) * problem.repeats
    work = parts * (2 * b**3 / 3 + b * b * n_features + 4 * b * b * n_classes)
    memory = triangle.stored_numbers(b) * item_size(dtype) + b * (n_features * itemsize + 6 * n_classes * 8)
    kept = n_samples * problem.repeats * 8 * (3 + (n_classes if problem.predictions else 0))
    return {"flops": work, "memory": memory + 2 * kept + _OVERHEAD, "disk": kept}
