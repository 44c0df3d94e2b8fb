"""A chunk of encoded images and what decodes it, here or in a worker.

Only Pillow and the standard library are imported here, so that a worker starts in some 60 ms.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prune_cli.engines.serving import Parcel
from prune_cli.io.images.decoding import BadImage, Channels, Encoded, encoded_bytes, fit_picture, read_picture
from prune_cli.io.images.png import PngBatch

NO_IMAGE, BYTES, PATH = 0, 1, 2


@dataclass(frozen=True)
class Chunk:
    """Some rows of encoded images, next to each other.

    Args:
        first: position of the first row.
        kinds: one byte a row: `NO_IMAGE`, `BYTES` or `PATH`.
        offsets: rows + 1 places in ``data``; a row is what lies between two.
        data: all rows behind one another: bytes of files, or paths as UTF-8.
        names: path of each row for the ledger, or None; stays in this process.
    """

    first: int
    kinds: bytes | bytearray
    offsets: array[int]
    data: bytes | memoryview
    names: Any = None

    def __len__(self) -> int:
        return len(self.kinds)

    def encoded(self, row: int) -> Encoded | None:
        """Return the bytes of one row's file, or its path, or None where there is neither."""
        kind = self.kinds[row]
        if kind == NO_IMAGE:
            return None
        piece = bytes(self.data[self.offsets[row] : self.offsets[row + 1]])
        return piece if kind == BYTES else os.fsdecode(piece)

    def pack(self) -> Parcel:
        """Return what a worker is sent."""
        return self.first, (self.kinds, self.offsets, self.data)


@dataclass(frozen=True)
class PixelPlan:
    """What is to be done with every image.

    Args:
        max_pixels, root: as in `prune_cli.io.images.decoding.ImageSettings`.
        size: (H, W) to bring pictures to, or None.
        channels: 1 or 3 to write, ``auto`` where nothing is written.
        shape: (H, W) that every picture must then have, or None where it does not matter.
    """

    max_pixels: int
    root: str | None = None
    size: tuple[int, int] | None = None
    channels: Channels = "auto"
    shape: tuple[int, int] | None = None

    @property
    def stride(self) -> int:
        """Return the bytes of one image where images are written."""
        height, width = self.shape or (0, 0)
        return height * width * (1 if self.channels == 1 else 3)


@dataclass
class Found:
    """What came to light in one chunk.

    Args:
        bad: (position, reason) of every row without pixels.
        coloured: some picture was not grey.
        misfit: (position, height, width) of the first picture of another size than ``PixelPlan.shape``: the chunk was left there.
    """

    bad: list[tuple[int, str]] = field(default_factory=list)
    coloured: bool = False
    misfit: tuple[int, int, int] | None = None


def decode_chunk(chunk: Chunk, plan: PixelPlan, pixels: mmap.mmap | None) -> Found:
    """Return what came to light in a chunk, its pictures written to their places where there is memory for them."""
    found, stride = Found(), plan.stride
    root = None if plan.root is None else Path(plan.root)
    batch = None if pixels is None else _png_batch(plan)
    for row in range(len(chunk)):
        position = chunk.first + row
        try:
            data = encoded_bytes(chunk.encoded(row), root, plan.max_pixels)
            if batch is not None and batch.add(position, data):
                found.coloured = found.coloured or plan.channels == 3
                if batch.full:
                    _write(batch.take(), stride, pixels)
                continue
            picture = read_picture(data, plan.max_pixels)
        except BadImage as reason:
            found.bad.append((position, str(reason)))
            continue
        found.coloured = found.coloured or picture.mode != "L"
        picture = fit_picture(picture, plan.size, plan.channels)
        if plan.shape is not None and (picture.height, picture.width) != plan.shape:
            found.misfit = (position, picture.height, picture.width)
            break
        if pixels is not None:
            _write([(position, picture.tobytes())], stride, pixels)
    if batch is not None:
        _write(batch.take(), stride, pixels)
    return found


def answer_chunks(settings: Any) -> Callable[[Any, Sequence[bytearray]], Parcel]:
    """Return what answers in a worker: see `prune_cli.engines.serving.serve`.

    Args:
        settings: ``plan`` as a JSON value, and ``descriptor`` of the memory for pixels, -1 for none.
    """
    stated: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in settings["plan"].items()}
    plan = PixelPlan(**stated)
    pixels = None if settings["descriptor"] < 0 else mmap.mmap(settings["descriptor"], 0)

    def answer(first: Any, buffers: Sequence[bytearray]) -> Parcel:
        kinds, places, data = buffers
        offsets = array("q")
        offsets.frombytes(places)
        return dataclasses.asdict(decode_chunk(Chunk(first, kinds, offsets, memoryview(data)), plan, pixels)), ()

    return answer


def _png_batch(plan: PixelPlan) -> PngBatch | None:
    """Return what takes plain PNG files together where the pixels are to be written as they are."""
    if plan.shape is None or plan.size not in (None, plan.shape):
        return None
    batch = PngBatch(*plan.shape, 1 if plan.channels == 1 else 3)
    return batch if batch.worthwhile else None


def _write(pictures: Iterable[tuple[int, bytes]], stride: int, pixels: mmap.mmap | None) -> None:
    if pixels is not None:
        for position, picture in pictures:
            pixels[position * stride : (position + 1) * stride] = picture
