"""What is solved for all classes at once, and the sets of samples it is solved in.

`exact` takes all samples as one set, `partition` many sets of a given size, `nystrom` all samples against landmarks. A set needs
nothing of any other: sets are solved in any order, anywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

from prune_cli.core.progress import Progress, silent
from prune_cli.methods.arrays import IntArray
from prune_cli.methods.partition import random_parts, two_means_parts
from prune_cli.methods.scores.kernel.params import KernelParams, Mode
from prune_cli.methods.scores.kernel.samples import Samples


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

    @property
    def draws(self) -> int:
        """How many sets each sample is in: the repeats, and one where nothing is drawn."""
        return 1 if self.mode == "exact" else self.repeats


class SampleSet(NamedTuple):
    """One unit of work: a set of samples of one repeat, by its number."""

    repeat: int
    number: int


def problem_of(params: KernelParams, mode: Mode, ridge: float, predictions: bool) -> Problem:
    """Return what is to be solved under these parameters."""
    return Problem(mode, ridge, predictions, params.block_size, params.blocks, params.landmarks, params.repeats)


def plan_sets(problem: Problem, n_samples: int) -> list[SampleSet]:
    """Return the units of work, repeat by repeat."""
    count = -(-n_samples // problem.block_size) if problem.mode == "partition" else 1
    return [SampleSet(repeat, number) for repeat in range(problem.draws) for number in range(count)]


def set_members(
    samples: Samples, problem: Problem, seed: int, progress: Progress = silent
) -> Callable[[SampleSet], IntArray]:
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
