"""The engine that a command line names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from prune_cli.core.runtime import Runtime
from prune_cli.engines.engine import Engine
from prune_cli.engines.local import LocalEngine
from prune_cli.engines.pool import Pool
from prune_cli.engines.processes import block_pool
from prune_cli.engines.ray import open_ray
from prune_cli.methods.devices import resolve_device, visible_cards

_NVIDIA = Path("/proc/driver/nvidia")
"""Where Linux has CUDA devices."""


@contextlib.contextmanager
def workers_ahead(runtime: Runtime, held: int, n_blocks: int, nbytes: int, flops: float) -> Iterator[Pool | None]:
    """Yield processes that get ready while this one does, where so many blocks are worth some; None elsewhere.

    Args:
        runtime: says where blocks run; with a CUDA device processes are started when the device is known.
        held: bytes that this process will hold beside the blocks.
        n_blocks: how many there will be.
        nbytes: memory of one, with its process.
        flops: of all.
    """
    workers = 1
    if runtime.engine == "local" and (runtime.device == "cpu" or (runtime.device == "auto" and not _NVIDIA.exists())):
        memory = max(0, runtime.memory_budget() - held)
        workers = LocalEngine(runtime.worker_count(), memory).worth(n_blocks, nbytes, flops)
    with block_pool(workers) if workers > 1 else contextlib.nullcontext() as started:
        yield started


@contextlib.contextmanager
def open_engine(runtime: Runtime, held: int = 0, started: Pool | None = None) -> Iterator[Engine]:
    """Yield where blocks of work run, for as long as they do.

    Args:
        runtime: names it.
        held: bytes that this process holds beside the blocks.
        started: processes of this machine that are there already.
    Raises:
        InputError, UnavailableError: see `open_ray`.
    """
    if runtime.engine == "ray":
        with open_ray(runtime.address, runtime.worker_count(), runtime.device) as engine:
            yield engine
        return
    on_card = resolve_device(runtime.device).type != "cpu"
    memory = max(0, runtime.memory_budget() - held)
    cards = visible_cards(runtime.device)
    with LocalEngine(1 if on_card else runtime.worker_count(), memory, cards, started) as engine:
        yield engine
