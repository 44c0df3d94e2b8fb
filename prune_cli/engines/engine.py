"""Blocks of work, and an engine: where they run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from prune_cli.core.progress import Progress

Arrays: TypeAlias = Mapping[str, np.ndarray]

_FLOPS_A_SECOND = 3e10
_WORTH_PROCESSES = 10.0
"""Seconds of work on one core below which starting processes would cost more than they save."""


@dataclass(frozen=True)
class Block:
    """One unit of work, for a function of ours that depends on nothing else.

    The function is named by its import path, ``module:name``, and called as ``f(values, arrays, progress) -> arrays``. It changes none
    of its arrays.

    Args:
        name: unique within the run; what its result is kept under.
        values: JSON values.
        gather: returns its arrays; called when the block is handed out, so that those of all blocks are never held at once.
        nbytes: memory it takes at most, its arrays included; 0 where that is not known.
        flops: about how much there is to compute.
        kept: whether its result is worth keeping.
    """

    name: str
    values: Mapping[str, Any]
    gather: Callable[[], Arrays]
    nbytes: int = 0
    flops: float = 0.0
    kept: bool = True


@dataclass(frozen=True)
class BlockWork:
    """What blocks will come to.

    Args:
        count: how many, about.
        nbytes: memory of the largest.
    """

    count: int
    nbytes: int
    flops: float

    def __add__(self, other: BlockWork) -> BlockWork:
        """Return what both come to, one after the other."""
        return BlockWork(self.count + other.count, max(self.nbytes, other.nbytes), self.flops + other.flops)


def takes_long(flops: float) -> bool:
    """Return whether so much work takes so long that it is worth processes, and being kept."""
    return flops >= _WORTH_PROCESSES * _FLOPS_A_SECOND


class Engine(Protocol):
    """Where blocks run, each on one thread: how a sum is split over threads reaches its last digits, and the machine must not."""

    @property
    def elsewhere(self) -> bool:
        """Whether that is on other machines, where what this process holds must be sent to."""

    def run(
        self, function: str, blocks: Sequence[Block], shared: Arrays, progress: Progress, *, in_threads: bool = False
    ) -> Generator[tuple[int, Arrays], None, None]:
        """Yield (number of the block, what the function made of it) as blocks are done, in whatever order that is.

        Args:
            function: import path of what blocks are for; see `Block`.
            blocks: handed out in their order.
            shared: arrays that every block has beside its own.
            in_threads: on this machine threads do as well as processes, which arrays would have to be copied to.
        """
