"""Blocks of a selection, handed out through the engine and finished once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from prune_cli.core.progress import Progress
from prune_cli.core.runtime import Runtime
from prune_cli.engines.blocks import Engine, map_blocks
from prune_cli.engines.local import takes_long
from prune_cli.engines.work import Arrays, Block
from prune_cli.io.runs.finished import BlockFolder
from prune_cli.stages.frame.engine import open_engine


@dataclass(frozen=True)
class BlocksOnEngine:
    """Hands out blocks; see `prune_cli.engines.work.MapBlocks`.

    Args:
        engine: where they run.
        store: finished blocks.
        keep_all: keep results of work that takes no time worth speaking of, too.
        progress: told how many there are.
    """

    engine: Engine
    store: BlockFolder
    keep_all: bool
    progress: Progress

    @property
    def elsewhere(self) -> bool:
        """Whether blocks go to other machines."""
        return self.engine.elsewhere

    def __call__(
        self,
        task: str,
        function: str,
        blocks: Sequence[Block],
        *,
        shared: Arrays | None = None,
        in_threads: bool = False,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the answers in the order of the blocks."""
        keep = self.keep_all or takes_long(sum(block.flops for block in blocks))
        found = map_blocks(
            self.engine, function, blocks, self.store if keep else None, shared=shared, in_threads=in_threads,
            done=lambda done, total: self.progress(task, done, total),
        )  # fmt: skip
        with contextlib.closing(found):
            for arrays in found:
                yield dict(arrays)


@contextlib.contextmanager
def blocks_on_engine(
    runtime: Runtime, held: int, store: BlockFolder, keep_all: bool, progress: Progress
) -> Iterator[BlocksOnEngine]:
    """Yield what hands out blocks, on the engine that the runtime names.

    Args:
        runtime: names it.
        held: bytes that this process holds beside the blocks.
        store: finished blocks.
        keep_all: keep results of little work too.
        progress: told how many there are.
    """
    with open_engine(runtime, held) as engine:
        yield BlocksOnEngine(engine, store, keep_all, progress)
