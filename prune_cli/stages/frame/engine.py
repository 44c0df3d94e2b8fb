"""The engine that a command line names, and how long blocks of work take on it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prune_cli.core.runtime import Runtime
from prune_cli.engines.engine import Engine
from prune_cli.engines.local import LocalEngine
from prune_cli.engines.pool import Pool
from prune_cli.engines.processes import block_pool
from prune_cli.engines.ray import open_ray
from prune_cli.engines.threads import one_thread
from prune_cli.methods.devices import product_rate, resolve_device, visible_cards

_NVIDIA = Path("/proc/driver/nvidia")
"""Where Linux has CUDA devices."""


@contextlib.contextmanager
def workers_ahead(runtime: Runtime, held: int, n_blocks: int, nbytes: int, flops: float) -> Iterator[Pool | None]:
    """Yield processes that get ready while this one does, where so many blocks are worth some; None elsewhere.

    Args:
        runtime: says where blocks run; with a CUDA device processes are started when the device is known.
        held: bytes that this process will hold beside the blocks.
        nbytes: memory of one, with its process.
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


GPU_RATES = {"float64": 1.5e13, "float32": 3e13}
"""Flops a second that plans count on from one GPU of a data centre; stated, a third or so of what such cards multiply matrices at."""

MACHINES = (1, 4, 16)


def minutes_of(blocks: int, flops: float, rate: float, at_a_time: int) -> float:
    """Return how long blocks of one size take.

    Args:
        rate: flops a second of a block.

    >>> minutes_of(10, 6e12, 1e10, 4)  # three rounds of a minute each
    3.0
    """
    return math.ceil(blocks / at_a_time) * flops / blocks / rate / 60


def _shown(minutes: float) -> str:
    return f"{minutes:.1f}" if minutes >= 0.1 else "under 0.1"


def machine_figures(
    blocks: int, block_bytes: int, held: int, flops: float, dtype: str, runtime: Runtime, shards: int | None
) -> dict[str, Any]:
    """Return the minutes on one machine like this one and on several, by cores and by GPUs, and the memory of one.

    Args:
        blocks: that need nothing of one another; one block gains nothing from more machines.
        block_bytes: memory of one, with its process.
        held: bytes of the process that hands them out.
        shards: how many machines are meant, or None.
    Cost:
        A quarter of a second, to measure a core.
    """
    with one_thread():
        rate = product_rate(dtype, "cpu")
    room = max(0, runtime.memory_budget() - held) // max(1, block_bytes)
    cores = max(1, min(runtime.worker_count(), room, blocks))
    figures: dict[str, Any] = {
        "peak_memory_bytes": held + cores * block_bytes,
        "blocks_at_a_time": f"{cores} a machine, each on one core at {rate / 1e9:.0f} GFLOP/s (measured here) and "
        f"{block_bytes / 2**20:,.0f} MiB",
    }
    counts = sorted({1, shards}) if shards is not None else MACHINES
    for machines in counts:
        minutes = minutes_of(blocks, flops, rate, cores * machines)
        on_cards = minutes_of(blocks, flops, GPU_RATES[dtype], machines)
        name = f"minutes_on_{machines}_machine{'s' if machines > 1 else ''}"
        figures[name] = f"{_shown(minutes)}; with a GPU each {_shown(on_cards)} (at {GPU_RATES[dtype] / 1e12:.0f} TFLOP/s, stated)"
    return figures
