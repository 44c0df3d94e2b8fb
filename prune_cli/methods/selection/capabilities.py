"""What the parameters of a method may offer beside their values: each is a function, and having it says that the method can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from prune_cli.engines.engine import BlockWork


@dataclass(frozen=True)
class ProblemSize:
    """The size of a run that is planned.

    Args:
        rows: how many samples there are.
        width: numbers of a vector.
        n_classes: 1 or more.
        counts: how many to choose.
        held: bytes of the vectors that are in memory together.
        memory: bytes that may be used beside these.
        work_of: what the blocks of another method, which is named, come to with its defaults, inside each class.
    """

    rows: int
    width: int
    n_classes: int
    counts: Sequence[int]
    held: int = 0
    memory: int = 0
    work_of: Callable[[str], BlockWork | None] = lambda name: None


@runtime_checkable
class InBlocks(Protocol):
    """Of a method that hands its work out in blocks."""

    def block_work(self, problem: ProblemSize) -> BlockWork | None:
        """Return what the blocks come to; None where a problem of this size has none."""


@runtime_checkable
class HoldsMemory(Protocol):
    """Of a method that holds more than the vectors."""

    def extra_bytes(self, problem: ProblemSize) -> int:
        """Return the bytes it holds beside the vectors, at most."""


@runtime_checkable
class Explained(Protocol):
    """Of a method of which there is more to say in a plan."""

    def plan(self, problem: ProblemSize) -> dict[str, Any]:
        """Return more figures of ``--plan`` by name."""


@runtime_checkable
class ByThreshold(Protocol):
    """Of a method that can choose all samples at or beyond a difficulty, where no budget is given."""

    def beyond(self, difficulty_n: np.ndarray, bound: float) -> np.ndarray:
        """Return (N,) bool, which samples are at or beyond the bound."""


@runtime_checkable
class ByAngle(Protocol):
    """Of a method that may divide vectors by their lengths, so that one of zeros is none."""

    def by_angle(self) -> bool:
        """Return whether it does."""


@runtime_checkable
class Compares(Protocol):
    """Of a method that runs others, with their defaults."""

    def names(self) -> list[str]:
        """Return their names."""


@runtime_checkable
class MayNest(Protocol):
    """Of a method of which it depends on the parameters whether an answer holds that for every smaller budget."""

    def nests(self) -> bool:
        """Return whether it does."""
