"""What is solved for all classes at once and in which numbers, the sets of samples it is solved in, and what all of them together give."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import FloatArray, IntArray
from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.methods.partition import random_parts, two_means_parts
from prune_cli.methods.scores.kernel.params import Mode
from prune_cli.methods.scores.kernel.samples import Samples

if TYPE_CHECKING:
    import torch


def item_size(precision: str) -> int:
    """Return the bytes of a number in that precision.

    Raises:
        InputError: no precision that a kernel is factored in.
    """
    sizes = {"auto": 8, "float64": 8, "float32": 4}
    if precision not in sizes:
        raise InputError(f"--precision {precision!r} is not for a kernel", f"use {', '.join(sizes)}")
    return sizes[precision]


def torch_dtype(precision: str) -> torch.dtype:
    """Return the dtype that a kernel is factored in."""
    import torch

    return torch.float64 if item_size(precision) == 8 else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype."""
    return str(dtype).removeprefix("torch.")


class Problem(NamedTuple):
    """What is solved: how, and with what on the diagonal.

    Args:
        mode: see `KernelParams`.
        predictions: whether all classes are wanted, or the given one alone.
    """

    mode: Mode
    ridge: float
    predictions: bool
    block_size: int = 8192
    blocks: Literal["random", "kmeans"] = "random"
    landmarks: int = 2048
    repeats: int = 1

    @property
    def draws(self) -> int:
        """How many sets each sample is in: the repeats, and one where nothing is drawn."""
        return 1 if self.mode == "exact" else self.repeats


class SampleSet(NamedTuple):
    """One unit of work: a set of samples of one repeat, by its number."""

    repeat: int
    number: int


def plan_sets(problem: Problem, n_samples: int) -> list[SampleSet]:
    """Return the units of work, repeat by repeat."""
    count = -(-n_samples // problem.block_size) if problem.mode == "partition" else 1
    return [SampleSet(repeat, number) for repeat in range(problem.draws) for number in range(count)]


def set_members(samples: Samples, problem: Problem, seed: int, progress: Progress = silent) -> Callable[[SampleSet], IntArray]:
    """Return what gives the (B,) positions of a set, in canonical order; sets have as many samples as can be in each.

    The samples of a repeat are divided once, when its first set is asked for.
    """

    @functools.lru_cache(maxsize=1)
    def divided(repeat: int) -> list[IntArray]:
        if problem.mode != "partition":
            return [samples.order_n]
        count = -(-len(samples.order_n) // problem.block_size)
        if problem.blocks == "random":
            return random_parts(samples.order_n, count, seed, repeat)
        return [part.core for part in two_means_parts(samples.rows, samples.order_n, count, seed, repeat, progress)]

    return lambda one: divided(one.repeat)[one.number]


@dataclass(frozen=True, eq=False)
class SetResult:
    """What one set found.

    Args:
        positions: (B,) int64, the samples, in canonical order.
        diagonal_b: (B,) float64, G_ii.
        given_b: (B,) float64, (G Y)_i of the given class.
        solution_bc: (B, C) float64, (G Y)_i; (B, 0) where the given class alone is wanted.
        smallest_pivot, jitter, duplicates: as `Factored`.
        residual: as `Inverse`.
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
    """What all sets found, averaged over the repeats.

    Args:
        gap_n, a2_n, ab_n, b2_n: (N,) float64: the complexity gap and its terms.
        loo_nc: (N, C) float64: leave-one-out predictions, about -1 to 1; None where they were not wanted.
    """

    gap_n: FloatArray
    a2_n: FloatArray
    ab_n: FloatArray
    b2_n: FloatArray
    loo_nc: FloatArray | None


def combine(results: Iterable[SetResult], codes_n: NDArray[Any], n_classes: int, problem: Problem) -> Solution:
    """Return what all sets of all repeats say of each sample, averaged over the repeats.

    The order of the results reaches no more than the last digits of the predictions.

    Raises:
        InputError: a sample came in more or fewer sets than there are repeats.
    """
    n_samples, repeats = len(codes_n), problem.draws
    seen_n = np.zeros(n_samples, np.int64)
    terms = np.full((4, repeats, n_samples), np.nan)
    loo_nc = np.zeros((n_samples, n_classes)) if problem.predictions else None
    for result in results:
        p, d, a = result.positions, result.diagonal_b, result.given_b
        if (seen_n[p] >= repeats).any():
            raise InputError(f"a sample came in more than {repeats} part(s)", "combine each part once")
        b = a - d
        terms[:, seen_n[p], p] = a * a / d, b * b / d, 2.0 * b, d
        if loo_nc is not None:
            signs = np.full(result.solution_bc.shape, -1.0)
            signs[np.arange(len(p)), codes_n[p]] = 1.0
            loo_nc[p] += (signs - result.solution_bc / d[:, None]) / repeats
        seen_n[p] += 1
    if (seen_n != repeats).any():
        raise InputError(f"a sample came in fewer than {repeats} part(s)", "combine all parts")
    gap_n, a2_n, ab_n, b2_n = np.sort(terms, axis=1).mean(axis=1)
    return Solution(gap_n, a2_n, ab_n, b2_n, loo_nc)
