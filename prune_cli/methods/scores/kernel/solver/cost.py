"""What a problem costs, before any of it is computed."""

from __future__ import annotations

from prune_cli.methods.scores.kernel.solver import triangle
from prune_cli.methods.scores.kernel.solver.precision import item_size
from prune_cli.methods.scores.kernel.solver.problem import Problem
from prune_cli.methods.scores.kernel.solver.tile_columns import columns_cost

_OVERHEAD = 64 * 2**20


def problem_cost(
    problem: Problem, n_samples: int, n_features: int, n_classes: int, dtype: str, itemsize: int
) -> dict[str, float]:
    """Return the flops of a whole problem, the bytes of its largest set in memory, and those it keeps on disk."""
    if problem.mode == "exact":
        cost = columns_cost(n_samples, dtype)
        memory = cost["memory"] + n_samples * n_features * itemsize + 4 * n_samples * n_classes * 8
        return {
            "flops": cost["flops"] + n_samples**2 * n_features,
            "memory": memory + _OVERHEAD,
            "disk": cost["disk"],
        }
    if problem.mode == "nystrom":
        m, chunk = min(problem.landmarks, n_samples), 8192
        flops = problem.repeats * n_samples * (2 * (2 * m * n_features + m * m) + 2 * m * m + m * m)
        memory = 3 * m * m * 8 + 3 * chunk * m * 8 + n_samples * n_classes * 8 * 2
        return {"flops": flops, "memory": memory + _OVERHEAD, "disk": 16 * m * (m + n_classes) * 8}
    b = min(problem.block_size, n_samples)
    parts = -(-n_samples // b) * problem.repeats
    work = parts * (2 * b**3 / 3 + b * b * n_features + 4 * b * b * n_classes)
    memory = triangle.stored_numbers(b) * item_size(dtype) + b * (n_features * itemsize + 6 * n_classes * 8)
    kept = n_samples * problem.repeats * 8 * (3 + (n_classes if problem.predictions else 0))
    return {"flops": work, "memory": memory + 2 * kept + _OVERHEAD, "disk": kept}
