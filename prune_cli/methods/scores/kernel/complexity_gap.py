"""CG-score: how much the complexity of the labels drops when a sample leaves, without any training.

As published (``mode=sampled``) one class at a time: its samples are +1, a draw from the other classes is -1, and only its own samples
are scored. Such a `Block` needs nothing of any other: blocks run in any order, anywhere, and `combine_blocks` joins them. The other
modes take all classes at once: see `prune_cli.methods.scores.kernel.solver`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError, NumericalError
from prune_cli.core.params import build_params, param
from prune_cli.core.progress import Progress, silent
from prune_cli.core.rng import generator
from prune_cli.methods.arrays import FloatArray, IntArray
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.scores.kernel import triangle
from prune_cli.methods.scores.kernel.factored import factor_triangle
from prune_cli.methods.scores.kernel.kernels import Kernel
from prune_cli.methods.scores.kernel.params import KernelParams
from prune_cli.methods.scores.kernel.precision import item_size, torch_dtype
from prune_cli.methods.scores.kernel.problem import Problem, problem_of
from prune_cli.methods.scores.kernel.samples import make_samples
from prune_cli.methods.scores.kernel.solution import Solution
from prune_cli.methods.scores.kernel.solver import solve_all

if TYPE_CHECKING:
    import torch

__all__ = [
    "Block",
    "BlockResult",
    "ComplexityGapParams",
    "block_memory",
    "block_size",
    "combine_blocks",
    "complexity_gap_scores",
    "draw_block",
    "float32_error",
    "plan_blocks",
    "score_block",
    "score_sides",
]

_OVERHEAD = 32 * 2**20  # what the matrix library keeps for its own packing, and chunks of rows on their way


@dataclass(frozen=True)
class ComplexityGapParams(KernelParams):
    """Parameters of `complexity_gap_scores`; the defaults are those of the published code."""

    mode: Literal["sampled", "exact", "partition", "nystrom"] = param(
        "sampled",
        "a class against a draw of the others, as published; or all classes: at once, in blocks, by landmarks",
    )
    ratio: float = param(1.0, "sampled: samples of other classes drawn for each sample of the class", low=1e-6)
    ridge: float = param(0.0, "added to the diagonal of the kernel", low=0.0)
    terms: bool = param(False, "also return the terms cg_a2, cg_ab (high = mislabeled) and cg_b2, whose sum is cg")

    def problem(self) -> Problem | None:
        """Return what is solved for all classes at once, or None where each class is scored by itself."""
        return None if self.mode == "sampled" else problem_of(self, self.mode, self.ridge, False)


class Block(NamedTuple):
    """One unit of work: the samples of one class against one draw of the others."""

    class_code: int
    repeat: int


@dataclass(frozen=True, eq=False)
class BlockResult:
    """What one block found.

    Args:
        positions: (P,) int64, the samples scored, in canonical order.
        a2_p, ab_p, b2_p: (P,) float64, the terms; their sum is the score.
        smallest_pivot: smallest squared diagonal entry of the Cholesky factor: how far from singular the kernel was.
        jitter: what was added to the diagonal because the kernel was singular, else 0.
        duplicates: rows that have the direction of an earlier row of the block, which makes the kernel singular.
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


