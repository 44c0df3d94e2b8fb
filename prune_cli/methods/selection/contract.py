"""What a selection method takes and gives: candidates and a run in, an order of those to keep out; what its parameters may offer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from prune_cli.core.arrays import VectorBatch
from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.sorting import sort_within_runs
from prune_cli.engines.handout import MapBlocks, blocks_here
from prune_cli.methods.devices import resolve_device

BEYOND = "beyond the budget"


class Features(Protocol):
    """A vector of every candidate, in memory or read from a file batch by batch."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""

    @property
    def ordered(self) -> bool:
        """Whether batches come in the order that is asked for."""

    def batches(self, rows: int, order_n: np.ndarray) -> Sequence[VectorBatch]:
        """Return batches of so many rows at most, each position once: in the order given where it can be, else of all there are."""

    def array(self) -> np.ndarray:
        """Return all rows, (N, D) float32.

        Raises:
            InputError: they do not fit the memory.
        """

    def take(self, positions: np.ndarray) -> Features:
        """Return the features of some candidates, numbered as these positions are."""


class ArrayFeatures:
    """Features that are in memory.

    Args:
        values_nd: (N, D) float32, finite.
    """

    def __init__(self, values_nd: np.ndarray) -> None:
        self._values_nd = values_nd

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return self._values_nd.shape[0], self._values_nd.shape[1]

    ordered = True

    def batches(self, rows: int, order_n: np.ndarray) -> Sequence[VectorBatch]:
        """Return batches in the order given."""
        return [self._batch(order_n[start : start + rows]) for start in range(0, len(order_n), rows)]

    def _batch(self, positions: np.ndarray) -> VectorBatch:
        return VectorBatch(positions, lambda: self._values_nd[positions])

    def array(self) -> np.ndarray:
        """Return all rows, not a copy."""
        return self._values_nd

    def take(self, positions: np.ndarray) -> ArrayFeatures:
        """Return a copy of some rows."""
        return ArrayFeatures(self._values_nd[positions])


