"""Blocks of work on this machine: in this process, in threads of it, or in several processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import TracebackType

from prune_cli.core.progress import Progress, silent
from prune_cli.engines.blocks import one_thread, run_block
from prune_cli.engines.processes import Workers, block_workers, map_in_processes
from prune_cli.engines.work import Arrays, Block, in_order, resolve

_FLOPS_A_SECOND = 3e10
_WORTH_PROCESSES = 10.0
"""Seconds of work on one core below which starting processes would cost more than they save."""


class LocalEngine:
    """This machine. Processes that it starts within a ``with`` serve all that runs there.

    Args:
        workers: processes or threads at most; with 1 the blocks run in this one.
        memory: bytes that blocks may take at a time.
        cards: the CUDA devices that processes take one each of, as CUDA_VISIBLE_DEVICES names them; none on a CPU.
        started: processes that are there already, for a CPU, and are ended by whoever started them.
    """

    elsewhere = False

    def __init__(
        self, workers: int = 1, memory: int | None = None, cards: tuple[str, ...] = (), started: Workers | None = None
    ) -> None:
        self.workers, self.memory, self.cards = workers, memory, cards
        self._started = started if not cards else None
        self._stack: contextlib.ExitStack | None = None

    def __enter__(self) -> LocalEngine:
        self._stack = contextlib.ExitStack()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._stack is not None
        self._stack.close()
        self._stack, self._started = None, None

    def run(
        self, function: str, blocks: Sequence[Block], shared: Arrays, progress: Progress, *, in_threads: bool = False
    ) -> Iterator[tuple[int, Arrays]]:
        """Yield (number, arrays) as blocks are done; see `prune_cli.engines.blocks.Engine`."""
        if in_threads:
            yield from self._run_in_threads(function, blocks, shared)
            return
        workers = self.processes(blocks)
        if workers > 1:
            with self._pool(workers) as pool:
                yield from map_in_processes(function, blocks, shared, pool, workers)
            return
        for number, block in enumerate(blocks):
            yield number, run_block(function, block.values, {**shared, **block.gather()}, progress)

    def processes(self, blocks: Sequence[Block]) -> int:
        """Return how many processes these blocks are worth, and have the memory for."""
        largest = max((block.nbytes for block in blocks), default=0)
        return self.worth(len(blocks), largest, sum(block.flops for block in blocks))

    def worth(self, n_blocks: int, nbytes: int, flops: float) -> int:
        """Return how many processes so many blocks, the largest of so many bytes, are worth, and have the memory for."""
        if not takes_long(flops):
            return 1
        return max(1, min(len(self.cards) or self.workers, n_blocks, self._room(n_blocks, nbytes)))

    def _room(self, n_blocks: int, nbytes: int) -> int:
        return n_blocks if self.memory is None or not nbytes else self.memory // nbytes

    def _pool(self, workers: int) -> contextlib.AbstractContextManager[Workers]:
        if self._started is not None:
            return contextlib.nullcontext(self._started)
        pool = block_workers(workers, self.cards)
        if self._stack is None:
            return pool
        self._started = self._stack.enter_context(pool)
        return contextlib.nullcontext(pool)

    def _run_in_threads(self, function: str, blocks: Sequence[Block], shared: Arrays) -> Iterator[tuple[int, Arrays]]:
        run = resolve(function)
        largest = max((block.nbytes for block in blocks), default=0)
        at_once = 1 if self.cards else self.workers
        threads = max(1, min(at_once, len(blocks), self._room(len(blocks), largest)))

        def compute(task: tuple[int, Block, Arrays]) -> Arrays:
            return run(task[1].values, {**shared, **task[2]}, silent)  # type: ignore[no-any-return]

        with one_thread():
            tasks = ((number, block, block.gather()) for number, block in enumerate(blocks))
            for (number, _, _), arrays in in_order(compute, tasks, threads, _compute_alone):
                yield number, arrays


def takes_long(flops: float) -> bool:
    """Return whether so much work takes so long that it is worth processes, and being kept."""
    return flops >= _WORTH_PROCESSES * _FLOPS_A_SECOND


def _compute_alone() -> None:
    import torch

    torch.set_num_threads(1)
