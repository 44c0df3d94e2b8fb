"""Finished blocks of work in a folder, so that a killed run goes on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from prune_cli.io.atomic import atomic_file

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

    def get(self, block: str) -> dict[str, np.ndarray] | None:
        """Return a finished block's arrays, or None."""
        path = self._path(block)
        if not path.is_file():
            return None
        try:
            return dict(load_file(path))
        except (SafetensorError, OSError):
            return None

    def put(self, block: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a finished block's arrays, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self._path(block)) as file:
            file.write(save({k: np.asarray(v, order="C") for k, v in arrays.items()}))

    def remove(self) -> None:
        """Remove the blocks, and the folder unless something else is in it."""
        for path in self.folder.glob("[0-9a-f]*.safetensors"):
            if len(path.stem) == _NAME_LENGTH:
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _path(self, block: str) -> Path:
        return (
            self.folder
            / f"{hashlib.sha256(f'{self._identity}/{block}'.encode()).hexdigest()[:_NAME_LENGTH]}.safetensors"
        )
