"""Waiting for states that can be seen. What limits there are kill only what hangs, however slow the machine is."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HANGS = 3600.0
"""Seconds after which something hangs."""


def wait_until(seen: Callable[[], object], process: subprocess.Popen[Any] | None = None) -> None:
    """Return once something can be seen, or the process that makes it so has ended."""
    until = time.monotonic() + HANGS
    while not seen() and (process is None or process.poll() is None):
        assert time.monotonic() < until, "it hangs"
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
