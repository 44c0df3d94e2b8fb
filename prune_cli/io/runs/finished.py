"""A folder that one run at a time works in, and its finished blocks of work, so that a killed run goes on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from prune_cli.core.errors import InputError
from prune_cli.io.stores.atomic import atomic_file

LOCK = ".lock"


@contextlib.contextmanager
def locked_folder(folder: Path, patience: float = 20.0, cure: str = "wait for it, or name another folder with --work-dir") -> Iterator[int]:
    """Hold a folder for this process and those that inherit the descriptor, which is yielded; the folder is made if need be.

    The lock is gone with the last process that has the descriptor, however that ends: nothing is left to clean up after a kill.

    Args:
        patience: seconds to wait for another to leave, as processes of a run that was killed do.
    Raises:
        InputError: another run works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor, folder, patience, cure)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, folder: Path, patience: float, cure: str) -> None:
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
                raise InputError(f"another run works in {folder}", cure) from None
            time.sleep(0.2)


_NAME_LENGTH = 32


class BlockFolder:
    """Blocks as safetensors files, named by a hash of everything their content depends on.

    Args:
        folder: made when the first block is kept.
        identity: inputs (by content), parameters, versions, device: a block of other settings is never taken.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self._identity = json.dumps(identity, sort_keys=True)

    def has(self, block: str) -> bool:
        """Return whether a block is finished and whole."""
        try:
            with safe_open(self._path(block), "numpy"):
                return True
        except (SafetensorError, OSError):
            return False

    def get(self, block: str) -> dict[str, np.ndarray] | None:
        """Return a finished block's arrays, or None."""
        try:
            return dict(load_file(self._path(block)))
        except (SafetensorError, OSError):
            return None

    def put(self, block: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a finished block's arrays, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self._path(block)) as file:
            file.write(save({k: np.asarray(v, order="C") for k, v in arrays.items()}))

    def get_panel(self, name: str) -> np.ndarray | None:
        """Return a panel that was kept, memory-mapped (what is written to it stays in memory), or None."""
        try:
            return np.load(self._path(name, ".npy"), mmap_mode="c", allow_pickle=False)  # type: ignore[no-any-return]
        except (ValueError, OSError):
            return None

    def put_panel(self, name: str, panel: np.ndarray) -> None:
        """Keep one large array, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self._path(name, ".npy")) as file:
            np.lib.format.write_array(file, np.ascontiguousarray(panel), allow_pickle=False)

    def remove(self) -> None:
        """Remove the blocks and panels, and the folder unless something else is in it."""
        self._remove("*.safetensors")
        self.remove_panels()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def remove_panels(self) -> None:
        """Remove the panels: what they were needed for is finished."""
        self._remove("*.npy")

    def _remove(self, pattern: str) -> None:
        for path in self.folder.glob(f"[0-9a-f]{pattern}"):
            if len(path.stem) == _NAME_LENGTH:
                path.unlink(missing_ok=True)

    def _path(self, block: str, suffix: str = ".safetensors") -> Path:
        name = hashlib.sha256(f"{self._identity}/{block}".encode()).hexdigest()[:_NAME_LENGTH]
        return self.folder / f"{name}{suffix}"
