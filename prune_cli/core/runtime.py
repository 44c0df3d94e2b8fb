"""Where and how a run goes: device, precision, memory, workers; and what the machine has."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

from prune_cli.core.errors import InputError

ENGINES = ("local", "ray")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True)
class Runtime:
    """Settings that change where and how fast a run goes, and (device, precision, seed) its last digits.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` or a dtype name (``float32``, ``float64``, ``bfloat16``); each method states which it takes.
        batch_size: samples a step, or None for the method's default.
        workers: processes for decoding and for blocks of work, 0 for all cores.
        seed: 0 or more; see `prune_cli.core.rng`.
        memory_limit: bytes the run may use, or None for three quarters of what is free.
        engine: where blocks of work run: ``local``, or ``ray``.
        address: of the Ray cluster to join; None: one of this machine alone.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    workers: int = 0
    seed: int = 0
    memory_limit: int | None = None
    engine: str = "local"
    address: str | None = None

    def memory_budget(self) -> int:
        """Return the bytes this run may use: the limit given, else three quarters of what is free now."""
        return self.memory_limit if self.memory_limit is not None else available_memory() * 3 // 4

    def worker_count(self) -> int:
        """Return the number of processes that decode or compute blocks: as given, else one a core this process may use."""
        return self.workers if self.workers > 0 else len(os.sched_getaffinity(0))


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Let threads that wait for one another sleep after a short spin, unless the user has said how they wait.

    GNU OpenMP, which torch computes with, spins for milliseconds, which slows a training down where another process wants the
    cores too. It reads the environment when it is loaded, so this comes before any import of torch.

    Args:
        environment: of this process; changed in place.

    >>> here = {}; share_cores(here); here
    {'GOMP_SPINCOUNT': '3000'}
    >>> here = {"OMP_WAIT_POLICY": "active"}; share_cores(here); here
    {'OMP_WAIT_POLICY': 'active'}
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & environment.keys():
        environment["GOMP_SPINCOUNT"] = "3000"


def parse_size(text: str) -> int:
    """Return bytes from a size as people write it.

    >>> parse_size("4GiB"), parse_size("1.5 GB"), parse_size("512")
    (4294967296, 1500000000, 512)
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]i?)?b?\s*", text, re.IGNORECASE)
    if match is None:
        raise InputError(f"{text!r} is not a size", "write it as 4GiB, 500MB or a number of bytes")
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])


def format_size(size: float) -> str:
    """Return a size as people read it.

    >>> format_size(512), format_size(3 * 2**30)
    ('512 B', '3.0 GiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def available_memory() -> int:
    """Return the bytes this process could still take: free memory of the machine, or of the container if that is less."""
    free = 4 * 2**30
    for line in _read_lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit, used = _read_lines("/sys/fs/cgroup/memory.max"), _read_lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0] != "max":
        free = min(free, max(0, int(limit[0]) - int(used[0])))
    return free


def peak_memory() -> int:
    """Return the largest resident size this process has had, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read_lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
