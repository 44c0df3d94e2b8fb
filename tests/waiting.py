"""Waiting for states that can be seen. What limits there are kill only what hangs, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

HANGS = 3600.0
"""Seconds after which something hangs."""


def wait_until(seen: Callable[[], object], alive: Callable[[], bool] = lambda: True) -> None:
    """Return once a state is there; what brings it about must stay alive until then."""
    until = time.monotonic() + HANGS
    while not seen():
        assert alive(), "it ended first"
        assert time.monotonic() < until, "it hangs"
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
