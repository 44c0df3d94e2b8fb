"""One pass over a column of images: every row is decoded, here or in workers, and what is wrong with it is noted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.io.images.chunk_decoder import Chunk, Found, PixelPlan, decode_chunk
from prune_cli.io.images.chunks import image_chunks
from prune_cli.io.images.decoding import BadImage, ImageSettings, encoded_bytes, fit_picture, read_picture
from prune_cli.io.images.pixel_memory import PixelMemory
from prune_cli.io.images.workers import decode_in_workers

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
        self,
        plan: PixelPlan,
        memory: PixelMemory | None,
        stop: Callable[[], bool],
        keep: Callable[[Chunk], None] | None,
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

    def _chunks(
        self, rows: Callable[[], int], stop: Callable[[], bool], keep: Callable[[Chunk], None] | None
    ) -> Iterator[Chunk]:
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
