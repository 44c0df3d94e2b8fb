"""A column of images into one array; every row ends there or in the bad rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import format_size
from prune_cli.io.images.column_decoder import BadRow, Batches, ColumnDecoder, Misfit, row_name
from prune_cli.io.images.decoding import ImageSettings
from prune_cli.io.images.pixel_memory import PixelMemory


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
