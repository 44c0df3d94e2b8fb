"""Blocks of work on this machine: in this process, or in several."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prune_cli.core.blocks import Arrays, Block
from prune_cli.core.progress import Progress
from prune_cli.engines.blocks import run_block
from prune_cli.engines.processes import Workers, block_workers, map_in_processes

_FLOPS_A_SECOND = 3e10
_WORTH_PROCESSES = 10.0
"""Seconds of work on one core below which starting processes would cost more than they save."""


@dataclass(frozen=True)
class LocalEngine:
    """This machine.

    Args:
        workers: processes at most; with 1 the blocks run in this one.
        memory: bytes that blocks may take at a time.
        cards: the CUDA devices that processes take one each of, as CUDA_VISIBLE_DEVICES names them; none on a CPU.
        started: processes that are there already, for a CPU, and are ended by whoever started them.
    """

    workers: int = 1
    memory: int | None = None
    cards: tuple[str, ...] = ()
    started: Workers | None = None

    def run(
        self, function: str, blocks: Sequence[Block], shared: Arrays, progress: Progress
    ) -> Iterator[tuple[int, Arrays]]:
        """Yield (number, arrays) as blocks are done; see `prune_cli.engines.blocks.Engine`."""
        workers = self.processes(blocks)
        if workers > 1:
            there = self.started is not None and not self.cards
            with contextlib.nullcontext(self.started) if there else block_workers(workers, self.cards) as pool:
                assert pool is not None
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
        if flops < _WORTH_PROCESSES * _FLOPS_A_SECOND:
            return 1
        room = n_blocks if self.memory is None or not nbytes else self.memory // nbytes
        return max(1, min(len(self.cards) or self.workers, n_blocks, room))
