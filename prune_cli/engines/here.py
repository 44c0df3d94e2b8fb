"""Blocks of work in this process, for whoever calls a method without an engine."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prune_cli.core.progress import Progress, silent
from prune_cli.engines.work import Arrays, Block, in_order, resolve

if TYPE_CHECKING:
    import torch

_ONE_AT_A_TIME = threading.Lock()
"""Held while the filters of warnings are others: they are those of all threads."""


@dataclass(frozen=True)
class Here:
    """This process: blocks one after the other, or on as many threads as torch has; each computes on one thread.

    Args:
        progress: told of the blocks.
        on_threads: False where blocks compute on a CUDA device.
    """

    progress: Progress = silent
    on_threads: bool = True
    elsewhere = False

    def __call__(
        self,
        task: str,
        function: str,
        blocks: Sequence[Block],
        *,
        shared: Arrays | None = None,
        in_threads: bool = False,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the answers in order; see `prune_cli.engines.work.MapBlocks`."""
        run = resolve(function)

        def compute(work: tuple[Block, Arrays]) -> dict[str, np.ndarray]:
            return dict(run(work[0].values, {**(shared or {}), **work[1]}))

        with one_thread_each() as threads:
            tasks = ((block, block.gather()) for block in blocks)
            at_once = threads if in_threads and self.on_threads else 1
            for done, (_, answer) in enumerate(in_order(compute, tasks, at_once, compute_alone), 1):
                self.progress(task, done, len(blocks))
                yield answer


@contextlib.contextmanager
def one_thread_each() -> Iterator[int]:
    """Let torch run each product on one thread, and say how many may run at a time."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def compute_alone() -> None:
    """Let torch run the products of a thread on that one; the threads of a pool start with it."""
    import torch

    torch.set_num_threads(1)


def tensor_of(values: np.ndarray) -> torch.Tensor:
    """Return an array as a tensor of the same memory, which is only read: what came from elsewhere may be protected."""
    import torch

    if values.flags.writeable:
        return torch.from_numpy(values)
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(values)
