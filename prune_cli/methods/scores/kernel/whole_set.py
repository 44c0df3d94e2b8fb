"""All classes at once: one factorisation of a set of samples serves every one-vs-rest problem.

With ``G = (H + ridge I)^-1`` and Y the classes as +1 and -1, ``G_ii`` and ``(G Y)_i`` are all that the complexity gap and the
leave-one-out predictions need. `exact` takes all samples as one set, `partition` many sets of a given size, `nystrom` all samples
against landmarks. A `Part` needs nothing of any other: parts run in any order, anywhere, and `combine` joins them.
This module imports torch inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError, NumericalError
from prune_cli.core.params import param
from prune_cli.core.progress import Progress, silent
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.scores.kernel import triangle
from prune_cli.methods.scores.kernel.factored import Factored, factor_triangle
from prune_cli.methods.scores.kernel.kernels import Kernel
from prune_cli.methods.scores.kernel.rows import FloatArray, IntArray, Rows, has_duplicates
from prune_cli.methods.scores.kernel.tile_columns import (
    PanelStore,
    columns_cost,
    factor_columns,
    inverse_diagonal,
    solve_refined,
)

if TYPE_CHECKING:
    import torch

Mode = Literal["exact", "partition", "nystrom"]
EXACT_ROWS = 20_000
"""Up to here ``mode=auto`` is exact: minutes on two cores."""

_OVERHEAD = 64 * 2**20
_CARD = 0.7  # of a card's free memory, which a factor may take


@dataclass(frozen=True)
class KernelParams:
    """Parameters of every score that goes by a kernel."""

    kernel: str = param(
        "relu", "relu; relu:L, L hidden layers; nt:fc3, nt:cnn5, nt:myrtle5, nt:FILE.py:FUNCTION (extra ntk)"
    )
    mode: Literal["auto", "sampled", "exact", "partition", "nystrom"] = param(
        "auto",
        f"all samples at once, in blocks, or by landmarks; auto: exact up to {EXACT_ROWS:,} rows, else partition",
    )
    block_size: int = param(8192, "partition: samples of a block", low=2)
    blocks: Literal["random", "kmeans"] = param(
        "random", "partition: drawn, or near each other (balanced two-means tree)"
    )
    landmarks: int = param(2048, "nystrom: samples that stand for all", low=1)
    repeats: int = param(1, "draws to average over: of the other classes, the blocks, or the landmarks", low=1)
    center: bool = param(False, "embeddings: subtract their mean first")


class Problem(NamedTuple):
    """What is solved: how, and with what on the diagonal.

    Args:
        mode: see `KernelParams`.
        ridge: added to the diagonal.
        predictions: whether all classes are wanted, or the given one alone.
    """

    mode: Mode
    ridge: float
    predictions: bool
    block_size: int = 8192
    blocks: Literal["random", "kmeans"] = "random"
    landmarks: int = 2048
    repeats: int = 1


class Part(NamedTuple):
    """One unit of work: a set of samples of one repeat."""

    repeat: int
    number: int


@dataclass(frozen=True, eq=False)
class PartResult:
    """What one part found.

    Args:
        positions: (B,) int64, the samples, in canonical order.
        diagonal_b: (B,) float64, G_ii.
        given_b: (B,) float64, (G Y)_i of the given class.
        solution_bc: (B, C) float64, (G Y)_i; (B, 0) where the given class alone is wanted.
        smallest_pivot, jitter, duplicates: as `Factored`.
        residual: of the refined solution, relative; 0 in float64.
    """

    positions: IntArray
    diagonal_b: FloatArray
    given_b: FloatArray
    solution_bc: FloatArray
    smallest_pivot: float
    jitter: float
    duplicates: int
    residual: float = 0.0


@dataclass(frozen=True, eq=False)
class Solution:
    """What all parts found, averaged over the repeats.

    Args:
        gap_n, a2_n, ab_n, b2_n: (N,) float64: the complexity gap and its terms.
        loo_nc: (N, C) float64: leave-one-out predictions, about -1 to 1; None where they were not wanted.
    """

    gap_n: FloatArray
    a2_n: FloatArray
    ab_n: FloatArray
    b2_n: FloatArray
    loo_nc: FloatArray | None


def resolve_mode(params: KernelParams, n_samples: int) -> Mode | None:
    """Return how all classes are solved at once, None where each is sampled.

    ``auto`` goes by the number of samples; the machine has no say, so that the same command gives the same scores.
    """
    if params.mode == "auto":
        return "exact" if n_samples <= EXACT_ROWS else "partition"
    return None if params.mode == "sampled" else params.mode


def problem_of(params: KernelParams, mode: Mode, ridge: float, predictions: bool) -> Problem:
    """Return what is to be solved under these parameters."""
    return Problem(mode, ridge, predictions, params.block_size, params.blocks, params.landmarks, params.repeats)


def plan_parts(problem: Problem, n_samples: int) -> list[Part]:
    """Return the units of work, repeat by repeat."""
    if problem.mode == "exact":
        return [Part(0, 0)]
    count = -(-n_samples // problem.block_size) if problem.mode == "partition" else 1
    return [Part(repeat, number) for repeat in range(problem.repeats) for number in range(count)]


def partition(
    rows: Rows, order_n: IntArray, problem: Problem, repeat: int, seed: int, progress: Progress = silent
) -> list[IntArray]:
    """Return the samples of every part of a repeat, each in canonical order; (B,) positions, as many as can be in each.

    Args:
        rows: what k-means goes by.
        order_n: the samples in canonical order.
    """
    from prune_cli.methods.partition import random_parts, two_means_parts

    if problem.mode != "partition":
        return [order_n]
    count = -(-len(order_n) // problem.block_size)
    if problem.blocks == "random":
        return random_parts(order_n, count, seed, repeat)
    return [part.core for part in two_means_parts(rows, order_n, count, seed, repeat, progress)]


def part_sets(
    rows: Rows, order_n: IntArray, problem: Problem, seed: int, progress: Progress = silent
) -> Callable[[Part], IntArray]:
    """Return what gives the samples of a part: `partition`, made once for each repeat, when its first part is asked for."""
    made: dict[int, list[IntArray]] = {}

    def samples_of(part: Part) -> IntArray:
        if part.repeat not in made:
            made.clear()
            made[part.repeat] = partition(rows, order_n, problem, part.repeat, seed, progress)
        return made[part.repeat][part.number]

    return samples_of


def solve_part(
    kernel: Kernel,
    codes_n: NDArray[Any],
    n_classes: int,
    positions: IntArray,
    problem: Problem,
    part: Part,
    *,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    store: PanelStore | None = None,
    progress: Progress = silent,
) -> PartResult:
    """Return the diagonal of G and what it makes of the classes, for the samples at ``positions``.

    Args:
        kernel: over all samples.
        codes_n: (N,) class of each sample, less than ``n_classes``.
        positions: as `partition` gives them for this part.
        store: keeps what is finished within the part.
        seed, device, precision, progress: as `complexity_gap_scores` takes them.
    Raises:
        NumericalError: the kernel is singular with the jitter, too.
    """
    dtype, at = torch_dtype(precision), resolve_device(device)
    codes_b = codes_n[positions]
    if problem.mode == "nystrom":
        from prune_cli.methods.scores.kernel.nystrom import solve_nystrom

        diagonal, solution, factored = solve_nystrom(
            kernel, codes_b, n_classes, positions, problem, part.repeat, seed, at, store, progress
        )
        residual = 0.0
    elif problem.mode == "exact":
        diagonal, solution, factored, residual = _solve_columns(
            kernel, codes_b, n_classes, positions, problem.ridge, dtype, at, store, progress
        )
    else:
        diagonal, solution, factored = _solve_triangle(
            kernel, codes_b, n_classes, positions, problem.ridge, dtype, at, progress
        )
        residual = 0.0
    if not (np.isfinite(diagonal).all() and np.isfinite(solution).all()):
        raise NumericalError("the scores are not finite", "pass -p ridge=1e-6 or --precision float64")
    given = solution[np.arange(len(codes_b)), codes_b]
    wanted = solution if problem.predictions else solution[:, :0]
    return PartResult(
        positions, diagonal, given, wanted, factored.smallest_pivot, factored.jitter, factored.duplicates, residual
    )


def signs_of(codes_b: NDArray[Any], n_classes: int, device: torch.device) -> torch.Tensor:
    """Return Y, (B, C) float64: +1 at the sample's class, else -1."""
    import torch

    signs = torch.full((len(codes_b), n_classes), -1.0, dtype=torch.float64, device=device)
    codes = torch.from_numpy(np.asarray(codes_b, np.int64)).to(device)
    return signs.scatter_(1, codes[:, None], 1.0)


