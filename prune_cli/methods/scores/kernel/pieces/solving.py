"""Which pieces some scores of kernels are made of, and the solution of one score here and now."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from prune_cli.core.arrays import IntArray
from prune_cli.core.params import build_params
from prune_cli.core.progress import Progress, silent
from prune_cli.methods.scores.kernel.ntk_margin import choose_ridge
from prune_cli.methods.scores.kernel.params import KernelNeeds, KernelScoreParams
from prune_cli.methods.scores.kernel.pieces.kinds import Piece, SetPiece, Settings, SidesPiece
from prune_cli.methods.scores.kernel.samples import Samples, make_samples
from prune_cli.methods.scores.kernel.sides import SideDraw
from prune_cli.methods.scores.kernel.solver.problem import Problem, Solution


def piece_of(params: KernelScoreParams, needs: KernelNeeds, ridge: float) -> SidesPiece | SetPiece:
    """Return the piece that a score is made of, with this on the diagonal."""
    kernel = (params.kernel, params.center)
    if needs.mode is None:
        return SidesPiece(kernel, SideDraw(needs.ratio, ridge, params.draws(None)))
    drawn = (params.block_size, params.blocks, params.landmarks, params.draws(needs.mode))
    return SetPiece(kernel, Problem(needs.mode, ridge, needs.predictions, *drawn))


def plan_pieces(
    methods: Mapping[str, KernelScoreParams], n_samples: int, ridge_of: Callable[[str, KernelScoreParams], float]
) -> tuple[list[Piece], dict[str, int]]:
    """Return the pieces of some scores, and the number of each score's; scores that want the same share one.

    Args:
        methods: name of the score -> its parameters.
        n_samples: N.
        ridge_of: chooses the ridge of a score that names none.
    """
    made: dict[str, SidesPiece | SetPiece] = {}
    predicted = set()
    for name, params in methods.items():
        needs = params.needs(n_samples)
        ridge = needs.ridge if needs.ridge is not None else ridge_of(name, params)
        made[name] = piece_of(params, dataclasses.replace(needs, predictions=False), ridge)
        if needs.predictions:
            predicted.add(made[name])
    order = list(dict.fromkeys(made.values()))
    pieces: list[Piece] = [
        dataclasses.replace(piece, problem=piece.problem._replace(predictions=piece in predicted)) if isinstance(piece, SetPiece) else piece
        for piece in order
    ]
    return pieces, {name: order.index(piece) for name, piece in made.items()}


def kernel_solution(
    values_nd: NDArray[Any],
    codes_n: NDArray[Any],
    params: KernelScoreParams,
    *,
    channels: int | None = None,
    order_n: IntArray | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress = silent,
) -> Solution:
    """Return what a kernel says of each sample, as one score needs it, here and now.

    Args:
        values_nd: (N, D) uint8 pixels (flattened H x W x C, channel last, with ``channels`` C), (N, H, W, C) uint8 pixels, or (N, D)
            float32 or float64 embeddings.
        codes_n: (N,) int class of each sample, 0 or more; a code may have no sample.
        channels: channels of the pixels; None for embeddings.
        order_n: (N,) int64, the samples' positions in canonical order (argsort of the ids): draws and sums follow it,
            so that the order of the rows reaches not one bit of the scores. None: the order they come in.
        seed: 0 or more.
        device: auto, cpu, cuda or cuda:N.
        precision: auto (float64), float64 or float32; see `float32_error`.
    Raises:
        InputError: fewer than two classes, arrays that do not fit each other, an unknown kernel or precision.
        NumericalError: rows that are zero or not finite (see `zero_rows`), or a kernel that stays singular with the jitter.
        UnavailableError: ``kernel=nt`` and the extra is missing.
    """
    build_params(type(params), dataclasses.asdict(params), "kernel")
    samples = make_samples(values_nd, codes_n, params, channels=channels, order_n=order_n)
    (piece,), _ = plan_pieces({"": params}, len(codes_n), lambda *score: choose_ridge(samples, device).ridge)
    return solve_piece(piece, samples, Settings(seed, device, precision), progress)


def solve_piece(piece: Piece, samples: Samples, settings: Settings, progress: Progress = silent) -> Solution:
    """Return what all blocks of a piece say of each sample, computed one after the other in this process."""
    compute = piece.compute(samples, settings, None, progress)
    total, blocks = len(piece.block_names(samples.codes_n)), []
    for number in range(total):
        progress("blocks", number, total, None)
        blocks.append(compute(number))
    progress("blocks", total, total, None)
    return piece.combine(blocks, samples.codes_n, samples.n_classes)
