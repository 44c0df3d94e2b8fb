"""A column of images into one array, or a spool that batches come from; every row ends there or in the bad rows."""

from __future__ import annotations

import contextlib
import mmap
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import format_size
from prune_cli.io.images.chunks import image_chunks
from prune_cli.io.images.decoding import BadImage, ImageSettings, decode_image, encoded_bytes, fit_picture, read_picture
from prune_cli.io.images.workers import BYTES, NO_IMAGE, Chunk, DecodeWorkers, Found, Job, PixelMemory, decode_chunk

__all__ = [
    "BadImage",
    "BadRow",
    "DecodedImages",
    "EncodedImages",
    "ImageSettings",
    "decode_image",
    "decode_images",
    "measure_images",
    "spool_images",
    "verify_images",
]

Batches = Callable[[], Iterable[pa.Array]]
UInt8Array = npt.NDArray[np.uint8]

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


@dataclass(frozen=True)
class DecodedImages:
    """All images of a column.

    Args:
        images_nhwc: (N, H, W, C) uint8; zeros in the rows that are bad. (N, 0, 0, 1) where every row is.
        bad: the rows that are bad, by position.
    """

    images_nhwc: UInt8Array
    bad: list[BadRow]


def row_name(position: int) -> str:
    """Return how a message calls a row whose id is not known here."""
    return f"row {position}"


