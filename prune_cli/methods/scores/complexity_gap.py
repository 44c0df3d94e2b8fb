"""CG-score: how much the complexity of the labels drops when a sample leaves, without any training.

One class at a time: its samples are +1, a draw from the other classes is -1, and only its own samples are scored.
Such a `Block` needs nothing of any other: blocks run in any order, anywhere, and `combine_blocks` joins them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError, NumericalError
from prune_cli.core.params import build_params, param
from prune_cli.core.progress import Progress, silent
from prune_cli.core.rng import generator
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.scores import triangle
from prune_cli.methods.scores.ntk import DIAGONAL, relu_kernel
from prune_cli.methods.scores.rows import FloatArray, IntArray, RowBlock, Rows, make_rows, zero_rows

if TYPE_CHECKING:
    import torch

__all__ = [
    "Block",
    "BlockResult",
    "ComplexityGapParams",
    "Rows",
    "block_memory",
    "block_size",
    "combine_blocks",
    "complexity_gap_scores",
    "float32_error",
    "make_rows",
    "plan_blocks",
    "score_block",
    "zero_rows",
]

_OVERHEAD = 32 * 2**20  # what the matrix library keeps for its own packing, and chunks of rows on their way
_ITEM_SIZE = {"auto": 8, "float64": 8, "float32": 4}


@dataclass(frozen=True)
class ComplexityGapParams:
    """Parameters of `complexity_gap_scores`; the defaults are those of the published code."""

    ratio: float = param(1.0, "samples of other classes drawn for each sample of the class", low=1e-6)
    repeats: int = param(1, "draws to average over (the paper's tables: 10)", low=1)
    ridge: float = param(0.0, "added to the diagonal of the kernel", low=0.0)
    center: bool = param(False, "embeddings: subtract their mean first")
    terms: bool = param(False, "also return the terms cg_a2, cg_ab (high = mislabeled) and cg_b2, whose sum is cg")


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

    Args:
        values_nd: (N, D) uint8 pixels (flattened H x W x C, channel last, with ``channels`` C), or float32 or float64
            embeddings.
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
        n = (1 + ratio) P.
    Source:
        Ki, Choi, Chung, ICLR 2023, arXiv:2301.00930. Deviations: the closed form instead of a leave-one-out loop; equal
        rows make H singular, which is detected and met with a stated jitter of sqrt(machine epsilon) on its diagonal.

    Example:
        Two classes of one sample each at right angles: H = I / 2, each sample costs y_i^2 / H_ii = 2.

        >>> import numpy as np
        >>> complexity_gap_scores(np.eye(2), np.array([0, 1]))["cg"].round(12).tolist()
        [2.0, 2.0]
    """
    rows = make_rows(values_nd, channels, params.center)
    order_n = np.arange(rows.n_samples) if order_n is None else order_n
    _check_samples(rows, codes_n, order_n)
    blocks = plan_blocks(codes_n, params)
    results = []
    for done, block in enumerate(blocks):
        progress("cg blocks", done, len(blocks), None)
        results.append(
            score_block(
                rows, codes_n, order_n, block, params, seed=seed, device=device, precision=precision, progress=progress
            )
        )
    progress("cg blocks", len(blocks), len(blocks), None)
    return combine_blocks(results, rows.n_samples, params)


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
    n, item, side = n_pos + n_neg, _item_size(dtype), 2 * triangle.TILE
    triangles = triangle.stored_numbers(n_neg) + triangle.stored_numbers(n_pos) + n_pos * n_neg
    product = n * triangle.TILE  # of a panel and a tile, on its way back into the panel's place
    loaded = min(n, side)
    kernel = 2 * loaded * n_features * (4 if itemsize == 1 else 16) + loaded * loaded * (8 + 8 + 8 + 4)
    return (triangles + product) * item + n * n_features * itemsize + kernel + 10 * n * 8 + _OVERHEAD


