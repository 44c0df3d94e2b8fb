"""The kernel of a set of samples, factored: with a stated jitter where equal rows make it singular.

This module imports torch inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from prune_cli.core.errors import NumericalError
from prune_cli.core.progress import Progress
from prune_cli.methods.scores.kernel.kernels import DIAGONAL, KernelBlock, write_tiles
from prune_cli.methods.scores.kernel.solver import triangle
from prune_cli.methods.scores.kernel.solver.problem import dtype_name

if TYPE_CHECKING:
    import torch


_PIVOT_ERROR = 4.0
"""Pivots carry a rounding error of about sqrt(n) / 2 times machine epsilon for n samples: below eight times that they say nothing."""


class Factored(NamedTuple):
    """How a factorisation went.

    Args:
        smallest_pivot: smallest squared diagonal entry of the Cholesky factor: how far from singular the kernel was.
        duplicates: rows that have the direction of an earlier row, which makes the kernel singular.
        jitter: what was added to the diagonal because the kernel was singular, else 0.
    """

    smallest_pivot: float
    duplicates: int
    jitter: float


def factor_regular(
    factor: Callable[[float, float], tuple[float, int]], n_samples: int, ridge: float, dtype: torch.dtype, singular: bool = False
) -> Factored:
    """Factor ``H + ridge I``, or where that is singular ``H + (ridge + sqrt(machine epsilon)) I``.

    Args:
        factor: (added to the diagonal, least pivot) -> smallest pivot, duplicates; stops at a smaller pivot than the least.
        singular: whether equal rows are known, so that H itself need not be tried.
    Raises:
        NumericalError: singular with the jitter, too.
    """
    import torch

    eps = float(torch.finfo(dtype).eps)
    jitter, pivot, duplicates = 0.0, 0.0, 0
    rounding = _PIVOT_ERROR * n_samples**0.5 * eps
    tries = (0.0,) if ridge >= eps**0.5 else (eps**0.5,) if singular and ridge < rounding else (0.0, eps**0.5)
    for jitter in tries:
        added, least = ridge + jitter, rounding
        if added >= eps**0.5:
            least = min(least, added / 2)  # but for rounding, no pivot of H + added I is less than added
        pivot, duplicates = factor(added, least)
        if pivot >= least:
            return Factored(pivot, duplicates, jitter)
    raise NumericalError(
        f"the kernel of {n_samples} samples is singular in {dtype_name(dtype)} with {ridge + jitter:.1e} "
        f"added to its diagonal (smallest pivot {pivot:.1e}, {duplicates} duplicate row(s))",
        f"drop the duplicates, or pass -p ridge={max(1e-6, 100 * (ridge + jitter)):.0e}",
    )


def factor_triangle(whole: triangle.Triangle, block: KernelBlock, ridge: float, progress: Progress) -> Factored:
    """Write the kernel of a block into a triangle, and factor it there; see `factor_regular`."""
    values = next(triangle.rectangles(whole)).values

    def factor(added: float, least: float) -> tuple[float, int]:
        duplicates = _write(whole, block, added, progress)
        return triangle.factor(whole, least, lambda done: progress("factor", done, whole.size, None)), duplicates

    return factor_regular(factor, whole.size, ridge, values.dtype)


def _write(whole: triangle.Triangle, block: KernelBlock, added: float, progress: Progress) -> int:
    """Write the kernel, with ``added`` on its diagonal, and return how many rows equal an earlier one."""
    import torch

    duplicate = torch.zeros(whole.size, dtype=torch.bool, device=next(triangle.rectangles(whole)).values.device)
    for stored in triangle.rectangles(whole):
        height, width = stored.values.shape
        rows = slice(stored.row, stored.row + height)
        duplicate[rows] |= write_tiles(block, rows, slice(stored.column, stored.column + width), stored.values)
        if stored.diagonal:
            stored.values.fill_diagonal_(DIAGONAL + added)
            progress("kernel", stored.row + height, whole.size, None)
    return int(duplicate.sum())