def measure_images(batches: Batches, settings: ImageSettings) -> tuple[int, int, int] | None:
    """Return (H, W, C) of the first good image as `decode_images` would bring it in, or None where there is none.

    With ``channels="auto"`` and a grey first image, C is 1 while the whole may turn out to be RGB: for a bound, count
    3.
    """
    first = _first_good(batches, settings)
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
        workers: processes that decode; fewer, or none beside this one, where so little is to be done that they would
            not pay.
        progress: told after every chunk.
        name_row: what a message calls the row at a position.
        memory_limit: bytes that the array may take, or None.
    Returns:
        The array, allocated once and written by the workers in place, and the bad rows by position.
    Raises:
        InputError: images differ in size and no size is given, the array would exceed ``memory_limit``, or the column
            holds no images.
        PruneError: a worker was killed.
    Cost:
        N x H x W x C bytes, and a few chunks of encoded images (8 MiB each).
    """
    settings = settings or ImageSettings()
    first = _first_good(batches, settings)
    if first is None:
        bad, _ = _run(batches, n, _job(settings), None, workers, progress)
        return DecodedImages(np.zeros((n, 0, 0, 1), dtype=np.uint8), bad)
    _, height, width, channels = first
    while True:
        stride = height * width * channels
        if memory_limit is not None and n * stride > memory_limit:
            raise InputError(
                f"{n} images of {height} x {width} x {channels} take {format_size(n * stride)}, more than the "
                f"{format_size(memory_limit)} allowed",
                "bring them to a smaller size with --image-size 32, or raise --memory-limit",
            )
        memory = PixelMemory(n * stride)
        job = replace(
            _job(settings), size=settings.size, channels=1 if channels == 1 else 3, shape=(height, width), stride=stride
        )
        grey_only = settings.channels == "auto" and channels == 1
        try:
            bad, coloured = _run(batches, n, job, memory, workers, progress, stop_at_colour=grey_only)
        except _Misfit as misfit:
            raise _size_error(misfit, first, name_row) from None
        if grey_only and coloured:
            channels = 3
            continue
        return DecodedImages(np.frombuffer(memory.seal(), dtype=np.uint8).reshape(n, height, width, channels), bad)


def verify_images(
    batches: Batches, n: int, settings: ImageSettings, workers: int = 1, progress: Progress = silent
) -> tuple[list[BadRow], tuple[int, int, int] | None]:
    """Return the bad rows, for which every image is decoded and none kept, and (H, W, C) of the others: None if they differ.

    Args:
        batches, n, settings, workers, progress: as in `decode_images`; read three times where sizes differ, else twice.
    """
    first = _first_good(batches, settings)
    if first is None:
        return _run(batches, n, _job(settings), None, workers, progress)[0], None
    _, height, width, channels = first
    try:
        bad, coloured = _run(batches, n, replace(_job(settings), shape=(height, width)), None, workers, progress)
    except _Misfit:
        return _run(batches, n, _job(settings), None, workers, progress)[0], None
    return bad, (height, width, 3 if coloured else channels)


class EncodedImages:
    """Images that stay encoded until a batch of them is asked for: for data that does not fit into memory.

    Made by `spool_images`. May be pickled and handed to other processes: what travels is the place of the spool and
    where each row lies in it.

    Args:
        spool: file with all rows behind one another: bytes of files, or paths.
        offsets: (N + 1,) int64, places in the spool.
        kinds: (N,) uint8, `NO_IMAGE`, `BYTES` or `PATH`.
        shape: (N, H, W, C) of the whole.
        settings: as it was spooled with.
    """

    def __init__(
        self,
        spool: Path,
        offsets: npt.NDArray[np.int64],
        kinds: UInt8Array,
        shape: tuple[int, int, int, int],
        settings: ImageSettings,
    ) -> None:
        self.shape = shape
        self._spool = spool
        self._offsets = offsets
        self._kinds = kinds
        self._settings = settings
        self._data: mmap.mmap | bytes | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_data": None}

    def take(self, positions: npt.NDArray[np.integer[Any]]) -> UInt8Array:
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
            self._data = _open_spool(self._spool)
        wanted = np.asarray(positions)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"positions from {wanted.min()} to {wanted.max()} of {len(self)} images")
        _, height, width, channels = self.shape
        images_bhwc = np.zeros((len(wanted), height, width, channels), dtype=np.uint8)
        fixed = replace(self._settings, size=(height, width), channels=1 if channels == 1 else 3)
        for place, position in enumerate(wanted.tolist()):
            kind = self._kinds[position]
            if kind == NO_IMAGE:
                continue
            piece = self._data[self._offsets[position] : self._offsets[position + 1]]
            try:
                images_bhwc[place] = decode_image(
                    piece if kind == BYTES else piece.decode("utf-8", "surrogateescape"), fixed
                )
            except BadImage as reason:
                raise InputError(
                    f"the image at position {position} could be read before and cannot now: {reason}", "start again"
                ) from None
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
    first = _first_good(batches, settings)
    _, height, width, channels = first or (0, 0, 0, 1)
    job = _job(settings)
    if settings.size is None and first is not None:
        job = replace(job, shape=(height, width))
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
            bad, coloured = _run(batches, n, job, None, workers, progress, keep=keep)
        except _Misfit as misfit:
            assert first is not None
            raise _size_error(misfit, first, name_row) from None
    kinds[np.array([row.position for row in bad], dtype=np.int64)] = NO_IMAGE
    if settings.channels == "auto" and coloured:
        channels = 3
    return EncodedImages(spool, offsets, kinds, (n, height, width, channels), settings), bad


def _first_good(batches: Batches, settings: ImageSettings) -> tuple[int, int, int, int] | None:
    """Return (position, H, W, C) of the first good image, or None."""
    for chunk in image_chunks(batches(), lambda: _FIRST_ROWS):
        for row in range(len(chunk)):
            try:
                data = encoded_bytes(chunk.encoded(row), settings.root, settings.max_pixels)
                picture = fit_picture(read_picture(data, settings.max_pixels), settings.size, settings.channels)
            except BadImage:
                continue
            return chunk.first + row, picture.height, picture.width, 1 if picture.mode == "L" else 3
    return None


def _job(settings: ImageSettings) -> Job:
    return Job(settings.max_pixels, None if settings.root is None else str(settings.root.absolute()))


class _Misfit(Exception):
    """The first image of another size: (position, H, W)."""

    def __init__(self, misfit: tuple[int, int, int]) -> None:
        self.position, self.height, self.width = misfit


def _size_error(misfit: _Misfit, first: tuple[int, int, int, int], name_row: Callable[[int], str]) -> InputError:
    position, height, width, _ = first
    return InputError(
        f"images differ in size: {name_row(position)} is {height} x {width} (height x width), "
        f"{name_row(misfit.position)} is {misfit.height} x {misfit.width}",
        "bring all of them to one size with --image-size 32",
    )


def _run(
    batches: Batches,
    n: int,
    job: Job,
    memory: PixelMemory | None,
    workers: int,
    progress: Progress,
    stop_at_colour: bool = False,
    keep: Callable[[Chunk], None] | None = None,
) -> tuple[list[BadRow], bool]:
    """Return the bad rows by position, and whether a picture was not grey: if asked to, the run stopped at that.

    Raises:
        _Misfit: the first picture of another size. Chunks are begun in their order, and those under way are waited for,
            so it is the same one for any number of workers.
    """
    bad: list[BadRow] = []
    misfits: list[tuple[int, int, int]] = []
    coloured = False
    done = 0

    def stop() -> bool:
        return bool(misfits) or (stop_at_colour and coloured)

    with contextlib.closing(_decoded(batches, n, job, memory, workers, stop, keep)) as results:
        for chunk, found in results:
            bad += [BadRow(position, _path_at(chunk, position), reason) for position, reason in found.bad]
            coloured = coloured or found.coloured
            if found.misfit is not None:
                misfits.append(found.misfit)
            done += len(chunk)
            progress(_TASK, done, n)
    if misfits:
        raise _Misfit(min(misfits))
    if done != n and not stop():
        raise ValueError(f"the batches hold {done} rows and were said to hold {n}")
    return sorted(bad), coloured


def _decoded(
    batches: Batches,
    n: int,
    job: Job,
    memory: PixelMemory | None,
    workers: int,
    stop: Callable[[], bool],
    keep: Callable[[Chunk], None] | None,
) -> Generator[tuple[Chunk, Found], None, None]:
    """Yield every chunk with what came to light in it: here as long as that is quick enough, then in workers."""
    rows, done, seconds = _FIRST_ROWS, 0, 0.0
    chunks = _kept(image_chunks(batches(), lambda: rows), n, keep)
    for chunk in chunks:
        began = time.perf_counter()
        found = decode_chunk(chunk, job, None if memory is None else memory.pixels)
        seconds += time.perf_counter() - began
        done += len(chunk)
        yield chunk, found
        if stop():
            return
        pace = max(seconds, 1e-9) / done
        fitting = max(1, min(_CHUNK_ROWS, int(_CHUNK_SECONDS / pace)))
        rows = min(fitting, done)  # no leap into much larger images
        ahead = pace * (n - done)
        if workers > 1 and ahead > _WORKERS_PAY:
            rows = fitting
            with DecodeWorkers(min(workers, 1 + int(ahead / _WORKERS_PAY)), job, memory) as pool:
                yield from pool.run(chunks, stop)
            return


def _kept(chunks: Iterator[Chunk], n: int, keep: Callable[[Chunk], None] | None) -> Iterator[Chunk]:
    for chunk in chunks:
        if chunk.first + len(chunk) > n:
            raise ValueError(f"the batches hold more than the {n} rows that they were said to hold")
        if keep is not None:
            keep(chunk)
        yield chunk


def _path_at(chunk: Chunk, position: int) -> str | None:
    name = None if chunk.names is None else chunk.names[position - chunk.first]
    return None if name is None or not name.is_valid else name.as_buffer().to_pybytes().decode(errors="replace")


def _open_spool(spool: Path) -> mmap.mmap | bytes:
    with spool.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if spool.stat().st_size else b""
