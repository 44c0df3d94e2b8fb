"""Blocks of work on this machine: one after the other, each finished once and kept where a work folder is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

BlockT = TypeVar("BlockT")


class BlockStore(Protocol):
    """Where finished blocks are kept."""

    def get(self, block: str) -> dict[str, np.ndarray] | None:
        """Return a finished block's arrays, or None."""

    def put(self, block: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a finished block's arrays, whole or not at all."""


def map_blocks(
    blocks: Sequence[BlockT],
    name: Callable[[BlockT], str],
    compute: Callable[[BlockT], Mapping[str, np.ndarray]],
    store: BlockStore | None,
) -> list[dict[str, np.ndarray]]:
    """Return every block's arrays in the order of the blocks, computing only those the store has not.

    Args:
        blocks: independent units of work.
        name: a unique name of a block within this run.
        compute: block -> named arrays; depends on nothing but the block.
        store: finished blocks of this run, or None.
    """
    results: list[dict[str, np.ndarray]] = []
    for block in blocks:
        found = store.get(name(block)) if store is not None else None
        if found is None:
            found = dict(compute(block))
            if store is not None:
                store.put(name(block), found)
        results.append(found)
    return results