def _solve_triangle(
    kernel: Kernel,
    codes_b: NDArray[Any],
    n_classes: int,
    positions: IntArray,
    ridge: float,
    dtype: torch.dtype,
    device: torch.device,
    progress: Progress,
) -> tuple[FloatArray, FloatArray, Factored]:
    whole = triangle.allocate(len(positions), dtype, device)
    factored = factor_triangle(whole, kernel.block(positions, dtype, device), ridge, progress)
    signs = signs_of(codes_b, n_classes, device).to(dtype)
    triangle.solve(whole, signs)
    triangle.invert(whole)
    solution, diagonal = triangle.column_sums(whole, signs)
    return diagonal.cpu().numpy(), solution.cpu().numpy(), factored


def precision_of(dtype: torch.dtype) -> str:
    """Return the name of a dtype."""
    return str(dtype).removeprefix("torch.")


def _free(device: torch.device) -> int:
    import torch

    return torch.cuda.mem_get_info(device)[0]


def _solve_columns(
    kernel: Kernel,
    codes_b: NDArray[Any],
    n_classes: int,
    positions: IntArray,
    ridge: float,
    dtype: torch.dtype,
    device: torch.device,
    store: PanelStore | None,
    progress: Progress,
) -> tuple[FloatArray, FloatArray, Factored, float]:
    import torch

    block = kernel.block(positions, dtype, device)
    if device.type == "cuda" and columns_cost(len(positions), precision_of(dtype))["disk"] < _CARD * _free(device):
        store = None  # the factor stays on the card: what a kill loses is there again before it were read from a disk
    singular = kernel.rows is not None and has_duplicates(kernel.rows, positions)
    columns, factored, added = factor_columns(block, len(positions), ridge, dtype, device, store, progress, singular)
    found = columns.facts("solution")
    if found is None:
        signs = signs_of(codes_b, n_classes, device)
        exact = partial(kernel.block, positions, torch.float64, device)
        solution, residuals = solve_refined(columns, exact, added, signs, progress)
        found = columns.keep(
            "solution", solution=solution.cpu().numpy(), residual=np.array(residuals[-1] if residuals else 0.0)
        )
    diagonal = inverse_diagonal(columns, progress)
    return diagonal, found["solution"], factored, float(found["residual"])


