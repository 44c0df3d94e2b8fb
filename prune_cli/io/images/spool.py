"""Images that stay encoded in a file until a batch of them is asked for, where they do not fit into memory; and inputs without bad rows."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.io.images.chunk_decoder import BYTES, NO_IMAGE, Chunk
from prune_cli.io.images.column import BadRow, Batches, ColumnDecoder, FirstImage, Misfit, row_name
from prune_cli.io.images.decoding import BadImage, ImageSettings, decode_image


@dataclass(eq=False)
class EncodedImages:
    """Images whose files lie in a spool, decoded as they are asked for.

    Made by `spool_images`. May be pickled and handed to other processes: what travels is the place of the spool and
    where each row lies in it.

    Args:
        spool: file with all rows behind one another: bytes of files, or paths.
        offsets: (N + 1,) int64, places in the spool.
        kinds: (N,) uint8, `NO_IMAGE`, `BYTES` or `PATH`.
        shape: (N, H, W, C) of the whole.
        settings: as it was spooled with.
    """

    spool: Path
    offsets: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.uint8]
    shape: tuple[int, int, int, int]
    settings: ImageSettings
    _data: mmap.mmap | bytes | None = field(default=None, init=False)

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_data": None}

    def take(self, positions: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """Return the images at these positions, in this order, decoded now.

        Args:
            positions: (B,) integers from 0 to N - 1; any order, with repeats.
        Returns:
            (B, H, W, C) uint8; zeros for a row that was found bad when the spool was made.
        Raises:
            IndexError: a position outside.
            InputError: a file that was good when the spool was made is not any more.
        """
        if self._data is None:
            with self.spool.open("rb") as file:
                filled = self.spool.stat().st_size > 0
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if filled else b""
        wanted = np.asarray(positions)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"positions from {wanted.min()} to {wanted.max()} of {len(self)} images")
        _, height, width, channels = self.shape
        images_bhwc = np.zeros((len(wanted), height, width, channels), dtype=np.uint8)
        fixed = replace(self.settings, size=(height, width), channels=1 if channels == 1 else 3)
        for place, position in enumerate(wanted.tolist()):
            kind = self.kinds[position]
            if kind == NO_IMAGE:
                continue
            piece = self._data[self.offsets[position] : self.offsets[position + 1]]
            try:
                images_bhwc[place] = decode_image(piece if kind == BYTES else piece.decode("utf-8", "surrogateescape"), fixed)
            except BadImage as reason:
                raise InputError(f"the image at position {position} could be read before and cannot now: {reason}", "start again") from None
        return images_bhwc


def spool_images(
    batches: Batches,
    n: int,
    settings: ImageSettings | None,
    folder: Path,
    workers: int = 1,
    progress: Progress = silent,
    name_row: Callable[[int], str] = row_name,
) -> tuple[EncodedImages, list[BadRow]]:
    """Return the images of a column as `EncodedImages`, and the bad rows, for which every image is decoded once.

    Size and channels are settled as in `decode_images`, with which ``take`` agrees to the byte.

    Args:
        batches, n, settings, workers, progress, name_row: as in `decode_images`; the batches are read twice.
        folder: where the spool is written, as ``images.spool``; it is the caller's to remove.
    Raises:
        InputError, PruneError: as `decode_images`.
    Cost:
        Disk for the encoded images, 9 bytes of memory a row.
    """
    settings = settings or ImageSettings()
    decoder = ColumnDecoder(batches, n, settings, workers, progress)
    first = decoder.first_good() or FirstImage(0, 0, 0, 1)
    fixed = settings.size is None and first.height > 0
    spool = folder / "images.spool"
    offsets = np.zeros(n + 1, dtype=np.int64)
    kinds = np.zeros(n, dtype=np.uint8)

    def keep(chunk: Chunk) -> None:
        part = slice(chunk.first, chunk.first + len(chunk))
        kinds[part] = np.frombuffer(chunk.kinds, dtype=np.uint8)
        offsets[1:][part] = np.asarray(chunk.offsets)[1:] + offsets[chunk.first]
        file.write(chunk.data)

    with spool.open("wb") as file:
        try:
            bad, coloured = decoder.run(decoder.plan((first.height, first.width) if fixed else None), keep=keep)
        except Misfit as misfit:
            raise misfit.told(first, name_row) from None
    kinds[np.array([row.position for row in bad], dtype=np.int64)] = NO_IMAGE
    channels = 3 if settings.channels == "auto" and coloured else first.channels
    return EncodedImages(spool, offsets, kinds, (n, first.height, first.width, channels), settings), bad


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
