"""Blocks of work in this process: one after the other, or several at a time on threads."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from prune_cli.core.progress import Progress, silent
from prune_cli.engines.engine import Arrays, Block
from prune_cli.engines.serving import resolve

_Task = TypeVar("_Task")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class ThreadEngine:
    """This process; see `prune_cli.engines.engine.Engine`.

    Args:
        threads: how many blocks run at a time where threads are meant; None: as many as torch has.
    """

    threads: int | None = None
    elsewhere: ClassVar[bool] = False

    def run(
        self, function: str, blocks: Sequence[Block], shared: Arrays, progress: Progress, *, in_threads: bool = False
    ) -> Generator[tuple[int, Arrays], None, None]:
        """Yield (number, arrays) in the order of the blocks."""
        run = resolve(function)
        with one_thread() as of_torch:
            at_once = (self.threads or of_torch) if in_threads else 1
            within = progress if at_once == 1 else silent  # of several blocks at a time nobody could make sense

            def compute(task: tuple[int, Block, Arrays]) -> Arrays:
                return run(task[1].values, {**shared, **task[2]}, within)  # type: ignore[no-any-return]

            tasks = ((number, block, block.gather()) for number, block in enumerate(blocks))
            for (number, _, _), arrays in in_order(compute, tasks, at_once):
                yield number, arrays


def run_block(function: str, values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> Arrays:
    """Return what a function makes of a block, on one thread."""
    with one_thread():
        return resolve(function)(values, arrays, progress)  # type: ignore[no-any-return]


@contextlib.contextmanager
def one_thread() -> Iterator[int]:
    """Let torch compute each product on one thread, and yield how many it had."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def in_order(compute: Callable[[_Task], _Answer], tasks: Iterable[_Task], threads: int) -> Iterator[tuple[_Task, _Answer]]:
    """Yield each task with its answer, in order; a few are computed ahead, on threads.

    Args:
        compute: called in a thread, where torch computes on that one alone, or in this one where there is one only.
        tasks: taken from here a few ahead of the answers.
    """
    if threads <= 1:
        for task in tasks:
            yield task, compute(task)
        return
    import torch

    with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
        begun: collections.deque[tuple[_Task, Future[_Answer]]] = collections.deque()
        try:
            for task in tasks:
                begun.append((task, pool.submit(compute, task)))
                if len(begun) > threads:
                    first, future = begun.popleft()
                    yield first, future.result()
            while begun:
                first, future = begun.popleft()
                yield first, future.result()
        finally:
            for _, future in begun:
                future.cancel()