def combine(
    results: Iterable[PartResult], codes_n: NDArray[Any], n_classes: int, repeats: int, predictions: bool
) -> Solution:
    """Return what all parts of all repeats say of each sample, averaged over the repeats; the order of the parts reaches no more than
    the last digits of the predictions.

    Raises:
        InputError: a sample came in more or fewer parts than there are repeats.
    """
    n_samples = len(codes_n)
    seen_n = np.zeros(n_samples, np.int64)
    terms = np.full((4, repeats, n_samples), np.nan)
    loo_nc = np.zeros((n_samples, n_classes)) if predictions else None
    for result in results:
        p, d, a = result.positions, result.diagonal_b, result.given_b
        if (seen_n[p] >= repeats).any():
            raise InputError(f"a sample came in more than {repeats} part(s)", "combine each part once")
        b = a - d
        for term, value in zip(terms, (a * a / d, b * b / d, 2.0 * b, d), strict=True):
            term[seen_n[p], p] = value
        if loo_nc is not None:
            signs = np.full(result.solution_bc.shape, -1.0)
            signs[np.arange(len(p)), codes_n[p]] = 1.0
            loo_nc[p] += (signs - result.solution_bc / d[:, None]) / repeats
        seen_n[p] += 1
    if (seen_n != repeats).any():
        raise InputError(f"a sample came in fewer than {repeats} part(s)", "combine all parts")
    gap_n, a2_n, ab_n, b2_n = np.sort(terms, axis=1).mean(axis=1)
    return Solution(gap_n, a2_n, ab_n, b2_n, loo_nc)


def solve_all(
    kernel: Kernel,
    rows: Rows,
    codes_n: NDArray[Any],
    n_classes: int,
    order_n: IntArray,
    problem: Problem,
    *,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress = silent,
) -> Solution:
    """Return the solution of a problem, part by part, here and now."""
    parts, results = plan_parts(problem, len(order_n)), []
    sets = part_sets(rows, order_n, problem, seed, progress)
    for done, part in enumerate(parts):
        progress("parts", done, len(parts), None)
        results.append(
            solve_part(
                kernel,
                codes_n,
                n_classes,
                sets(part),
                problem,
                part,
                seed=seed,
                device=device,
                precision=precision,
                progress=progress,
            )
        )
    repeats = 1 if problem.mode == "exact" else problem.repeats
    return combine(results, codes_n, n_classes, repeats, problem.predictions)


def part_cost(
    problem: Problem, n_samples: int, n_features: int, n_classes: int, dtype: str, itemsize: int
) -> dict[str, float]:
    """Return the flops of a whole problem, the bytes of its largest part in memory, and those it keeps on disk."""
    item = 8 if dtype == "float64" else 4
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
    memory = triangle.stored_numbers(b) * item + b * (n_features * itemsize + 6 * n_classes * 8)
    kept = n_samples * problem.repeats * 8 * (3 + (n_classes if problem.predictions else 0))
    return {"flops": work, "memory": memory + 2 * kept + _OVERHEAD, "disk": kept}


def item_size(precision: str) -> int:
    """Return the bytes of a number in that precision.

    Raises:
        InputError: no precision that a kernel is factored in.
    """
    sizes = {"auto": 8, "float64": 8, "float32": 4}
    if precision not in sizes:
        raise InputError(f"--precision {precision!r} is not for a kernel", f"use {', '.join(sizes)}")
    return sizes[precision]


def product_rate(dtype: str, device: str = "auto") -> float:
    """Return flops a second of a matrix product in that precision here, a quarter less: measured, for estimates alone."""
    import time

    import torch

    at = resolve_device(device)
    left = torch.ones((1024, 1024), dtype=getattr(torch, dtype), device=at)
    float((left @ left)[0, 0])
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 0.2:
        float((left @ left)[0, 0])
        count += 1
    return 0.75 * count * 2 * 1024**3 / (time.perf_counter() - start)


def torch_dtype(precision: str) -> torch.dtype:
    """Return the dtype that a kernel is factored in."""
    import torch

    return torch.float64 if item_size(precision) == 8 else torch.float32