def complexity_gap_scores(
    values_nd: NDArray[Any],
    codes_n: NDArray[Any],
    params: ComplexityGapParams = ComplexityGapParams(),
    *,
    channels: int | None = None,
    order_n: IntArray | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress = silent,
) -> dict[str, FloatArray]:
    r"""Return how much the label complexity ``y' H^-1 y`` drops when each sample leaves.

    With ``G = H^-1`` and ``a = G y`` the drop equals ``a_i^2 / G_ii`` (block inverse), so one factorisation gives all.
    The rows of the other classes go first and those to score last: with ``H = L L'``, the part of G that belongs to
    the last P rows is ``(L_PP L_PP')^-1``, so only the last P x P triangle of L is inverted,

        G_ii = |column i of L_PP^-1|^2,    a_P = L_PP'^-1 (L^-1 y)_P,

    and of H itself only the lower triangle is ever stored. The score is the sum of three terms, with ``b = a - G_ii``:
    ``a2 = b^2 / G_ii``, ``ab = 2 b``, ``b2 = G_ii``; a high ``ab`` marks wrong labels better than the sum.

    H does not depend on the labels, so that with ``mode=exact`` one factorisation of the kernel of all samples serves every class
    against all others, without a draw.

    Args:
        values_nd: (N, D) uint8 pixels (flattened H x W x C, channel last, with ``channels`` C), (N, H, W, C) uint8 pixels, or (N, D)
            float32 or float64 embeddings.
        codes_n: (N,) int class of each sample, 0 or more; a code may have no sample.
        params: see `ComplexityGapParams`.
        channels: channels of the pixels; None for embeddings.
        order_n: (N,) int64, the samples' positions in canonical order (argsort of the ids): draws and sums follow it,
            so that the order of the rows reaches not one bit of the scores. None: the order they come in.
        seed: 0 or more.
        device: auto, cpu, cuda or cuda:N.
        precision: auto (float64), float64 or float32; see `float32_error`.
        progress: told of each block, and within a block.
    Returns:
        ``cg`` (N,) float64, 0 or more, in units of 1 / kernel: higher is harder (irregular or mislabeled). With
        ``params.terms`` also ``cg_a2``, ``cg_ab`` (any sign) and ``cg_b2``.
    Raises:
        InputError: fewer than two classes, arrays that do not fit each other, an unknown precision.
        NumericalError: rows that are zero or not finite (see `zero_rows`), or a kernel that stays singular with the
            jitter.
    Cost:
        n^3 / 3 + P^3 / 3 flops, n^2 D for the kernel, and n^2 / 2 numbers, for each class of P samples and each repeat;
        n = (1 + ratio) P. Exact: 2/3 N^3 flops in all.
    Source:
        Ki, Choi, Chung, ICLR 2023, arXiv:2301.00930. Deviations: the closed form instead of a leave-one-out loop; equal
        rows make H singular, which is detected and met with a stated jitter of sqrt(machine epsilon) on its diagonal.

    Example:
        Two classes of one sample each at right angles: H = I / 2, each sample costs y_i^2 / H_ii = 2.

        >>> import numpy as np
        >>> complexity_gap_scores(np.eye(2), np.array([0, 1]))["cg"].round(12).tolist()
        [2.0, 2.0]
    """
    samples = make_samples(values_nd, codes_n, params, channels=channels, order_n=order_n)
    settings: dict[str, Any] = {"seed": seed, "device": device, "precision": precision, "progress": progress}
    if (problem := params.problem()) is not None:
        return columns_of(solve_all(samples, problem, **settings), params)
    blocks = plan_blocks(codes_n, params)
    results = []
    for done, block in enumerate(blocks):
        progress("cg blocks", done, len(blocks), None)
        results.append(score_block(samples.kernel, codes_n, samples.order_n, block, params, **settings))
    progress("cg blocks", len(blocks), len(blocks), None)
    return combine_blocks(results, len(codes_n), params)


def columns_of(solution: Solution, params: ComplexityGapParams) -> dict[str, FloatArray]:
    """Return the columns ``cg`` and, with ``params.terms``, its terms, of what was solved for all classes."""
    columns = {"cg": solution.gap_n, "cg_a2": solution.a2_n, "cg_ab": solution.ab_n, "cg_b2": solution.b2_n}
    return columns if params.terms else {"cg": solution.gap_n}


def plan_blocks(codes_n: NDArray[Any], params: ComplexityGapParams) -> list[Block]:
    """Return the units of work, class by class in the order of the codes, repeat by repeat.

    Raises:
        InputError: fewer than two classes have samples, or a parameter is out of range.
    """
    build_params(ComplexityGapParams, dataclasses.asdict(params), "cg")
    classes = np.unique(codes_n).tolist()
    if len(classes) < 2:
        raise InputError(
            f"cg compares each class with the others, and the data has samples of {len(classes)} class(es)",
            "give data of two classes or more, or check --label-column",
        )
    return [Block(class_code, repeat) for class_code in classes for repeat in range(params.repeats)]


def block_size(codes_n: NDArray[Any], block: Block, params: ComplexityGapParams) -> tuple[int, int]:
    """Return how many samples a block scores, and how many of the other classes it draws."""
    n_pos = int(np.count_nonzero(codes_n == block.class_code))
    return n_pos, min(max(1, round(params.ratio * n_pos)), len(codes_n) - n_pos)


