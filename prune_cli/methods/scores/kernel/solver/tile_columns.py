"""A kernel of all samples, factored tile column by tile column: in memory, on a device, or on disk where it does not fit.

This module imports torch inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from prune_cli.core.arrays import FloatArray
from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress
from prune_cli.methods.scores.kernel.kernels import DIAGONAL, KernelBlock, write_tiles
from prune_cli.methods.scores.kernel.solver.factored import Factored, factor_regular
from prune_cli.methods.scores.kernel.solver.problem import item_size

if TYPE_CHECKING:
    import torch

WIDTH = 2048
"""Rows and columns of a tile; the last digits depend on it, so that it is the same everywhere."""


class PanelStore(Protocol):
    """Where the columns of a factor are kept."""

    def get_panel(self, name: str) -> np.ndarray | None:
        """Return a kept panel, which may be memory-mapped, or None."""

    def put_panel(self, name: str, panel: np.ndarray) -> None:
        """Keep a panel, whole or not at all."""

    def get(self, block: str) -> dict[str, np.ndarray] | None:
        """Return small arrays that were kept, or None."""

    def put(self, block: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep small arrays, whole or not at all."""


@dataclass
class Columns:
    """The factor of ``H + added I``.

    Args:
        size: rows of the kernel, N.
        width: rows of a tile, W.
        dtype, device: of the computation.
        store: keeps the columns; None keeps them on the device.
        stem: of their names, which says what was added to the diagonal.
    """

    size: int
    width: int
    dtype: torch.dtype
    device: torch.device
    store: PanelStore | None
    stem: str = ""
    _here: dict[int, torch.Tensor] = field(default_factory=dict)

    def begin(self, stem: str) -> None:
        """Start a factor of that stem, without what is on the device of another."""
        self.stem = stem
        self._here.clear()

    @property
    def count(self) -> int:
        """Number of columns of tiles."""
        return -(-self.size // self.width)

    def span(self, j: int) -> slice:
        """Return the rows of tile ``j``."""
        return slice(j * self.width, min((j + 1) * self.width, self.size))

    def get(self, j: int) -> torch.Tensor:
        """Return column ``j`` of the factor from its diagonal tile down, (N - j W, W)."""
        import torch

        if self.store is None:
            return self._here[j]
        panel = self.store.get_panel(f"{self.stem}/{j}")
        if panel is None:
            raise InputError(f"column {j} of the factor is gone from its store", "run the same command again: it is made anew")
        return torch.from_numpy(panel).to(self.device)

    def put(self, j: int, panel: torch.Tensor) -> None:
        """Keep column ``j``."""
        if self.store is None:
            self._here[j] = panel
        else:
            self.store.put_panel(f"{self.stem}/{j}", panel.cpu().numpy())

    def has(self, j: int) -> bool:
        """Return whether column ``j`` is kept."""
        return j in self._here if self.store is None else self.store.get_panel(f"{self.stem}/{j}") is not None

    def facts(self, block: str) -> dict[str, np.ndarray] | None:
        """Return small arrays kept with the columns."""
        return self.store.get(f"{self.stem}/{block}") if self.store is not None else None

    def keep(self, block: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Keep small arrays with the columns, and return them."""
        if self.store is not None:
            self.store.put(f"{self.stem}/{block}", arrays)
        return arrays


_REFINED = 1e-9  # relative residual that is small enough: the diagonal of the inverse is not refined


def factor_columns(columns: Columns, block: KernelBlock, ridge: float, progress: Progress, singular: bool = False) -> Factored:
    """Factor the kernel of all samples of a block, with a ridge on its diagonal, into columns, and return how that went.

    Args:
        singular: whether equal rows are known: a jitter goes on the diagonal at once, instead of after a factorisation that fails.
    Raises:
        NumericalError: singular with a jitter, too.
    Cost:
        N^3 / 3 flops; N^2 / 2 numbers, in the store or on the device, and one column of them.
    """

    def factor(added: float, least: float) -> tuple[float, int]:
        columns.begin(f"factor {added!r}")
        return _factor(columns, block, added, least, progress)

    return factor_regular(factor, columns.size, ridge, columns.dtype, singular)


def _factor(columns: Columns, block: KernelBlock, added: float, least: float, progress: Progress) -> tuple[float, int]:
    import torch

    size, smallest = columns.size, float("inf")
    repeated = np.zeros(size, bool)
    for j in range(columns.count):
        here = columns.span(j)
        wide = here.stop - here.start
        found = columns.facts(f"column {j}")
        if found is None or (float(found["pivot"]) >= least and not columns.has(j)):
            panel = torch.empty((size - here.start, wide), dtype=columns.dtype, device=columns.device)
            seen = write_tiles(block, slice(here.start, size), here, panel)
            panel[:wide].fill_diagonal_(DIAGONAL + added)
            for m in range(j):
                left = columns.get(m)[here.start - m * columns.width :]
                panel.addmm_(left, left[:wide].T, alpha=-1.0)
                progress("factor", *_share(size, here.start, (m + 1) / (j + 1), wide))
            lower, failed = torch.linalg.cholesky_ex(panel[:wide])
            pivot = 0.0 if int(failed) else float(lower.diagonal().min()) ** 2
            if pivot >= least:
                panel[:wide] = lower
                if len(panel) > wide:
                    panel[wide:] = torch.linalg.solve_triangular(lower.T, panel[wide:], upper=True, left=False)
                columns.put(j, panel)
            found = columns.keep(f"column {j}", pivot=np.array(pivot), repeated=seen.cpu().numpy())
        smallest = min(smallest, float(found["pivot"]))
        repeated[here.start :] |= found["repeated"].astype(bool)
        if not smallest >= least:
            return smallest, int(repeated.sum())
        progress("factor", *_share(size, here.start, 1.0, wide))
    return smallest, int(repeated.sum())


def _share(size: int, start: int, part: float, wide: int) -> tuple[int, int]:
    """Return how many of a thousand parts of the flops of a factorisation are done within the column that starts there."""

    def until(row: float) -> float:
        x = row / size
        return 3 * x**2 - 2 * x**3

    before = until(start)
    return round(1000 * (before + part * (until(min(start + wide, size)) - before))), 1000


def solve(columns: Columns, matrix: torch.Tensor) -> torch.Tensor:
    """Return ``(L L')^-1 M`` for M (N, C)."""
    import torch

    result = matrix.clone()
    for j in range(columns.count):
        here, panel = columns.span(j), columns.get(j)
        wide = here.stop - here.start
        result[here] = torch.linalg.solve_triangular(panel[:wide], result[here], upper=False)
        result[here.stop :].addmm_(panel[wide:], result[here], alpha=-1.0)
    for j in reversed(range(columns.count)):
        here, panel = columns.span(j), columns.get(j)
        wide = here.stop - here.start
        result[here].addmm_(panel[wide:].T, result[here.stop :], alpha=-1.0)
        result[here] = torch.linalg.solve_triangular(panel[:wide].T, result[here], upper=True)
    return result


def solve_refined(
    columns: Columns, exact: Callable[[], KernelBlock], added: float, right: torch.Tensor, progress: Progress
) -> tuple[torch.Tensor, list[float]]:
    """Return ``(H + added I)^-1 M`` in float64, and the relative residuals before and after each refinement.

    A float32 factor is refined against the kernel in float64, computed anew, while that makes the residual ten times smaller.

    Args:
        exact: makes the block of the kernel in float64.
    """
    import torch

    double = right.double()
    scale = float(torch.linalg.vector_norm(double))
    solution = solve(columns, right.to(columns.dtype)).double()
    if columns.dtype == torch.float64:
        return solution, []
    residuals: list[float] = []
    block = exact()
    for _ in range(4):
        rest = double - _product(columns, block, added, solution, progress)
        residuals.append(float(torch.linalg.vector_norm(rest)) / scale)
        if residuals[-1] < _REFINED or (len(residuals) > 1 and residuals[-1] > residuals[-2] / 10):
            break
        solution += solve(columns, rest.to(columns.dtype)).double()
    return solution, residuals


def _product(columns: Columns, block: KernelBlock, added: float, matrix: torch.Tensor, progress: Progress) -> torch.Tensor:
    """Return ``(H + added I) M``, float64, from the lower triangle of the kernel."""
    import torch

    result = matrix * added
    for j in range(columns.count):
        theirs = columns.span(j)
        for i in range(j, columns.count):
            ours = columns.span(i)
            shape = (ours.stop - ours.start, theirs.stop - theirs.start)
            tile = torch.empty(shape, dtype=torch.float64, device=columns.device)
            write_tiles(block, ours, theirs, tile)
            if i == j:
                tile.fill_diagonal_(DIAGONAL)
            result[ours].addmm_(tile, matrix[theirs])
            if i > j:
                result[theirs].addmm_(tile.T, matrix[ours])
        progress("refine", j + 1, columns.count, None)
    return result


def inverse_diagonal(columns: Columns, progress: Progress) -> FloatArray:
    """Return (N,) float64, the diagonal of ``(L L')^-1``; what is finished of it is kept with the columns.

    Cost:
        N^3 / 3 flops, two columns of memory.
    """
    import torch

    parts = []
    for j in range(columns.count):
        found = columns.facts(f"inverse {j}")
        if found is None:
            here = columns.span(j)
            wide, start = here.stop - here.start, here.start
            rest = torch.eye(columns.size - start, wide, dtype=columns.dtype, device=columns.device)
            squares = torch.zeros(wide, dtype=torch.float64, device=columns.device)
            for m in range(j, columns.count):
                rows, panel = columns.span(m), columns.get(m)
                height = rows.stop - rows.start
                ours = slice(rows.start - start, rows.stop - start)
                solved = torch.linalg.solve_triangular(panel[:height], rest[ours], upper=False)
                squares += sum(strip.double().square().sum(dim=0) for strip in torch.split(solved, 256))
                if rows.stop < columns.size:
                    rest[ours.stop :].addmm_(panel[height:], solved, alpha=-1.0)
            found = columns.keep(f"inverse {j}", diagonal=squares.cpu().numpy())
        parts.append(found["diagonal"])
        done = columns.span(j).stop / columns.size
        progress("invert", round(1000 * (1 - (1 - done) ** 3)), 1000, None)
    return np.concatenate(parts)


def columns_cost(size: int, dtype: str, width: int = WIDTH) -> Mapping[str, Any]:
    """Return the flops of factor and inverse, the bytes of the factor on disk, and those of the columns in memory."""
    item = item_size(dtype)
    width = min(width, size)
    return {"flops": 2 * size**3 / 3, "disk": size * (size + width) // 2 * item, "memory": 3 * size * width * item + 2 * width * width * 8}
