"""A folder that one run at a time works in."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from prune_cli.core.errors import InputError

LOCK = ".lock"


@contextlib.contextmanager
def locked_folder(folder: Path, patience: float = 20.0) -> Iterator[int]:
    """Hold a folder for this process and those that inherit the descriptor, which is yielded; the folder is made if need be.

    The lock is gone with the last process that has the descriptor, however that ends: nothing is left to clean up after a kill.

    Args:
        folder: to hold.
        patience: seconds to wait for another to leave, as processes of a run that was killed do.
    Raises:
        InputError: another run works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor, folder, patience)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, folder: Path, patience: float) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() > until:
                raise InputError(
                    f"another run works in {folder}", "wait for it, or name another folder with --work-dir"
                ) from None
            time.sleep(0.2)
