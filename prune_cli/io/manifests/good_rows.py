"""Inputs without the rows that are bad: images of a spool, and arrays in memory."""

from __future__ import annotations

import numpy as np

from prune_cli.io.images.spool import EncodedImages


class SpooledInputs:
    """Good images of a spool, decoded when a batch of them is asked for; may be sent to other processes."""

    def __init__(self, images: EncodedImages, kept: np.ndarray) -> None:
        self._images, self._kept = images, kept
        self.shape: tuple[int, int, int, int] = (len(kept), *images.shape[1:])

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Return (B, H, W, C) uint8 images at these positions among the good ones."""
        return self._images.take(self._kept[positions])


def drop_rows(array: np.ndarray, good: np.ndarray, chunk: int = 4096) -> np.ndarray:
    """Return the good rows, moved to the front of the array's own memory: no second array.

    Args:
        array: (M, ...) owned by the caller, overwritten.
        good: (M,) bool.
    """
    if good.all():
        return array
    positions = np.flatnonzero(good)
    for start in range(0, len(positions), chunk):
        part = positions[start : start + chunk]
        array[start : start + len(part)] = array[part]
    return array[: len(positions)]
