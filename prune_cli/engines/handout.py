"""Blocks of work handed out to an engine: independent, finished once, the same bits wherever they run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from prune_cli.core.progress import Progress, silent
from prune_cli.engines.engine import Arrays, Block, Engine, takes_long
from prune_cli.engines.threads import ThreadEngine, run_block


class BlockStore(Protocol):
    """Where finished blocks are kept."""

    def has(self, block: str) -> bool:
        """Return whether a block is finished."""

    def get(self, block: str) -> dict[str, np.ndarray] | None:
        """Return a finished block's arrays, or None."""

    def put(self, block: str, arrays: Arrays) -> None:
        """Keep a finished block's arrays, whole or not at all."""


@dataclass(frozen=True)
class MapBlocks:
    """Calls a function on every block.

    Args:
        store: finished blocks, which are not computed again; None: none are kept.
        progress: told how many of all blocks there are results of; first of those that the store had.
        keep_all: keep results of work that takes no time worth speaking of, too.
        prefix: of the names that blocks get, for work that is done several times in a run.
    """

    engine: Engine = field(default_factory=ThreadEngine)
    store: BlockStore | None = None
    progress: Progress = silent
    keep_all: bool = True
    prefix: str = ""

    @property
    def elsewhere(self) -> bool:
        """Whether blocks go to other machines, where what this process holds must be sent to."""
        return self.engine.elsewhere

    def named(self, prefix: str) -> MapBlocks:
        """Return what hands out blocks under longer names."""
        return dataclasses.replace(self, prefix=self.prefix + prefix)

    def __call__(
        self,
        task: str,
        function: str,
        blocks: Sequence[Block],
        *,
        shared: Arrays | None = None,
        in_threads: bool = False,
        within: Progress = silent,
    ) -> Generator[dict[str, np.ndarray], None, None]:
        """Yield the answers in the order of the blocks, the caller's to take apart.

        Args:
            task: what progress calls it.
            function, in_threads: see `Engine.run`.
            blocks: independent of one another.
            shared: arrays that every block has beside its own.
            within: told how far a block is, where it can be.
        """
        blocks = [dataclasses.replace(block, name=f"{self.prefix}{block.name}") for block in blocks]
        store = self.store if self.keep_all or takes_long(sum(block.flops for block in blocks)) else None
        missing = [n for n, block in enumerate(blocks) if store is None or not store.has(block.name)]
        common, computed = shared or {}, set(missing)
        there = len(blocks) - len(missing)
        self.progress(task, there, len(blocks))
        early: dict[int, Arrays] = {}
        running = self.engine.run(function, [blocks[n] for n in missing], common, within, in_threads=in_threads)
        with contextlib.closing(running):
            for number, block in enumerate(blocks):
                while number in computed and number not in early:
                    place, arrays = next(running)
                    if store is not None and block.kept:
                        store.put(blocks[missing[place]].name, arrays)
                    early[missing[place]] = arrays
                    there += 1
                    self.progress(task, there, len(blocks))
                found = early.pop(number, None)
                if found is None and store is not None:
                    found = store.get(block.name)
                if found is None:  # it was kept, and is damaged
                    found = run_block(function, block.values, {**common, **block.gather()}, within)
                yield dict(found)


def blocks_here(progress: Progress = silent, on_threads: bool = True) -> MapBlocks:
    """Return what hands out blocks in this process, for whoever calls a method without an engine.

    Args:
        on_threads: False where blocks compute on a CUDA device.
    """
    return MapBlocks(ThreadEngine(None if on_threads else 1), progress=progress)
