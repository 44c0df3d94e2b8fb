"""Blocks of work on this machine: in this process, in threads of it, or in several processes."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence

from prune_cli.core.progress import Progress
from prune_cli.engines.engine import Arrays, Block, takes_long
from prune_cli.engines.pool import Pool
from prune_cli.engines.processes import block_pool, map_in_processes
from prune_cli.engines.threads import ThreadEngine


class LocalEngine:
    """This machine. Processes that it starts within a ``with`` serve all that runs there.

    Args:
        workers: processes or threads at most; with 1 the blocks run in this one.
        memory: bytes that blocks may take at a time.
        cards: the CUDA devices that processes take one each of, as CUDA_VISIBLE_DEVICES names them; none on a CPU.
        started: processes that are there already, for a CPU, and are ended by whoever started them.
    """

    elsewhere = False

    def __init__(self, workers: int = 1, memory: int | None = None, cards: tuple[str, ...] = (), started: Pool | None = None) -> None:
        self.workers, self.memory, self.cards = workers, memory, cards
        self._started = started if not cards else None
        self._stack: contextlib.ExitStack | None = None

    def __enter__(self) -> LocalEngine:
        self._stack = contextlib.ExitStack()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._stack is not None:
            self._stack.close()
        self._stack, self._started = None, None

    def run(
        self, function: str, blocks: Sequence[Block], shared: Arrays, progress: Progress, *, in_threads: bool = False
    ) -> Generator[tuple[int, Arrays], None, None]:
        """Yield (number, arrays) as blocks are done; see `prune_cli.engines.engine.Engine`."""
        workers = 1 if in_threads else self.processes(blocks)
        if workers > 1:
            with self._pool(workers) as pool:
                yield from map_in_processes(function, blocks, shared, pool, workers)
            return
        here = ThreadEngine(self._at_once(1 if self.cards else self.workers, len(blocks), _largest(blocks)))
        yield from here.run(function, blocks, shared, progress, in_threads=in_threads)

    def processes(self, blocks: Sequence[Block]) -> int:
        """Return how many processes these blocks are worth, and have the memory for."""
        return self.worth(len(blocks), _largest(blocks), sum(block.flops for block in blocks))

    def worth(self, n_blocks: int, nbytes: int, flops: float) -> int:
        """Return how many processes so many blocks, the largest of so many bytes, are worth, and have the memory for."""
        return self._at_once(len(self.cards) or self.workers, n_blocks, nbytes) if takes_long(flops) else 1

    def _at_once(self, wanted: int, n_blocks: int, nbytes: int) -> int:
        room = n_blocks if self.memory is None or not nbytes else self.memory // nbytes
        return max(1, min(wanted, n_blocks, room))

    def _pool(self, workers: int) -> contextlib.AbstractContextManager[Pool]:
        if self._started is None:
            pool = block_pool(workers, self.cards)
            if self._stack is None:
                return pool
            self._started = self._stack.enter_context(pool)
        return contextlib.nullcontext(self._started)


def _largest(blocks: Sequence[Block]) -> int:
    return max((block.nbytes for block in blocks), default=0)
