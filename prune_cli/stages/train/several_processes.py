"""One training in several processes: what each takes of its machine."""

from __future__ import annotations

import dataclasses

from prune_cli.core.errors import InputError
from prune_cli.core.launch import Launch
from prune_cli.core.runtime import Runtime
from prune_cli.methods.devices import resolve_device


def share_of_machine(runtime: Runtime, launch: Launch) -> Runtime:
    """Return the settings of a run with this process's share of the machine's memory and cores."""
    memory = runtime.memory_budget() // launch.local_size
    workers = max(1, runtime.worker_count() // launch.local_size)
    return dataclasses.replace(runtime, memory_limit=memory, workers=workers)


def on_own_device(runtime: Runtime, launch: Launch) -> Runtime:
    """Return the settings of a run with its device checked: of several processes each takes a CUDA device of its own.

    Raises:
        InputError: one CUDA device is named for several processes.
        UnavailableError: a CUDA device that is not there.
    """
    device = resolve_device(runtime.device)
    if launch.size == 1 or device.type == "cpu":
        return runtime
    if device.index is not None and launch.local_size > 1:
        raise InputError(
            f"--device {runtime.device} for {launch.local_size} processes of this machine",
            "leave out the number: each takes a device of its own",
        )
    name = runtime.device if device.index is not None else f"cuda:{launch.local_rank}"
    resolve_device(name)
    return dataclasses.replace(runtime, device=name)
