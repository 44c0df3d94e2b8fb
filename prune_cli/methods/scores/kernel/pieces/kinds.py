"""What kernel scores are made of: pieces, each of blocks that need nothing of one another.

All classes are solved at once, or each class against draws of the others; here, or from packed rows elsewhere.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import IntArray
from prune_cli.core.progress import Progress, silent
from prune_cli.engines.engine import Arrays, Block
from prune_cli.methods.scores.kernel.kernels import ReluKernel
from prune_cli.methods.scores.kernel.rows.kinds import unpack_rows
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
from prune_cli.methods.scores.kernel.solver.problem import (
    Problem,
    SampleSet,
    SetResult,
    Solution,
    combine,
    item_size,
    plan_sets,
    set_members,
)
from prune_cli.methods.scores.kernel.solver.sets import problem_cost, solve_set
from prune_cli.methods.scores.kernel.solver.tile_columns import PanelStore

KernelName: TypeAlias = tuple[str, bool]
"""Which kernel: its name, and whether the mean is subtracted."""


class Settings(NamedTuple):
    """How blocks are computed; as `kernel_solution` takes them."""

    seed: int = 0
    device: str = "auto"
    precision: str = "auto"

    @property
    def dtype(self) -> str:
        """Return the name of the dtype that the kernel is factored in."""
        return "float64" if item_size(self.precision) == 8 else "float32"


@dataclass(frozen=True)
class Piece(ABC):
    """Blocks of one kernel that need nothing of one another."""

    kernel: KernelName

    vectors: ClassVar[tuple[str, ...]]
    """Fields of a block's result with a number of each sample."""
    matrix: ClassVar[str | None]
    """The field with several numbers of each sample, None where there is none."""
    result: ClassVar[type[SidesResult | SetResult]]
    """What a block finds."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what its blocks depend on beside the samples and the settings."""

    @property
    def apart(self) -> bool:
        """Return whether a block takes less than all samples, so that it may be computed elsewhere."""
        return True

    @abstractmethod
    def block_names(self, codes_n: NDArray[Any]) -> list[str]:
        """Return the names of the blocks, in their order."""

    @abstractmethod
    def compute(self, samples: Samples, settings: Settings, store: PanelStore | None, progress: Progress) -> Callable[[int], Arrays]:
        """Return what computes a block, by its number, in this process and with all its threads."""

    @abstractmethod
    def pack(
        self, samples: Samples, kernel: ReluKernel, numbers: Sequence[int], settings: Settings, progress: Progress
    ) -> tuple[str, list[Block]]:
        """Return the function and the blocks that an engine is handed; ``kernel`` is that of the samples."""

    def results(self, blocks: Sequence[Arrays]) -> list[Any]:
        """Return what the blocks found, of `to_arrays`."""
        found: list[dict[str, Any]] = [{k: v if v.ndim else v.item() for k, v in arrays.items()} for arrays in blocks]
        return [self.result(**fields) for fields in found]

    @abstractmethod
    def combine(self, blocks: Sequence[Arrays], codes_n: NDArray[Any], n_classes: int) -> Solution:
        """Return what all blocks say of each sample."""

    @abstractmethod
    def cost(self, codes_n: NDArray[Any], n_features: int, n_classes: int, dtype: str, itemsize: int) -> dict[str, Any]:
        """Return flops, bytes in memory and on disk, how many blocks there are, and the rows of the largest."""

    @abstractmethod
    def words(self, dtype: str) -> str:
        """Return how it is computed, for ``--plan``."""


def score_packed_sides(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, Any]:
    """Return a `SidesResult` as arrays.

    Args:
        values: ``depth`` of the kernel, ``ridge``, ``device``, ``precision``.
        arrays: as `SidesPiece.pack` gives them.
    """
    kernel, positions = ReluKernel(unpack_rows(arrays), values["depth"]), arrays["positions"]
    everyone, n_neg = np.arange(kernel.n_samples), kernel.n_samples - len(positions)
    how = {name: values[name] for name in ("ridge", "device", "precision")}
    result = score_sides(kernel, everyone[n_neg:], everyone[:n_neg], progress=progress, **how)
    return to_arrays(dataclasses.replace(result, positions=positions))


