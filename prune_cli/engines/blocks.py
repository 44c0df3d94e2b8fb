"""Blocks of work: independent, finished once, the same bits wherever they run.

Every block runs on one thread: how a sum is split over threads reaches its last digits, and the machine must not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from prune_cli.core.progress import Progress, silent
from prune_cli.engines.work import Arrays, Block, resolve


class Engine(Protocol):
    """Where blocks run."""

    @property
    def elsewhere(self) -> bool:
        """Whether that is on other machines."""

    def run(
        self, function: str, blocks: Sequence[Block], shared: Arrays, progress: Progress, *, in_threads: bool = False
    ) -> Iterator[tuple[int, Arrays]]:
        """Yield (number of the block, what the function made of it) as blocks are done, in whatever order that is.

        Args:
            function: ``module:name`` of ``f(values, arrays, progress) -> arrays`` within this package.
            blocks: handed out in their order.
            shared: arrays that every block has beside its own.
            progress: told how far a block is, where it can be.
            in_threads: threads of this process do as well as other processes.
        """


class BlockStore(Protocol):
    """Where finished blocks are kept."""

    def has(self, block: str) -> bool:
        """Return whether a block is finished."""

    def get(self, block: str) -> dict[str, np.ndarray] | None:
        """Return a finished block's arrays, or None."""

    def put(self, block: str, arrays: Arrays) -> None:
        """Keep a finished block's arrays, whole or not at all."""


def map_blocks(
    engine: Engine,
    function: str,
    blocks: Sequence[Block],
    store: BlockStore | None = None,
    *,
    shared: Arrays | None = None,
    done: Callable[[int, int], None] = lambda done, total: None,
    progress: Progress = silent,
    in_threads: bool = False,
) -> Generator[Arrays, None, None]:
    """Yield every block's arrays in the order of the blocks, computing only those the store has not.

    Args:
        engine: where they run.
        function: as `Engine.run` takes it.
        blocks: independent of one another.
        store: finished blocks, or None.
        shared: arrays that every block has beside its own.
        done: told how many of all blocks there are results of; first of those that the store had.
        progress: told how far a block is.
        in_threads: as `Engine.run` takes it.
    """
    finished = {n for n, block in enumerate(blocks) if store is not None and store.has(block.name)}
    missing = [n for n in range(len(blocks)) if n not in finished]
    there = len(finished)
    done(there, len(blocks))
    early: dict[int, Arrays] = {}
    running = engine.run(function, [blocks[n] for n in missing], shared or {}, progress, in_threads=in_threads)
    with contextlib.closing(_closable(running)) as running:
        for number, block in enumerate(blocks):
            if number in finished:
                assert store is not None
                kept: Arrays | None = store.get(block.name)
                arrays = {} if kept is not None else {**(shared or {}), **block.gather()}
                yield kept if kept is not None else run_block(function, block.values, arrays, progress)
                continue
            while number not in early:
                place, arrays = next(running)
                if store is not None and block.kept:
                    store.put(blocks[missing[place]].name, arrays)
                early[missing[place]] = arrays
                there += 1
                done(there, len(blocks))
            yield early.pop(number)


def run_block(function: str, values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> Arrays:
    """Return what a function makes of a block, on one thread."""
    with one_thread():
        return resolve(function)(values, arrays, progress)  # type: ignore[no-any-return]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _closable(running: Iterator[tuple[int, Arrays]]) -> Any:
    return running if hasattr(running, "close") else iter([*running])
