"""The piece of a kernel in which each class meets draws of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from prune_cli.core.progress import Progress
from prune_cli.engines.block import Arrays, Block
from prune_cli.methods.arrays import IntArray
from prune_cli.methods.scores.kernel.kernels import ReluKernel
from prune_cli.methods.scores.kernel.pieces.contract import Piece, Settings, later
from prune_cli.methods.scores.kernel.pieces.packed import pack_sides, sides_result, to_arrays
from prune_cli.methods.scores.kernel.samples import Samples
from prune_cli.methods.scores.kernel.sides import (
    SideDraw,
    Sides,
    SidesResult,
    combine_sides,
    draw_sides,
    float32_error,
    plan_sides,
    score_sides,
    sides_flops,
    sides_memory,
    sides_size,
)
from prune_cli.methods.scores.kernel.solver.columns import PanelStore
from prune_cli.methods.scores.kernel.solver.solution import Solution


@dataclass(frozen=True)
class SidesPiece(Piece):
    """Each class against draws of the others."""

    draw: SideDraw

    vectors = ("a2_p", "ab_p", "b2_p")
    matrix = None

    @property
    def identity(self) -> dict[str, Any]:
        """Return the kernel and how the others are drawn."""
        return {"sampled": [*self.kernel, *self.draw]}

    def block_names(self, codes_n: NDArray[Any]) -> list[str]:
        """Return a name for each class and repeat."""
        return [f"{sides.class_code}/{sides.repeat}" for sides in plan_sides(codes_n, self.draw)]

    def _drawn(self, samples: Samples, sides: Sides, seed: int) -> tuple[IntArray, IntArray]:
        return draw_sides(samples.codes_n, samples.order_n, sides, self.draw, seed)

    def compute(
        self, samples: Samples, settings: Settings, store: PanelStore | None, progress: Progress
    ) -> Callable[[int], Arrays]:
        """Return what scores a class against a draw."""
        planned, (seed, device, precision) = plan_sides(samples.codes_n, self.draw), settings
        score = partial(score_sides, ridge=self.draw.ridge, device=device, precision=precision, progress=progress)
        return lambda number: to_arrays(score(samples.kernel, *self._drawn(samples, planned[number], seed)))

    def pack(
        self, samples: Samples, kernel: ReluKernel, numbers: Sequence[int], settings: Settings, progress: Progress
    ) -> tuple[str, list[Block]]:
        """Return the classes, each with its draw."""
        rows, planned = samples.rows, plan_sides(samples.codes_n, self.draw)
        names = self.block_names(samples.codes_n)
        values = {"depth": kernel.depth, "ridge": self.draw.ridge, **settings._asdict()}
        blocks = []
        for number in numbers:
            n_pos, n_neg = sides_size(samples.codes_n, planned[number], self.draw)
            nbytes = sides_memory(n_pos, n_neg, rows.n_features, settings.dtype, rows.values_nd.dtype.itemsize)
            gather = later(
                lambda sides: pack_sides(kernel, *self._drawn(samples, sides, settings.seed)), planned[number]
            )
            blocks.append(Block(names[number], values, gather, nbytes, sides_flops(n_pos, n_neg, rows.n_features)))
        return "prune_cli.methods.scores.kernel.pieces.packed:score_packed_sides", blocks

    def results(self, blocks: Sequence[Arrays]) -> list[SidesResult]:
        """Return the terms of each class and repeat."""
        return [sides_result(arrays) for arrays in blocks]

    def combine(self, blocks: Sequence[Arrays], codes_n: NDArray[Any], n_classes: int) -> Solution:
        """Return the gaps, without predictions."""
        return combine_sides(self.results(blocks), len(codes_n), self.draw.repeats)

    def cost(self, codes_n: NDArray[Any], n_features: int, n_classes: int, dtype: str, itemsize: int) -> dict[str, Any]:
        """Return what all classes and repeats cost."""
        sizes = [sides_size(codes_n, sides, self.draw) for sides in plan_sides(codes_n, self.draw)]
        return {
            "flops": sum(sides_flops(p, n, n_features) for p, n in sizes),
            "memory": max(sides_memory(p, n, n_features, dtype, itemsize) for p, n in sizes),
            "disk": 32 * sum(p for p, _ in sizes),
            "blocks": len(sizes),
            "rows": max(p + n for p, n in sizes),
        }

    def words(self, dtype: str) -> str:
        """Return how a class is scored."""
        return f"closed form, one blocked in-place Cholesky per class and repeat, {dtype}"

    def float32_error(self, samples: Samples, settings: Settings) -> float:
        """Return how far float32 is from float64 on a part of the first block; see `sides.float32_error`."""
        first = plan_sides(samples.codes_n, self.draw)[0]
        sides = self._drawn(samples, first, settings.seed)
        return float32_error(samples.kernel, *sides, self.draw.ridge, settings.device)