def solve_packed_set(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, Any]:
    """Return a `SetResult` as arrays.

    Args:
        values: ``depth`` of the kernel, ``n_classes``, ``problem`` and ``part`` as lists, ``seed``, ``device``, ``precision``.
        arrays: as `SetPiece.pack` gives them.
    """
    kernel = ReluKernel(unpack_rows(arrays), values["depth"])
    samples = Samples(kernel.rows, kernel, arrays["codes"], values["n_classes"], np.arange(kernel.n_samples))
    how = {name: values[name] for name in Settings._fields}
    result = solve_set(samples, samples.order_n, Problem(*values["problem"]), SampleSet(*values["part"]), progress=progress, **how)
    return to_arrays(dataclasses.replace(result, positions=arrays["positions"]))


def to_arrays(result: SidesResult | SetResult) -> dict[str, NDArray[Any]]:
    """Return a result as arrays by the names of its fields."""
    return {f.name: np.asarray(getattr(result, f.name)) for f in dataclasses.fields(result)}


@dataclass(frozen=True)
class SetPiece(Piece):
    """All classes at once, of one set of samples or of several."""

    problem: Problem

    vectors = ("diagonal_b", "given_b")
    matrix = "solution_bc"
    result = SetResult

    @property
    def identity(self) -> dict[str, Any]:
        return {"problem": [*self.kernel, *self.problem]}

    @property
    def apart(self) -> bool:
        return self.problem.mode == "partition"

    def block_names(self, codes_n: NDArray[Any]) -> list[str]:
        return [f"part {one.repeat}/{one.number}" for one in plan_sets(self.problem, len(codes_n))]

    def compute(self, samples: Samples, settings: Settings, store: PanelStore | None, progress: Progress) -> Callable[[int], Arrays]:
        sets, members_of = self._sets(samples, settings.seed, progress)
        how: dict[str, Any] = {**settings._asdict(), "store": store, "progress": progress}
        return lambda n: to_arrays(solve_set(samples, members_of(sets[n]), self.problem, sets[n], **how))

    def pack(
        self, samples: Samples, kernel: ReluKernel, numbers: Sequence[int], settings: Settings, progress: Progress
    ) -> tuple[str, list[Block]]:
        rows, codes_n = samples.rows, samples.codes_n
        sets, members_of = self._sets(samples, settings.seed, progress)
        size, itemsize = min(self.problem.block_size, len(codes_n)), rows.values_nd.dtype.itemsize
        one = self.problem._replace(repeats=1)
        cost = problem_cost(one, size, rows.n_features, samples.n_classes, settings.dtype, itemsize)
        values = {"depth": kernel.depth, **settings._asdict(), "n_classes": samples.n_classes}
        names = self.block_names(codes_n)

        def gather(of: SampleSet) -> Arrays:
            positions = members_of(of)
            return {**kernel.rows.pack(positions), "codes": codes_n[positions], "positions": positions}

        blocks = []
        for number in numbers:
            told = {**values, "problem": list(self.problem), "part": list(sets[number])}
            blocks.append(Block(names[number], told, partial(gather, sets[number]), round(cost["memory"]), cost["flops"]))
        return "prune_cli.methods.scores.kernel.pieces.kinds:solve_packed_set", blocks

    def _sets(self, samples: Samples, seed: int, progress: Progress) -> tuple[list[SampleSet], Callable[[SampleSet], IntArray]]:
        return plan_sets(self.problem, len(samples.codes_n)), set_members(samples, self.problem, seed, progress)

    def combine(self, blocks: Sequence[Arrays], codes_n: NDArray[Any], n_classes: int) -> Solution:
        return combine(self.results(blocks), codes_n, n_classes, self.problem)

    def cost(self, codes_n: NDArray[Any], n_features: int, n_classes: int, dtype: str, itemsize: int) -> dict[str, Any]:
        n, problem = len(codes_n), self.problem
        rows = min(problem.block_size, n) if self.apart else n
        blocks = problem.draws * (-(-n // max(rows, 1)) if self.apart else 1)
        return {**problem_cost(problem, n, n_features, n_classes, dtype, itemsize), "blocks": blocks, "rows": rows}

    def words(self, dtype: str) -> str:
        problem = self.problem
        return {
            "exact": f"one Cholesky of the kernel of all rows, in tile columns on disk, for all classes, {dtype}",
            "partition": f"{problem.blocks} blocks of {problem.block_size:,} rows, each exact for all classes, {dtype}",
            "nystrom": f"{problem.landmarks:,} landmarks and a corrected diagonal, for all classes, float64",
        }[problem.mode]


@dataclass(frozen=True)
class SidesPiece(Piece):
    """Each class against draws of the others."""

    draw: SideDraw

    vectors = ("a2_p", "ab_p", "b2_p")
    matrix = None
    result = SidesResult

    @property
    def identity(self) -> dict[str, Any]:
        return {"sampled": [*self.kernel, *self.draw]}

    def block_names(self, codes_n: NDArray[Any]) -> list[str]:
        return [f"{sides.class_code}/{sides.repeat}" for sides in plan_sides(codes_n, self.draw)]

    def _drawn(self, samples: Samples, sides: Sides, seed: int) -> tuple[IntArray, IntArray]:
        return draw_sides(samples.codes_n, samples.order_n, sides, self.draw, seed)

    def compute(self, samples: Samples, settings: Settings, store: PanelStore | None, progress: Progress) -> Callable[[int], Arrays]:
        planned, (seed, device, precision) = plan_sides(samples.codes_n, self.draw), settings
        score = partial(score_sides, ridge=self.draw.ridge, device=device, precision=precision, progress=progress)
        return lambda number: to_arrays(score(samples.kernel, *self._drawn(samples, planned[number], seed)))

    def pack(
        self, samples: Samples, kernel: ReluKernel, numbers: Sequence[int], settings: Settings, progress: Progress
    ) -> tuple[str, list[Block]]:
        rows, planned = samples.rows, plan_sides(samples.codes_n, self.draw)
        names = self.block_names(samples.codes_n)
        values = {"depth": kernel.depth, "ridge": self.draw.ridge, **settings._asdict()}

        def gather(sides: Sides) -> Arrays:
            pos, neg = self._drawn(samples, sides, settings.seed)
            return {**kernel.rows.pack(np.concatenate([neg, pos])), "positions": pos}

        blocks = []
        for number in numbers:
            n_pos, n_neg = sides_size(samples.codes_n, planned[number], self.draw)
            nbytes = sides_memory(n_pos, n_neg, rows.n_features, settings.dtype, rows.values_nd.dtype.itemsize)
            flops = sides_flops(n_pos, n_neg, rows.n_features)
            blocks.append(Block(names[number], values, partial(gather, planned[number]), nbytes, flops))
        return "prune_cli.methods.scores.kernel.pieces.kinds:score_packed_sides", blocks

    def combine(self, blocks: Sequence[Arrays], codes_n: NDArray[Any], n_classes: int) -> Solution:
        return combine_sides(self.results(blocks), len(codes_n), self.draw.repeats)

    def cost(self, codes_n: NDArray[Any], n_features: int, n_classes: int, dtype: str, itemsize: int) -> dict[str, Any]:
        sizes = [sides_size(codes_n, sides, self.draw) for sides in plan_sides(codes_n, self.draw)]
        return {
            "flops": sum(sides_flops(p, n, n_features) for p, n in sizes),
            "memory": max(sides_memory(p, n, n_features, dtype, itemsize) for p, n in sizes),
            "disk": 32 * sum(p for p, _ in sizes),
            "blocks": len(sizes),
            "rows": max(p + n for p, n in sizes),
        }

    def words(self, dtype: str) -> str:
        return f"closed form, one blocked in-place Cholesky per class and repeat, {dtype}"

    def float32_error(self, samples: Samples, settings: Settings) -> float:
        """Return how far float32 is from float64 on a part of the first block; see `sides.float32_error`."""
        sides = self._drawn(samples, plan_sides(samples.codes_n, self.draw)[0], settings.seed)
        return float32_error(samples.kernel, *sides, self.draw.ridge, settings.device)
