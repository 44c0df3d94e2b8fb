"""Blocks of work: independent, finished once, the same bits wherever they run.

Every block runs on one thread: how a sum is split over threads reaches its last digits, and the machine must not.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from prune_cli.core.blocks import Arrays, Block
from prune_cli.core.progress import Progress, silent


class Engine(Protocol):
    """Where blocks run."""

    def run(
        self, function: str, blocks: Sequence[Block], shared: Arrays, progress: Progress
    ) -> Iterator[tuple[int, Arrays]]:
        """Yield (number of the block, what the function made of it) as blocks are done, in whatever order that is.

        Args:
            function: ``module:name`` of ``f(values, arrays, progress) -> arrays`` within this package.
            blocks: handed out in their order.
            shared: arrays that every block has beside its own.
            progress: told how far a block is, where it can be.
        """


class BlockStore(Protocol):
    """Where finished blocks are kept."""

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
) -> list[Arrays]:
    """Return every block's arrays in the order of the blocks, computing only those the store has not.

    Args:
        engine: where they run.
        function: as `Engine.run` takes it.
        blocks: independent of one another.
        store: finished blocks, or None.
        shared: arrays that every block has beside its own.
        done: told how many of all blocks there are results of; first of those that the store had.
        progress: told how far a block is.
    """
    results: list[Arrays | None] = [store.get(block.name) if store is not None else None for block in blocks]
    missing = [number for number, found in enumerate(results) if found is None]
    finished = len(blocks) - len(missing)
    done(finished, len(blocks))
    running = engine.run(function, [blocks[n] for n in missing], shared or {}, progress)
    with contextlib.closing(_closable(running)) as running:
        for number, arrays in running:
            if store is not None:
                store.put(blocks[missing[number]].name, arrays)
            results[missing[number]] = arrays
            finished += 1
            done(finished, len(blocks))
    assert all(found is not None for found in results)
    return [found for found in results if found is not None]


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


def resolve(function: str) -> Callable[..., Any]:
    """Return the function of an import path.

    Raises:
        ValueError: it lies outside this package.
    """
    module, _, name = function.partition(":")
    if not module.startswith("prune_cli."):
        raise ValueError(f"{function} is not ours")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def _closable(running: Iterator[tuple[int, Arrays]]) -> Any:
    return running if hasattr(running, "close") else iter([*running])
