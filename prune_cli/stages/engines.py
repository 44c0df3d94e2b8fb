"""The engine that a command line names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prune_cli.core.runtime import Runtime
from prune_cli.engines.blocks import Engine
from prune_cli.engines.local import LocalEngine
from prune_cli.engines.ray import open_ray
from prune_cli.methods.devices import resolve_device, visible_cards


@contextlib.contextmanager
def open_engine(runtime: Runtime, held: int = 0) -> Iterator[Engine]:
    """Yield where blocks of work run, for as long as they do.

    Args:
        runtime: names it.
        held: bytes that this process holds beside the blocks.
    Raises:
        InputError, UnavailableError: see `open_ray`.
    """
    if runtime.engine == "ray":
        with open_ray(runtime.address, runtime.worker_count(), runtime.device) as engine:
            yield engine
        return
    on_card = resolve_device(runtime.device).type != "cpu"
    memory = max(0, runtime.memory_budget() - held)
    yield LocalEngine(1 if on_card else runtime.worker_count(), memory, visible_cards(runtime.device))
