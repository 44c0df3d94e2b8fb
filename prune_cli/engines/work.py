"""A block of work: what may be done anywhere, in any order, and is the same wherever it is done."""

from __future__ import annotations

import collections
import dataclasses
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

Arrays: TypeAlias = Mapping[str, np.ndarray]
_Task = TypeVar("_Task")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Block:
    """One unit of work, for a function of ours that is named by its import path, ``module:name``, and depends on nothing else.

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
        flops: of all.
    """

    count: int
    nbytes: int
    flops: float

    def __add__(self, other: BlockWork) -> BlockWork:
        """Return what both come to, one after the other."""
        return BlockWork(self.count + other.count, max(self.nbytes, other.nbytes), self.flops + other.flops)


class MapBlocks(Protocol):
    """Calls a function on the values and arrays of every block, somewhere."""

    @property
    def elsewhere(self) -> bool:
        """Whether blocks go to other machines, where what this process holds must be sent to."""

    def __call__(
        self,
        task: str,
        function: str,
        blocks: Sequence[Block],
        *,
        shared: Arrays | None = None,
        in_threads: bool = False,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the answers in the order of the blocks, the caller's to take apart.

        Args:
            task: what progress calls it.
            function: ``module:name`` of ``f(values, arrays) -> arrays``, which changes none of its arrays.
            blocks: independent of one another.
            shared: arrays that every block has beside its own.
            in_threads: on this machine threads do as well as processes, which arrays would have to be copied to.
        """


def named(map_blocks: MapBlocks, prefix: str) -> MapBlocks:
    """Return what hands out blocks under longer names, for work that is done several times in a run."""
    return _Named(map_blocks, prefix)


@dataclass(frozen=True)
class _Named:
    map_blocks: MapBlocks
    prefix: str

    @property
    def elsewhere(self) -> bool:
        return self.map_blocks.elsewhere

    def __call__(
        self,
        task: str,
        function: str,
        blocks: Sequence[Block],
        *,
        shared: Arrays | None = None,
        in_threads: bool = False,
    ) -> Iterator[dict[str, np.ndarray]]:
        longer = [dataclasses.replace(block, name=f"{self.prefix}{block.name}") for block in blocks]
        return self.map_blocks(task, function, longer, shared=shared, in_threads=in_threads)


def resolve(function: str) -> Callable[..., Any]:
    """Return the function of an import path.

    Raises:
        ValueError: it lies outside this package.
    """
    module, _, name = function.partition(":")
    if not module.startswith("prune_cli."):
        raise ValueError(f"{function} is not ours")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def in_order(
    compute: Callable[[_Task], _Answer],
    tasks: Iterable[_Task],
    threads: int,
    start: Callable[[], None] | None = None,
    ahead: int = 1,
) -> Iterator[tuple[_Task, _Answer]]:
    """Yield each task with its answer, in order; a few are computed ahead, on threads.

    Args:
        compute: called in a thread, or in this one where there is one only.
        tasks: taken from here a few ahead of the answers.
        threads: how many compute at a time.
        start: called first in every thread.
        ahead: tasks that wait for a thread to be free, at most.
    """
    if threads <= 1:
        for task in tasks:
            yield task, compute(task)
        return
    with ThreadPoolExecutor(threads, initializer=start) as pool:
        begun: collections.deque[tuple[_Task, Future[_Answer]]] = collections.deque()
        try:
            for task in tasks:
                begun.append((task, pool.submit(compute, task)))
                if len(begun) >= threads + ahead:
                    first, future = begun.popleft()
                    yield first, future.result()
            while begun:
                first, future = begun.popleft()
                yield first, future.result()
        finally:
            for _, future in begun:
                future.cancel()
