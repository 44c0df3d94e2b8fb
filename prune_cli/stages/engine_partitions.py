"""Partitions of a selection, handed out through the engine and finished once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from prune_cli.core.blocks import Block, MapBlocks
from prune_cli.core.progress import Progress
from prune_cli.core.runtime import Runtime
from prune_cli.engines.blocks import map_blocks
from prune_cli.io.blocks import BlockFolder
from prune_cli.stages.engines import open_engine


@contextlib.contextmanager
def partitions_on_engine(runtime: Runtime, held: int, store: BlockFolder, progress: Progress) -> Iterator[MapBlocks]:
    """Yield what hands out partitions, on the engine that the runtime names.

    Args:
        runtime: names it.
        held: bytes that this process holds beside the partitions.
        store: finished partitions.
        progress: told how many there are.
    """
    with open_engine(runtime, held) as engine:

        def hand_out(function: str, blocks: Sequence[Block]) -> list[dict[str, np.ndarray]]:
            found = map_blocks(
                engine, function, blocks, store, done=lambda done, total: progress("partitions", done, total)
            )
            return [dict(arrays) for arrays in found]

        yield hand_out
