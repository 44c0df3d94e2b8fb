"""The piece of a kernel in which all classes are solved at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from prune_cli.core.progress import Progress
from prune_cli.engines.work import Arrays, Block
from prune_cli.methods.scores.kernel.blocks import pack_set, part_result, to_arrays
from prune_cli.methods.scores.kernel.kernels import ReluKernel
from prune_cli.methods.scores.kernel.pieces import Piece, Settings, later
from prune_cli.methods.scores.kernel.rows import IntArray
from prune_cli.methods.scores.kernel.samples import Samples
from prune_cli.methods.scores.kernel.tile_columns import PanelStore
from prune_cli.methods.scores.kernel.whole_set import (
    PartResult,
    Problem,
    Solution,
    combine,
    part_cost,
    part_sets,
    plan_parts,
    solve_part,
)


@dataclass(frozen=True)
class SetPiece(Piece):
    """All classes at once, of all samples or of parts of them."""

    problem: Problem

    vectors = ("diagonal_b", "given_b")
    matrix = "solution_bc"

    @property
    def identity(self) -> dict[str, Any]:
        """Return the kernel and the problem."""
        return {"problem": [*self.kernel, *self.problem]}

    @property
    def apart(self) -> bool:
        """Return whether the samples are parted."""
        return self.problem.mode == "partition"

    def block_names(self, codes_n: NDArray[Any]) -> list[str]:
        """Return a name for each part."""
        return [f"part {part.repeat}/{part.number}" for part in plan_parts(self.problem, len(codes_n))]

    def compute(
        self, samples: Samples, settings: Settings, store: PanelStore | None, progress: Progress
    ) -> Callable[[int], Arrays]:
        """Return what solves a part."""
        parts, sets = self._parts(samples, settings.seed, progress)
        how: dict[str, Any] = {**settings._asdict(), "store": store, "progress": progress}
        of = (samples.kernel, samples.codes_n, samples.n_classes)
        return lambda n: to_arrays(solve_part(*of, sets(parts[n]), self.problem, parts[n], **how))

    def pack(
        self, samples: Samples, kernel: ReluKernel, numbers: Sequence[int], settings: Settings, progress: Progress
    ) -> tuple[str, list[Block]]:
        """Return the parts."""
        rows, codes_n = samples.rows, samples.codes_n
        parts, sets = self._parts(samples, settings.seed, progress)
        size, itemsize = min(self.problem.block_size, len(codes_n)), rows.values_nd.dtype.itemsize
        one = self.problem._replace(repeats=1)
        cost = part_cost(one, size, rows.n_features, samples.n_classes, settings.dtype, itemsize)
        values = {"depth": kernel.depth, **settings._asdict(), "n_classes": samples.n_classes}
        names = self.block_names(codes_n)
        return "prune_cli.methods.scores.kernel.blocks:solve_packed_set", [
            Block(
                names[number],
                {**values, "problem": list(self.problem), "part": list(parts[number])},
                later(lambda part: pack_set(kernel, codes_n, sets(part)), parts[number]),
                round(cost["memory"]),
                cost["flops"],
            )
            for number in numbers
        ]

    def _parts(self, samples: Samples, seed: int, progress: Progress) -> tuple[list[Any], Callable[[Any], IntArray]]:
        sets = part_sets(samples.rows, samples.order_n, self.problem, seed, progress)
        return plan_parts(self.problem, len(samples.codes_n)), sets

    def results(self, blocks: Sequence[Arrays]) -> list[PartResult]:
        """Return what each part found."""
        return [part_result(arrays) for arrays in blocks]

    def combine(self, blocks: Sequence[Arrays], codes_n: NDArray[Any], n_classes: int) -> Solution:
        """Return the gaps, and the predictions where they are wanted."""
        repeats = 1 if self.problem.mode == "exact" else self.problem.repeats
        return combine(self.results(blocks), codes_n, n_classes, repeats, self.problem.predictions)

    def cost(self, codes_n: NDArray[Any], n_features: int, n_classes: int, dtype: str, itemsize: int) -> dict[str, Any]:
        """Return what all parts cost."""
        n, problem = len(codes_n), self.problem
        rows = min(problem.block_size, n) if self.apart else n
        blocks = {"exact": 1, "nystrom": problem.repeats}.get(problem.mode, problem.repeats * -(-n // max(rows, 1)))
        return {**part_cost(problem, n, n_features, n_classes, dtype, itemsize), "blocks": blocks, "rows": rows}

    def words(self, dtype: str) -> str:
        """Return how the set is solved."""
        problem = self.problem
        return {
            "exact": f"one Cholesky of the kernel of all rows, in tile columns on disk, for all classes, {dtype}",
            "partition": f"{problem.blocks} blocks of {problem.block_size:,} rows, each exact for all classes, {dtype}",
            "nystrom": f"{problem.landmarks:,} landmarks and a corrected diagonal, for all classes, float64",
        }[problem.mode]
