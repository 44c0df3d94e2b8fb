"""One training in several processes: what may be trained so, and what each takes of its machine."""

from __future__ import annotations

import dataclasses

from prune_cli.core.errors import InputError
from prune_cli.core.launch import Launch
from prune_cli.core.runtime import Runtime
from prune_cli.methods.devices import resolve_device

SHARED_RECIPES = ("standard",)
"""Recipes that keep nothing of single samples, so that several processes may share a batch."""


def require_shareable(recipe: str, structure: str | None, launch: Launch) -> None:
    """Raise where a training runs in one process alone.

    Raises:
        InputError: a recipe that keeps something of every sample, or a network that shrinks.
    """
    if recipe in SHARED_RECIPES and structure is None:
        return
    what = f"--recipe {recipe}" if structure is None else f"--structure {structure}"
    raise InputError(
        f"{what} trains in one process, not in {launch.size}",
        f"start it without torchrun; several share the batches of: {', '.join(SHARED_RECIPES)}",
    )


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
