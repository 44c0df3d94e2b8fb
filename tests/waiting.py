"""Tests that stop a process wait for what it does, not for time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

GUARD = 600.0
"""Seconds after which a test that hangs gives up; no test that works comes near it."""


def wait_until(seen: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Return once something can be seen, or the process has ended.

    Args:
        seen: whether it can be seen by now.
        process: that makes it so.
    """
    until = time.monotonic() + GUARD
    while not seen() and process.poll() is None:
        assert time.monotonic() < until, "the process hangs"
        time.sleep(0.005)
