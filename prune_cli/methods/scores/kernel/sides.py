"""A class against a draw of the others: how much the complexity of the labels drops when a sample of the class leaves.

As published the complexity gap goes one class at a time: its samples are +1, a draw from the other classes is -1, and only its own
samples are scored. Such `Sides` need nothing of any other: they run in any order, anywhere, and `combine_sides` joins what they find.
This module imports torch inside functions only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import FloatArray, IntArray
from prune_cli.core.errors import InputError, NumericalError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.rng import generator
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.scores.kernel.kernels import Kernel
from prune_cli.methods.scores.kernel.solver import triangle
from prune_cli.methods.scores.kernel.solver.factored import factor_triangle
from prune_cli.methods.scores.kernel.solver.problem import Solution, item_size, torch_dtype

if TYPE_CHECKING:
    import torch

_OVERHEAD = 32 * 2**20  # what the matrix library keeps for its own packing, and chunks of rows on their way


class SideDraw(NamedTuple):
    """How each class meets the others.

    Args:
        ratio: samples of other classes drawn for each sample of the class.
        ridge: added to the diagonal of the kernel.
        repeats: draws to average over.
    """

    ratio: float
    ridge: float
    repeats: int


class Sides(NamedTuple):
    """One unit of work: the samples of one class against one draw of the others."""

    class_code: int
    repeat: int


@dataclass(frozen=True, eq=False)
class SidesResult:
    """What one unit found.

    Args:
        positions: (P,) int64, the samples scored, in canonical order.
        a2_p, ab_p, b2_p: (P,) float64, the terms; their sum is the score.
        smallest_pivot, jitter, duplicates: as `Factored`.
    """

    positions: IntArray
    a2_p: FloatArray
    ab_p: FloatArray
    b2_p: FloatArray
    smallest_pivot: float
    jitter: float
    duplicates: int

    @property
    def gap_p(self) -> FloatArray:
        """(P,) float64, the score: the sum of the terms as one square, never below 0 and exact where they cancel."""
        return np.asarray((self.ab_p / 2.0 + self.b2_p) ** 2 / self.b2_p)


def plan_sides(codes_n: NDArray[Any], draw: SideDraw) -> list[Sides]:
    """Return the units of work, class by class in the order of the codes, repeat by repeat."""
    return [Sides(code, repeat) for code in np.unique(codes_n).tolist() for repeat in range(draw.repeats)]


def sides_size(codes_n: NDArray[Any], sides: Sides, draw: SideDraw) -> tuple[int, int]:
    """Return how many samples of the class are scored, and how many of the others are drawn."""
    n_pos = int(np.count_nonzero(codes_n == sides.class_code))
    return n_pos, min(max(1, round(draw.ratio * n_pos)), len(codes_n) - n_pos)


def sides_flops(n_pos: int, n_neg: int, n_features: int) -> float:
    """Return what `score_sides` computes for so many samples."""
    return (n_pos + n_neg) ** 3 / 3 + n_pos**3 / 3 + (n_pos + n_neg) ** 2 * n_features


def sides_memory(n_pos: int, n_neg: int, n_features: int, dtype: str, itemsize: int = 8) -> int:
    """Return the bytes that `score_sides` takes at most for so many samples, over what the data itself takes.

    Args:
        n_pos, n_neg: as `sides_size` gives them.
        n_features: D.
        dtype: the precision: float64, float32, or auto.
        itemsize: bytes of one stored number: 1 for pixels, 4 or 8 for embeddings (``values_nd.dtype.itemsize``).
    """
    n, item, side = n_pos + n_neg, item_size(dtype), 2 * triangle.TILE
    triangles = triangle.stored_numbers(n_neg) + triangle.stored_numbers(n_pos) + n_pos * n_neg
    product = n * triangle.TILE  # of a panel and a tile, on its way back into the panel's place
    loaded = min(n, side)
    kernel = 2 * loaded * n_features * (4 if itemsize == 1 else 16) + loaded * loaded * (8 + 8 + 8 + 4)
    return (triangles + product) * item + n * n_features * itemsize + kernel + 10 * n * 8 + _OVERHEAD


def draw_sides(codes_n: NDArray[Any], order_n: IntArray, sides: Sides, draw: SideDraw, seed: int) -> tuple[IntArray, IntArray]:
    """Return the positions of the class and of the draw from the others, both in canonical order.

    The draw is a function of ``seed``, ``sides`` and the classes in canonical order alone.

    Raises:
        InputError: no sample is of the class, or all are.
    """
    ours = codes_n[order_n] == sides.class_code
    pos, others = order_n[ours], order_n[~ours]
    n_pos, n_neg = sides_size(codes_n, sides, draw)
    if n_pos == 0 or n_neg == 0:
        raise InputError(
            f"class {sides.class_code} has {n_pos} of {len(codes_n)} samples: a class needs samples in it and outside",
            "take the classes from plan_sides",
        )
    draw_from = generator(seed, "cg", "negatives", int(sides.class_code), int(sides.repeat))
    return pos, others[np.sort(draw_from.choice(len(others), size=n_neg, replace=False, shuffle=False))]


def score_sides(
    kernel: Kernel,
    pos: IntArray,
    neg: IntArray,
    ridge: float = 0.0,
    *,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress = silent,
) -> SidesResult:
    """Return the terms of the score of the samples at ``pos``, +1, against those at ``neg``, -1.

    Args:
        pos, neg: (P,), (Q,) positions.
        device, precision, progress: as `kernel_solution` takes them.
    Raises:
        NumericalError: the kernel is singular with the jitter, too.
    """
    return _score(kernel, pos, neg, ridge, torch_dtype(precision), resolve_device(device), progress)


def combine_sides(results: Iterable[SidesResult], n_samples: int, repeats: int) -> Solution:
    """Return the gaps and their terms, means over the repeats; the order of ``results`` does not reach the last digit.

    A sample that is in none of them gets NaN.

    Args:
        results: each class with all of its repeats.
    Raises:
        InputError: a class came with more or fewer repeats.
    """
    terms = np.full((4, repeats, n_samples), np.nan)
    seen_n = np.zeros(n_samples, np.int64)
    for result in results:
        p = result.positions
        if (seen_n[p] >= repeats).any():
            raise InputError(f"more than {repeats} repeat(s) of one class", "combine each block once")
        terms[:, seen_n[p], p] = result.gap_p, result.a2_p, result.ab_p, result.b2_p
        seen_n[p] += 1
    if ((seen_n > 0) & (seen_n < repeats)).any():
        raise InputError(f"a class came with fewer than its {repeats} repeat(s)", "combine all of its blocks")
    gap_n, a2_n, ab_n, b2_n = np.sort(terms, axis=1).mean(axis=1)
    return Solution(gap_n, a2_n, ab_n, b2_n, None)


def float32_error(kernel: Kernel, pos: IntArray, neg: IntArray, ridge: float, device: str = "auto", rows_limit: int = 2000) -> float:
    """Return the largest relative difference between float32 and float64 scores of two sides cut to ``rows_limit`` rows.

    The cut keeps the share of the two sides and takes rows evenly in canonical order. Relative to the float64 score
    or, for scores below it, a hundredth of their mean: a sample that fits has a score near 0, whose digits mean little.
    More rows make a larger error.
    """
    import torch

    step = max(1, -(-(len(pos) + len(neg)) // rows_limit))
    pos, neg = pos[::step], neg[::step]
    at = resolve_device(device)
    single, double = (_score(kernel, pos, neg, ridge, d, at, silent) for d in (torch.float32, torch.float64))
    difference_p = np.abs(single.gap_p - double.gap_p)
    return float(np.max(difference_p / np.maximum(double.gap_p, double.gap_p.mean() / 100)))


def _score(
    kernel: Kernel,
    pos: IntArray,
    neg: IntArray,
    ridge: float,
    dtype: torch.dtype,
    device: torch.device,
    progress: Progress,
    tile: int = triangle.TILE,
) -> SidesResult:
    """Return the terms for the samples at ``pos`` (+1) against those at ``neg`` (-1)."""
    import torch

    n_neg, n_pos = len(neg), len(pos)
    n = n_neg + n_pos
    block = kernel.block(np.concatenate([neg, pos]), dtype, device)
    negatives = triangle.allocate(n_neg, dtype, device, tile=tile)
    positives = triangle.allocate(n_pos, dtype, device, tile=tile, start=n_neg)
    whole = triangle.join(negatives, positives)
    factored = factor_triangle(whole, block, ridge, progress)

    signs = torch.ones((n, 1), dtype=dtype, device=device)
    signs[:n_neg] = -1.0
    triangle.solve(whole, signs)
    triangle.invert(positives)
    solution, diagonal = triangle.column_sums(positives, signs[n_neg:], tile)
    a_p, d_p = solution[:, 0].cpu().numpy(), diagonal.cpu().numpy()
    if not (np.isfinite(a_p).all() and np.isfinite(d_p).all()):
        raise NumericalError("the scores are not finite", "pass -p ridge=1e-6 or --precision float64")
    b_p = a_p - d_p
    return SidesResult(pos, b_p**2 / d_p, 2.0 * b_p, d_p, factored.smallest_pivot, factored.jitter, factored.duplicates)