def score_block(
    rows: Rows,
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

    Args and errors as in `complexity_gap_scores`, which gives the formula. The draw is a function of ``seed``,
    ``block`` and the classes in canonical order alone.
    """
    dtype = _torch_dtype(precision)
    pos, neg = _draw(codes_n, order_n, block, params, seed)
    return _score(rows, pos, neg, params.ridge, dtype, resolve_device(device), progress)


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
    rows: Rows,
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

    pos, neg = _draw(codes_n, order_n, block, params, seed)
    step = max(1, -(-(len(pos) + len(neg)) // rows_limit))
    pos, neg = pos[::step], neg[::step]
    at = resolve_device(device)
    single, double = (_score(rows, pos, neg, params.ridge, d, at, silent) for d in (torch.float32, torch.float64))
    difference_p = np.abs(single.gap_p - double.gap_p)
    return float(np.max(difference_p / np.maximum(double.gap_p, double.gap_p.mean() / 100)))


def _check_samples(rows: Rows, codes_n: NDArray[Any], order_n: IntArray) -> None:
    if codes_n.shape != (rows.n_samples,) or not np.issubdtype(codes_n.dtype, np.integer) or codes_n.min() < 0:
        raise InputError(
            f"classes are {codes_n.dtype} {codes_n.shape} for {rows.n_samples} samples",
            "give one whole number, 0 or more, a sample",
        )
    if order_n.shape != codes_n.shape or not np.array_equal(np.sort(order_n), np.arange(len(codes_n))):
        raise InputError("the canonical order does not name every sample once", "give np.argsort of the ids")


def _draw(
    codes_n: NDArray[Any], order_n: IntArray, block: Block, params: ComplexityGapParams, seed: int
) -> tuple[IntArray, IntArray]:
    """Return the positions of the block's class and of the draw from the others, both in canonical order."""
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
    rows: Rows,
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
    block = rows.block(np.concatenate([neg, pos]), dtype, device)
    negatives = triangle.allocate(n_neg, dtype, device, tile=tile)
    positives = triangle.allocate(n_pos, dtype, device, tile=tile, start=n_neg)
    whole = triangle.join(negatives, positives)

    eps = float(torch.finfo(dtype).eps)

    def factor(added: float) -> tuple[float, int, bool]:
        duplicates = _write_kernel(whole, block, added, tile, progress)
        least = n * eps
        if added >= eps**0.5:
            least = min(least, added / 2)  # but for rounding, no pivot of H + added I is less than added
        pivot = triangle.factor(whole, least, lambda done: progress("cg factor", done, n, None))
        return pivot, duplicates, pivot >= least

    jitter = 0.0
    pivot, duplicates, regular = factor(ridge)
    if not regular and ridge < eps**0.5:
        jitter = eps**0.5
        pivot, duplicates, regular = factor(ridge + jitter)
    if not regular:
        raise NumericalError(
            f"the kernel of {n} samples is singular in {str(dtype).removeprefix('torch.')} with {ridge + jitter:.1e} "
            f"added to its diagonal (smallest pivot {pivot:.1e}, {duplicates} duplicate row(s))",
            f"drop the duplicates, or pass -p ridge={max(1e-6, 100 * (ridge + jitter)):.0e}",
        )

    signs = torch.ones((n, 1), dtype=dtype, device=device)
    signs[:n_neg] = -1.0
    triangle.solve(whole, signs)
    triangle.invert(positives)
    solution, diagonal = triangle.column_sums(positives, signs[n_neg:, 0], tile)
    a_p, d_p = solution.cpu().numpy(), diagonal.cpu().numpy()
    if not (np.isfinite(a_p).all() and np.isfinite(d_p).all()):
        raise NumericalError("the scores are not finite", "pass -p ridge=1e-6 or --precision float64")
    b_p = a_p - d_p
    return BlockResult(pos, b_p**2 / d_p, 2.0 * b_p, d_p, pivot, jitter, duplicates)


def _write_kernel(whole: triangle.Triangle, block: RowBlock, added: float, tile: int, progress: Progress) -> int:
    """Write the block's kernel, with ``added`` on its diagonal, and return how many rows equal an earlier one."""
    import torch

    side = 2 * tile
    like = next(triangle.parts(whole)).values
    scratch = torch.empty((2, side * side), dtype=torch.float64, device=like.device)
    duplicate = torch.zeros(whole.size, dtype=torch.bool, device=like.device)
    for part in triangle.parts(whole):
        height, width = part.values.shape
        for top in range(0, height, side):
            ours = slice(part.row + top, part.row + min(top + side, height))
            left = block.load(ours)
            for first in range(0, width, side):
                theirs = slice(part.column + first, part.column + min(first + side, width))
                right = left if part.diagonal else block.load(theirs)
                out = part.values[top : top + side, first : first + side]
                cosines, angles = scratch[:, : out.numel()].view(2, *out.shape)
                block.cosines(left, right, cosines)
                relu_kernel(cosines, block.rounding, angles)
                equal = cosines >= DIAGONAL
                duplicate[ours] |= (equal.tril_(-1) if part.diagonal else equal).any(dim=1)
                out.copy_(cosines)
        if part.diagonal:
            part.values.fill_diagonal_(DIAGONAL + added)
            progress("cg kernel", part.row + height, whole.size, None)
    return int(duplicate.sum())


def _item_size(dtype: str) -> int:
    if dtype not in _ITEM_SIZE:
        raise InputError(f"--precision {dtype!r} is not for cg", f"use {', '.join(_ITEM_SIZE)}")
    return _ITEM_SIZE[dtype]


def _torch_dtype(precision: str) -> torch.dtype:
    import torch

    return torch.float64 if _item_size(precision) == 8 else torch.float32
