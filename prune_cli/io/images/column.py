"""A column of images into one array: every row is decoded, here or in workers, and ends there or in the bad rows."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import format_size
from prune_cli.io.images.chunk_decoder import Chunk, Found, PixelPlan, decode_chunk
from prune_cli.io.images.chunks import image_chunks
from prune_cli.io.images.decoding import BadImage, ImageSettings, encoded_bytes, fit_picture, read_picture
from prune_cli.io.images.workers import PixelMemory, decode_in_workers

Batches = Callable[[], Iterable[pa.Array]]

_CHUNK_ROWS = 1024
_CHUNK_SECONDS = 0.05
_FIRST_ROWS = 32  # they tell how long an image takes
_WORKERS_PAY = 0.3  # seconds of decoding from which starting processes pays
_TASK = "decode images"


class BadRow(NamedTuple):
    """A row without pixels: its position, the path beside it (None where there is none) and one line why."""

    position: int
    path: str | None
    reason: str


class FirstImage(NamedTuple):
    """The first good image of a column, as it would be brought in."""

    position: int
    height: int
    width: int
    channels: int


class Misfit(Exception):
    """The first image of another size."""

    def __init__(self, misfit: tuple[int, int, int]) -> None:
        self.position, self.height, self.width = misfit

    def told(self, first: FirstImage, name_row: Callable[[int], str]) -> InputError:
        """Return what to tell the user, who knows rows by what ``name_row`` calls them."""
        return InputError(
            f"images differ in size: {name_row(first.position)} is {first.height} x {first.width} (height x width), "
            f"{name_row(self.position)} is {self.height} x {self.width}",
            "bring all of them to one size with --image-size 32",
        )


def row_name(position: int) -> str:
    """Return how a message calls a row whose id is not known here."""
    return f"row {position}"


@dataclass(frozen=True)
class ColumnDecoder:
    """Decodes a column, as often as it is asked to.

    Args:
        batches, n, settings, workers, progress: as in `prune_cli.io.images.column.decode_images`.
    """

    batches: Batches
    n: int
    settings: ImageSettings
    workers: int = 1
    progress: Progress = silent

    def first_good(self) -> FirstImage | None:
        """Return the first good image, or None where there is none."""
        settings = self.settings
        for chunk in image_chunks(self.batches(), lambda: _FIRST_ROWS):
            for row in range(len(chunk)):
                try:
                    data = encoded_bytes(chunk.encoded(row), settings.root, settings.max_pixels)
                    picture = fit_picture(read_picture(data, settings.max_pixels), settings.size, settings.channels)
                except BadImage:
                    continue
                channels = 1 if picture.mode == "L" else 3
                return FirstImage(chunk.first + row, picture.height, picture.width, channels)
        return None

    def plan(self, shape: tuple[int, int] | None = None) -> PixelPlan:
        """Return what verifies every image, and that it has this shape."""
        root = self.settings.root
        return PixelPlan(self.settings.max_pixels, None if root is None else str(root.absolute()), shape=shape)

    def run(
        self,
        plan: PixelPlan,
        memory: PixelMemory | None = None,
        *,
        stop_at_colour: bool = False,
        keep: Callable[[Chunk], None] | None = None,
    ) -> tuple[list[BadRow], bool]:
        """Return the bad rows by position, and whether a picture was not grey: if asked to, the run stopped at that.

        Args:
            plan: what to do with every image.
            memory: where the pixels go, or None.
            stop_at_colour: begin no more once a picture is not grey.
            keep: called with every chunk, in their order.
        Raises:
            Misfit: the first picture of another size. Chunks are begun in their order, and those under way are waited for,
                so it is the same one for any number of workers.
        """
        bad: list[BadRow] = []
        misfits: list[tuple[int, int, int]] = []
        coloured = False
        done = 0

        def stop() -> bool:
            return bool(misfits) or (stop_at_colour and coloured)

        with contextlib.closing(self._decoded(plan, memory, stop, keep)) as results:
            for chunk, found in results:
                bad += [BadRow(position, _path_at(chunk, position), reason) for position, reason in found.bad]
                coloured = coloured or found.coloured
                if found.misfit is not None:
                    misfits.append(found.misfit)
                done += len(chunk)
                self.progress(_TASK, done, self.n)
        if misfits:
            raise Misfit(min(misfits))
        if done != self.n and not stop():
            raise ValueError(f"the batches hold {done} rows and were said to hold {self.n}")
        return sorted(bad), coloured

    def _decoded(
        self, plan: PixelPlan, memory: PixelMemory | None, stop: Callable[[], bool], keep: Callable[[Chunk], None] | None
    ) -> Generator[tuple[Chunk, Found], None, None]:
        """Yield every chunk with what came to light in it: here as long as that is quick enough, then in workers."""
        rows, done, seconds = _FIRST_ROWS, 0, 0.0
        chunks = self._chunks(lambda: rows, stop, keep)
        for chunk in chunks:
            began = time.perf_counter()
            found = decode_chunk(chunk, plan, None if memory is None else memory.pixels)
            seconds += time.perf_counter() - began
            done += len(chunk)
            yield chunk, found
            pace = max(seconds, 1e-9) / done
            fitting = max(1, min(_CHUNK_ROWS, int(_CHUNK_SECONDS / pace)))
            rows = min(fitting, done)  # no leap into much larger images
            ahead = pace * (self.n - done)
            if self.workers > 1 and ahead > _WORKERS_PAY and not stop():
                rows = fitting
                yield from decode_in_workers(min(self.workers, 1 + int(ahead / _WORKERS_PAY)), chunks, plan, memory)
                return

    def _chunks(self, rows: Callable[[], int], stop: Callable[[], bool], keep: Callable[[Chunk], None] | None) -> Iterator[Chunk]:
        """Yield the chunks until ``stop`` says that no more shall be begun."""
        for chunk in image_chunks(self.batches(), rows):
            if stop():
                return
            if chunk.first + len(chunk) > self.n:
                raise ValueError(f"the batches hold more than the {self.n} rows that they were said to hold")
            if keep is not None:
                keep(chunk)
            yield chunk


def _path_at(chunk: Chunk, position: int) -> str | None:
    name = None if chunk.names is None else chunk.names[position - chunk.first]
    return None if name is None or not name.is_valid else name.as_buffer().to_pybytes().decode(errors="replace")


@dataclass(frozen=True)
class DecodedImages:
    """All images of a column.

    Args:
        images_nhwc: (N, H, W, C) uint8; zeros in the rows that are bad. (N, 0, 0, 1) where every row is.
        bad: the rows that are bad, by position.
    """

    images_nhwc: npt.NDArray[np.uint8]
    bad: list[BadRow]


def measure_images(batches: Batches, settings: ImageSettings) -> tuple[int, int, int] | None:
    """Return (H, W, C) of the first good image as `decode_images` would bring it in, or None where there is none.

    With ``channels="auto"`` and a grey first image, C is 1 while the whole may turn out to be RGB: for a bound, count
    3.
    """
    first = ColumnDecoder(batches, 0, settings).first_good()
    return None if first is None else first[1:]


def decode_images(
    batches: Batches,
    n: int,
    settings: ImageSettings | None = None,
    workers: int = 1,
    progress: Progress = silent,
    name_row: Callable[[int], str] = row_name,
    memory_limit: int | None = None,
) -> DecodedImages:
    """Return every image of a column in one array, and the rows that have none.

    The first good image decides the height and width where ``settings`` names none. With ``channels="auto"`` the array
    is grey where every good image is, else RGB; if the first colour comes after a grey beginning, decoding begins anew,
    once. The result is the same bytes for any number of workers.

    Args:
        batches: called for an iterator over the column's Arrow arrays, at most three times: struct<bytes, path> as
            Hugging Face writes it, binary (files), or string (paths under ``settings.root``).
        n: rows in all of them.
        settings: limits, root folder, size, channels; None for the defaults.
        workers: processes that decode; fewer, or none beside this one, where so little is to be done that they would not pay.
        name_row: what a message calls the row at a position.
        memory_limit: bytes that the array may take, or None.
    Returns:
        The array, allocated once and written by the workers in place, and the bad rows by position.
    Raises:
        InputError: images differ in size and no size is given, the array would exceed ``memory_limit``, or the column holds no images.
        PruneError: a worker was killed.
    Cost:
        N x H x W x C bytes, and a few chunks of encoded images (8 MiB each).
    """
    settings = settings or ImageSettings()
    decoder = ColumnDecoder(batches, n, settings, workers, progress)
    first = decoder.first_good()
    if first is None:
        bad, _ = decoder.run(decoder.plan())
        return DecodedImages(np.zeros((n, 0, 0, 1), dtype=np.uint8), bad)
    _, height, width, channels = first
    while True:
        shape = (n, height, width, channels)
        nbytes = math.prod(shape)
        if memory_limit is not None and nbytes > memory_limit:
            raise InputError(
                f"{n} images of {height} x {width} x {channels} take {format_size(nbytes)}, more than the "
                f"{format_size(memory_limit)} allowed",
                "bring them to a smaller size with --image-size 32, or raise --memory-limit",
            )
        memory = PixelMemory(nbytes)
        plan = replace(decoder.plan((height, width)), size=settings.size, channels=1 if channels == 1 else 3)
        grey_only = settings.channels == "auto" and channels == 1
        try:
            bad, coloured = decoder.run(plan, memory, stop_at_colour=grey_only)
        except Misfit as misfit:
            raise misfit.told(first, name_row) from None
        if grey_only and coloured:
            channels = 3
            continue
        return DecodedImages(np.frombuffer(memory.seal(), dtype=np.uint8).reshape(shape), bad)


def verify_images(
    batches: Batches, n: int, settings: ImageSettings, workers: int = 1, progress: Progress = silent
) -> tuple[list[BadRow], tuple[int, int, int] | None]:
    """Return the bad rows, for which every image is decoded and none kept, and (H, W, C) of the others: None if they differ.

    Args:
        batches, n, settings, workers, progress: as in `decode_images`; read three times where sizes differ, else twice.
    """
    decoder = ColumnDecoder(batches, n, settings, workers, progress)
    first = decoder.first_good()
    if first is not None:
        try:
            bad, coloured = decoder.run(decoder.plan((first.height, first.width)))
            return bad, (first.height, first.width, 3 if coloured else first.channels)
        except Misfit:
            pass
    return decoder.run(decoder.plan())[0], None
