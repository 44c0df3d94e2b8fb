"""An engine: where blocks of work run."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from prune_cli.core.progress import Progress
from prune_cli.engines.block import Arrays, Block


class Engine(Protocol):
    """Where blocks run, each on one thread: how a sum is split over threads reaches its last digits, and the machine must not."""

    @property
    def elsewhere(self) -> bool:
        """Whether that is on other machines, where what this process holds must be sent to."""

    def run(
        self, function: str, blocks: Sequence[Block], shared: Arrays, progress: Progress, *, in_threads: bool = False
    ) -> Generator[tuple[int, Arrays], None, None]:
        """Yield (number of the block, what the function made of it) as blocks are done, in whatever order that is.

        Args:
            function: import path of what blocks are for; see `Block`.
            blocks: handed out in their order.
            shared: arrays that every block has beside its own.
            progress: told how far a block is, where it can be.
            in_threads: on this machine threads do as well as processes, which arrays would have to be copied to.
        """