def read_batches(features: Features, rows: int, order_n: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions (B,) and their vectors (B, D) float32, of so many rows at most, as `Features.batches` has them."""
    for batch in features.batches(rows, order_n):
        yield batch.positions, batch.read()


@dataclass(frozen=True)
class Candidates:
    """The samples to choose from, numbered 0 to N - 1, and those that are kept whatever is chosen.

    Args:
        order_n: (N,) positions by ascending id, int64, or int32 where there are no features; ties and random draws go by it.
        difficulty_n: (N,) float64, high = hard, or None where no score is at hand.
        tie_n: (N,) float64, high = hard: a second score for samples whose first is equal, or None.
        columns: other columns of the score file by name, each (N,) float64, for methods that want more than one.
        codes_n: (N,) class of each sample, -1 for none, int64, or a smaller type where there are no features; None where there are
            no labels.
        features: a vector of each sample, or None.
        kept_n: (N,) bool: kept already, to be taken into account and not to be returned.
        probabilities: what a model says of each sample, (N, C), or None.
    """

    order_n: np.ndarray
    difficulty_n: np.ndarray | None = None
    tie_n: np.ndarray | None = None
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    codes_n: np.ndarray | None = None
    features: Features | None = None
    kept_n: np.ndarray | None = None
    probabilities: Features | None = None

    def __len__(self) -> int:
        return len(self.order_n)

    @property
    def kept(self) -> np.ndarray:
        """(N,) bool, all False where nothing is kept already."""
        return np.zeros(len(self), bool) if self.kept_n is None else self.kept_n

    def free(self) -> np.ndarray:
        """Return the positions that can be chosen, by ascending id."""
        return self.order_n if self.kept_n is None else self.order_n[~self.kept_n[self.order_n]]

    def hardest_first(self, method: str) -> np.ndarray:
        """Return the positions that can be chosen, hardest first; ties by the second score, then by id."""
        return self._by_difficulty(method, descending=True)

    def easiest_first(self, method: str) -> np.ndarray:
        """Return the positions that can be chosen, easiest first; ties by the second score, then by id."""
        return self._by_difficulty(method, descending=False)

    def _by_difficulty(self, method: str, *, descending: bool) -> np.ndarray:
        order_n = self.free().copy()
        first_n = np.zeros(len(order_n), bool)
        first_n[:1] = True
        for key_n in (self.difficulty(method), self.tie_n):
            if key_n is not None:
                sort_within_runs(order_n, first_n, key_n, descending=descending, kind="stable")
        return order_n

    def difficulty(self, method: str) -> np.ndarray:
        """Return (N,) float64, high = hard, or say that there is none."""
        if self.difficulty_n is None:
            raise InputError(f"{method} needs a score column", "make one: prune score DATA --method cg")
        return self.difficulty_n

    def codes(self, method: str) -> np.ndarray:
        """Return (N,) int64 class codes, 0 or more, or say which is missing."""
        if self.codes_n is None:
            raise InputError(f"{method} needs labels", "name their column with --label-column")
        missing = int((self.codes_n < 0).sum())
        if missing:
            raise InputError(f"{method} needs a label of every row, {missing:,} have none", "drop them: --drop FILE")
        return self.codes_n

    def vectors(self, method: str) -> Features:
        """Return the features, or say that there are none."""
        if self.features is None:
            raise InputError(f"{method} needs features", "pass --features FILE with a column 'embedding'")
        return self.features

    def take(self, positions: np.ndarray) -> Candidates:
        """Return some of the candidates, numbered as these positions are; ids keep their order."""
        number = np.full(len(self), -1, np.int64)
        number[positions] = np.arange(len(positions))
        order_n = number[self.order_n]

        def some(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[positions]

        return Candidates(
            order_n[order_n >= 0],
            some(self.difficulty_n),
            some(self.tie_n),
            {name: values[positions] for name, values in self.columns.items()},
            some(self.codes_n),
            None if self.features is None else self.features.take(positions),
            some(self.kept_n),
            None if self.probabilities is None else self.probabilities.take(positions),
        )


@dataclass(frozen=True)
class Ranking:
    """An answer: positions, kept first to kept last.

    Args:
        order_n: (M,) int64 positions. Of a nested method the first k are its answer for the budget k, for every k up to M;
            of another, its first ``count`` are the answer for that count.
        skipped: how many at the end are there only because the method skips them.
        gain_n: (M,) float64, what each added when it was chosen, or None.
        reason: why a row is out that is not chosen.
        skipped_reason: why a row is out that the method skips.
    """

    order_n: np.ndarray
    skipped: int = 0
    gain_n: np.ndarray | None = None
    reason: str = BEYOND
    skipped_reason: str = "skipped by the offset"


@dataclass(frozen=True)
class Curve:
    """What a method tried for each budget, a row a trial.

    Args:
        budget: (R,) int64 index of the budget.
        start: (R,) float64 share of the ranked samples that are harder than the trial, or NaN.
        window_start: (R,) int64 rank of the first sample of the trial, 0 = hardest, or -1.
        name: what was tried, R strings.
        proxy_accuracy: (R,) float64 share of all samples that the proxy gets right.
        best: (R,) bool the trial that was taken.
        random_accuracy: for each budget the proxy's accuracy on class-balanced random draws, or nothing.
    """

    budget: np.ndarray
    start: np.ndarray
    window_start: np.ndarray
    name: Sequence[str]
    proxy_accuracy: np.ndarray
    best: np.ndarray
    random_accuracy: Sequence[np.ndarray] = ()


@dataclass(frozen=True)
class Extra:
    """What a method can say of a budget beside whom it keeps.

    Args:
        columns: a number of every sample by name, each (N,) float64.
        figures: numbers of the whole choice by name.
        way: how it was computed, in words.
    """

    columns: dict[str, np.ndarray]
    figures: dict[str, float]
    way: str = ""


@dataclass(frozen=True)
class Choice:
    """What a selection method returns.

    Args:
        rankings: one for each count asked for; the same one for all where the method is nested.
        curve: what was tried, for methods that try.
        extras: what else there is to say of each count, or nothing.
    """

    rankings: tuple[Ranking, ...]
    curve: Curve | None = None
    extras: tuple[Extra, ...] = ()


def nested(ranking: Ranking, counts: Sequence[int]) -> Choice:
    """Return the choice of a method whose answer for a budget holds its answer for every smaller one."""
    return Choice((ranking,) * len(counts))


def _no_other(name: str, candidates: Candidates, run: Run) -> Choice:
    raise InputError(f"method '{name}' is not at hand here", "run it by its name, as choosing.choose does")


@dataclass(frozen=True)
class Run:
    """What a method is told of the run that it is part of; each takes of it what it wants.

    Args:
        counts: how many to choose, each at most the number of samples that are free.
        device: where methods that use torch compute.
        per_class: keep the proportion of the classes; given only to methods that see to it themselves.
        memory: bytes that may be used beside the samples; None: most of what is free.
        map_blocks: hands out blocks of work; None: they run in this process.
        choose: runs another method, which is named, with its defaults.
    """

    counts: Sequence[int] = ()
    seed: int = 0
    device: str = "auto"
    progress: Progress = silent
    per_class: bool = False
    memory: int | None = None
    map_blocks: MapBlocks | None = None
    choose: Callable[[str, Candidates, Run], Choice] = _no_other

    @property
    def hand_out(self) -> MapBlocks:
        """What runs blocks of work: on threads of this process where nothing else was given and they compute on its CPU."""
        return self.map_blocks or blocks_here(self.progress, resolve_device(self.device).type == "cpu")

    def named(self, prefix: str) -> Run:
        """Return the same run with longer names of blocks, for work that is done several times."""
        if self.map_blocks is None:
            return self
        return dataclasses.replace(self, map_blocks=self.map_blocks.named(prefix))
