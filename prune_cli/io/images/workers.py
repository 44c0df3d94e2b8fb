"""Chunks of encoded images decoded by processes, into memory shared with this one."""

from __future__ import annotations

import dataclasses
import mmap
import os
import signal
import tempfile
from collections.abc import Generator, Iterable

from prune_cli.core.errors import PruneError
from prune_cli.engines.pool import LostWorker, NoWorker, Pool
from prune_cli.io.images import chunk_decoder
from prune_cli.io.images.chunk_decoder import Chunk, Found, PixelPlan


class PixelMemory:
    """Memory of one size that other processes can be handed by its descriptor, zero to begin with.

    Where there is no `memfd` (outside Linux, in some sandboxes) it is a temporary file without a name.
    """

    descriptor = -1

    def __init__(self, size: int) -> None:
        try:
            self.descriptor = os.memfd_create("prune-images")
        except (AttributeError, OSError):
            with tempfile.TemporaryFile() as file:
                self.descriptor = os.dup(file.fileno())
        os.ftruncate(self.descriptor, size)
        self.pixels = mmap.mmap(self.descriptor, size)

    def seal(self) -> mmap.mmap:
        """Return the memory, its descriptor closed: no further process can be handed it."""
        os.close(self.descriptor)
        self.descriptor = -1
        return self.pixels

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def decode_in_workers(
    count: int, chunks: Iterable[Chunk], plan: PixelPlan, memory: PixelMemory | None
) -> Generator[tuple[Chunk, Found], None, None]:
    """Yield every chunk with what came to light in it, in the order in which they are done.

    Args:
        count: how many processes; they are gone when this ends, however that comes about.
        chunks: begun in their order, taken one ahead of the need.
        plan: what to do with every image.
        memory: where the pixels go, or None to verify only.
    Raises:
        PruneError: a worker died; the message names the rows that it had.
    """
    descriptors = () if memory is None else (memory.descriptor,)
    settings = {"plan": dataclasses.asdict(plan), "descriptor": -1 if memory is None else memory.descriptor}
    service = f"{chunk_decoder.__name__}:{chunk_decoder.answer_chunks.__name__}"
    try:
        with Pool(service, settings, count=count, keep_open=descriptors) as pool:
            for chunk, (found, _) in pool.run(chunks, Chunk.pack):
                bad = [(position, reason) for position, reason in found["bad"]]
                misfit = found["misfit"] and tuple(found["misfit"])
                yield chunk, Found(bad, found["coloured"], misfit)
    except NoWorker as reason:
        raise PruneError(f"decoding processes cannot be started: {reason}", "decode in this one with --workers 1") from None
    except LostWorker as lost:
        raise _lost(lost, lost.task) from None


def _lost(worker: LostWorker, chunk: Chunk) -> PruneError:
    rows = f"rows {chunk.first} to {chunk.first + len(chunk) - 1}"
    if worker.code < 0:
        known = -worker.code in list(signal.Signals)
        name = signal.Signals(-worker.code).name if known else f"signal {-worker.code}"
        return PruneError(
            f"a decoding process was killed ({name}) while it decoded {rows}",
            "if memory ran out, use fewer processes (--workers 1) or refuse large pictures (--max-pixels); if it "
            "happens again, one of these rows makes the decoder crash",
        )
    return PruneError(
        f"a decoding process ended with code {worker.code} while it had {rows}: {worker.said}", "decode in this process with --workers 1"
    )