def block_memory(n_pos: int, n_neg: int, n_features: int, dtype: str, itemsize: int = 8) -> int:
    """Return the bytes that `score_block` takes at most for a block of that size, over what the data itself takes.

    Args:
        n_pos, n_neg: as `block_size` gives them.
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


def score_block(
    kernel: Kernel,
    codes_n: NDArray[Any],
    order_n: IntArray,
    block: Block,
    params: ComplexityGapParams,
    *,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress = silent,
) -> BlockResult:
    """Return the terms of the score of every sample of one class, against one draw of the others.

    Args and errors as in `complexity_gap_scores`, which gives the formula; ``kernel`` is over all samples; see `draw_block`.
    """
    pos, neg = draw_block(codes_n, order_n, block, params, seed)
    return score_sides(kernel, pos, neg, params.ridge, device=device, precision=precision, progress=progress)


def score_sides(
    kernel: Kernel,
    pos: IntArray,
    neg: IntArray,
    ridge: float = 0.0,
    *,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress = silent,
) -> BlockResult:
    """Return the terms of the score of the samples at ``pos``, +1, against those at ``neg``, -1.

    Args:
        kernel: over all samples.
        pos, neg: (P,), (Q,) positions.
        ridge: added to the diagonal.
        device, precision, progress: as `complexity_gap_scores` takes them.
    """
    return _score(kernel, pos, neg, ridge, torch_dtype(precision), resolve_device(device), progress)


def combine_blocks(
    results: Iterable[BlockResult], n_samples: int, params: ComplexityGapParams
) -> dict[str, FloatArray]:
    """Return the columns ``cg`` and, with ``params.terms``, ``cg_a2``, ``cg_ab`` and ``cg_b2``: means over the repeats.

    The order of ``results`` does not reach the last digit. A sample that is in none of them gets NaN.

    Args:
        results: of any of the blocks; each class with all of its repeats.
        n_samples: N.
        params: as they ran.
    Raises:
        InputError: a class came with more or fewer repeats than ``params.repeats``.
    """
    columns = ["cg", "cg_a2", "cg_ab", "cg_b2"] if params.terms else ["cg"]
    values = {name: np.full((params.repeats, n_samples), np.nan) for name in columns}
    seen_n = np.zeros(n_samples, np.int64)
    for result in results:
        p = result.positions
        if (seen_n[p] >= params.repeats).any():
            raise InputError(f"more than {params.repeats} repeat(s) of one class", "combine each block once")
        found = (result.gap_p, result.a2_p, result.ab_p, result.b2_p)
        for name, value_p in zip(columns, found, strict=False):
            values[name][seen_n[p], p] = value_p
        seen_n[p] += 1
    if ((seen_n > 0) & (seen_n < params.repeats)).any():
        raise InputError(f"a class came with fewer than its {params.repeats} repeat(s)", "combine all of its blocks")
    return {name: np.sort(value_rn, axis=0).mean(axis=0) for name, value_rn in values.items()}


def float32_error(
    kernel: Kernel,
    codes_n: NDArray[Any],
    order_n: IntArray,
    block: Block,
    params: ComplexityGapParams,
    seed: int = 0,
    device: str = "auto",
    rows_limit: int = 2000,
) -> float:
    """Return the largest relative difference between float32 and float64 scores of a block cut to ``rows_limit`` rows.

    The cut keeps the share of the two sides and takes rows evenly in canonical order. Relative to the float64 score
    or, for scores below it, a hundredth of their mean: a sample that fits has a score near 0, whose digits mean little.
    More rows make a larger error.
    """
    import torch

    pos, neg = draw_block(codes_n, order_n, block, params, seed)
    step = max(1, -(-(len(pos) + len(neg)) // rows_limit))
    pos, neg = pos[::step], neg[::step]
    at = resolve_device(device)
    single, double = (_score(kernel, pos, neg, params.ridge, d, at, silent) for d in (torch.float32, torch.float64))
    difference_p = np.abs(single.gap_p - double.gap_p)
    return float(np.max(difference_p / np.maximum(double.gap_p, double.gap_p.mean() / 100)))


def draw_block(
    codes_n: NDArray[Any], order_n: IntArray, block: Block, params: ComplexityGapParams, seed: int
) -> tuple[IntArray, IntArray]:
    """Return the positions of the block's class and of the draw from the others, both in canonical order.

    The draw is a function of ``seed``, ``block`` and the classes in canonical order alone.
    """
    ours = codes_n[order_n] == block.class_code
    pos, others = order_n[ours], order_n[~ours]
    n_pos, n_neg = block_size(codes_n, block, params)
    if n_pos == 0 or n_neg == 0:
        raise InputError(
            f"class {block.class_code} has {n_pos} of {len(codes_n)} samples: a block needs samples in it and outside",
            "take the blocks from plan_blocks",
        )
    drawn = generator(seed, "cg", "negatives", int(block.class_code), int(block.repeat)).choice(
        len(others), size=n_neg, replace=False, shuffle=False
    )
    return pos, others[np.sort(drawn)]


def _score(
    kernel: Kernel,
    pos: IntArray,
    neg: IntArray,
    ridge: float,
    dtype: torch.dtype,
    device: torch.device,
    progress: Progress,
    tile: int = triangle.TILE,
) -> BlockResult:
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
    return BlockResult(pos, b_p**2 / d_p, 2.0 * b_p, d_p, factored.smallest_pivot, factored.jitter, factored.duplicates)
