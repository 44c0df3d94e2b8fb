"""The piece of a kernel in which all classes are solved at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from prune_cli.core.progress import Progress
from prune_cli.engines.block import Arrays, Block
from prune_cli.methods.arrays import IntArray
from prune_cli.methods.scores.kernel.kernels import ReluKernel
from prune_cli.methods.scores.kernel.pieces.contract import Piece, Settings, later
from prune_cli.methods.scores.kernel.pieces.packed import pack_set, set_result, to_arrays
from prune_cli.methods.scores.kernel.samples import Samples
from prune_cli.methods.scores.kernel.solver.columns import PanelStore
from prune_cli.methods.scores.kernel.solver.cost import problem_cost
from prune_cli.methods.scores.kernel.solver.problem import Problem, SampleSet, plan_sets, set_members
from prune_cli.methods.scores.kernel.solver.sets import solve_set
from prune_cli.methods.scores.kernel.solver.solution import SetResult, Solution, combine


@dataclass(frozen=True)
class SetPiece(Piece):
    """All classes at once, of one set of samples or of several."""

    problem: Problem

    vectors = ("diagonal_b", "given_b")
    matrix = "solution_bc"

    @property
    def identity(self) -> dict[str, Any]:
        """Return the kernel and the problem."""
        return {"problem": [*self.kernel, *self.problem]}

    @property
    def apart(self) -> bool:
        """Return whether the samples are divided."""
        return self.problem.mode == "partition"

    def block_names(self, codes_n: NDArray[Any]) -> list[str]:
        """Return a name for each set."""
        return [f"part {one.repeat}/{one.number}" for one in plan_sets(self.problem, len(codes_n))]

    def compute(
        self, samples: Samples, settings: Settings, store: PanelStore | None, progress: Progress
    ) -> Callable[[int], Arrays]:
        """Return what solves a set."""
        sets, members_of = self._sets(samples, settings.seed, progress)
        how: dict[str, Any] = {**settings._asdict(), "store": store, "progress": progress}
        return lambda n: to_arrays(solve_set(samples, members_of(sets[n]), self.problem, sets[n], **how))

    def pack(
        self, samples: Samples, kernel: ReluKernel, numbers: Sequence[int], settings: Settings, progress: Progress
    ) -> tuple[str, list[Block]]:
        """Return the sets."""
        rows, codes_n = samples.rows, samples.codes_n
        sets, members_of = self._sets(samples, settings.seed, progress)
        size, itemsize = min(self.problem.block_size, len(codes_n)), rows.values_nd.dtype.itemsize
        one = self.problem._replace(repeats=1)
        cost = problem_cost(one, size, rows.n_features, samples.n_classes, settings.dtype, itemsize)
        values = {"depth": kernel.depth, **settings._asdict(), "n_classes": samples.n_classes}
        names = self.block_names(codes_n)
        return "prune_cli.methods.scores.kernel.pieces.packed:solve_packed_set", [
            Block(
                names[number],
                {**values, "problem": list(self.problem), "part": list(sets[number])},
                later(lambda of: pack_set(kernel, codes_n, members_of(of)), sets[number]),
                round(cost["memory"]),
                cost["flops"],
            )
            for number in numbers
        ]

    def _sets(
        self, samples: Samples, seed: int, progress: Progress
    ) -> tuple[list[SampleSet], Callable[[SampleSet], IntArray]]:
        return plan_sets(self.problem, len(samples.codes_n)), set_members(samples, self.problem, seed, progress)

    def results(self, blocks: Sequence[Arrays]) -> list[SetResult]:
        """Return what each set found."""
        return [set_result(arrays) for arrays in blocks]

    def combine(self, blocks: Sequence[Arrays], codes_n: NDArray[Any], n_classes: int) -> Solution:
        """Return the gaps, and the predictions where they are wanted."""
        return combine(self.results(blocks), codes_n, n_classes, self.problem)

    def cost(self, codes_n: NDArray[Any], n_features: int, n_classes: int, dtype: str, itemsize: int) -> dict[str, Any]:
        """Return what all sets cost."""
        n, problem = len(codes_n), self.problem
        rows = min(problem.block_size, n) if self.apart else n
        blocks = problem.draws * (-(-n // max(rows, 1)) if self.apart else 1)
        return {**problem_cost(problem, n, n_features, n_classes, dtype, itemsize), "blocks": blocks, "rows": rows}

    def words(self, dtype: str) -> str:
        """Return how the set is solved."""
        problem = self.problem
        return {
            "exact": f"one Cholesky of the kernel of all rows, in tile columns on disk, for all classes, {dtype}",
            "partition": f"{problem.blocks} blocks of {problem.block_size:,} rows, each exact for all classes, {dtype}",
            "nystrom": f"{problem.landmarks:,} landmarks and a corrected diagonal, for all classes, float64",
        }[problem.mode]
