"""Processes that decode images into memory shared with this one.

A worker is a fresh Python that imports Pillow and no more. It is started by `subprocess`, not forked and not by
`multiprocessing`: fork copies the locks of other threads (pyarrow and torch have some), and multiprocessing's other
ways run the caller's script a second time. It reads chunks of encoded images from a pipe, writes pixels into a memory
file that it was handed, and answers with the rows that are bad. That file has no name (`memfd`), so it is not bounded
by the size of /dev/shm and is gone with the last process that holds it, however that ends. A worker whose parent is
gone reads the end of its pipe and leaves.
"""

from __future__ import annotations

import json
import mmap
import os
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from prune_cli.core.errors import PruneError
from prune_cli.io.images.decoding import BadImage, Channels, Encoded, encoded_bytes, fit_picture, read_picture
from prune_cli.io.images.png_batch import PngBatch

NO_IMAGE, BYTES, PATH = 0, 1, 2

_CHUNK_HEAD = struct.Struct("<qqq")  # position of the first row, rows, bytes
_REPLY_HEAD = struct.Struct("<q")  # bytes
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from prune_cli.io.images.workers import serve; serve(sys.argv[2])"
)


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
    kinds: bytes
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


@dataclass(frozen=True)
class Job:
    """What is to be done with every image.

    Args:
        max_pixels, root: as in `prune_cli.io.images.decoding.ImageSettings`.
        size: (H, W) to bring pictures to, or None.
        channels: 1 or 3 to write, ``auto`` where nothing is written.
        shape: (H, W) that every picture must then have, or None where it does not matter.
        stride: bytes of one image in the memory file, or 0 where nothing is written and pictures are only verified.
    """

    max_pixels: int
    root: str | None = None
    size: tuple[int, int] | None = None
    channels: Channels = "auto"
    shape: tuple[int, int] | None = None
    stride: int = 0


@dataclass
class Found:
    """What came to light in one chunk.

    Args:
        bad: (position, reason) of every row without pixels.
        coloured: some picture was not grey.
        misfit: (position, height, width) of the first picture of another size than ``Job.shape``: the chunk was left
            there.
    """

    bad: list[tuple[int, str]] = field(default_factory=list)
    coloured: bool = False
    misfit: tuple[int, int, int] | None = None


def decode_chunk(chunk: Chunk, job: Job, pixels: mmap.mmap | None) -> Found:
    """Return what came to light in a chunk, its pictures written to their places where there is memory for them."""
    found = Found()
    batch = _png_batch(job)
    root = None if job.root is None else Path(job.root)
    for row in range(len(chunk)):
        position = chunk.first + row
        try:
            data = encoded_bytes(chunk.encoded(row), root, job.max_pixels)
            if batch is not None and batch.add(position, data):
                found.coloured = found.coloured or job.channels == 3
                if batch.full:
                    _write(batch, job, pixels)
                continue
            picture = read_picture(data, job.max_pixels)
        except BadImage as reason:
            found.bad.append((position, str(reason)))
            continue
        found.coloured = found.coloured or picture.mode != "L"
        picture = fit_picture(picture, job.size, job.channels)
        if job.shape is not None and (picture.height, picture.width) != job.shape:
            found.misfit = (position, picture.height, picture.width)
            break
        if pixels is not None:
            pixels[position * job.stride : (position + 1) * job.stride] = picture.tobytes()
    if batch is not None:
        _write(batch, job, pixels)
    return found


def _png_batch(job: Job) -> PngBatch | None:
    """Return what takes plain PNG files together where the pixels are to be written as they are."""
    if job.stride == 0 or job.shape is None or job.size not in (None, job.shape):
        return None
    batch = PngBatch(*job.shape, 1 if job.channels == 1 else 3)
    return batch if batch.worthwhile else None


def _write(batch: PngBatch, job: Job, pixels: mmap.mmap | None) -> None:
    assert pixels is not None
    for position, picture in batch.take():
        pixels[position * job.stride : (position + 1) * job.stride] = picture


class PixelMemory:
    """Memory of one size that other processes can be handed by its descriptor, zero to begin with.

    Where there is no `memfd` (outside Linux, in some sandboxes) it is a temporary file without a name.
    """

    descriptor = -1

    def __init__(self, size: int) -> None:
        try:
            self.descriptor = os.memfd_create("prune-images")
        except (AttributeError, OSError):
            self.descriptor = _nameless_file()
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


class DecodeWorkers:
    """A context in which ``count`` processes decode chunks; on leaving it, however that comes about, they are gone.

    Args:
        count: how many.
        job: what to do with every image.
        memory: where the pixels go, or None to verify only.
    """

    def __init__(self, count: int, job: Job, memory: PixelMemory | None) -> None:
        self._errors: list[IO[bytes]] = []
        self._busy: dict[int, Chunk] = {}
        descriptor = -1 if memory is None else memory.descriptor
        command = [
            sys.executable,
            "-c",
            _START,
            json.dumps([str(place) for place in sys.path]),
            json.dumps({"job": asdict(job), "descriptor": descriptor}),
        ]
        self.processes: list[subprocess.Popen[bytes]] = []
        try:
            for _ in range(count):
                self._errors.append(tempfile.TemporaryFile())  # noqa: SIM115 -- closed in __exit__
                self.processes.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=self._errors[-1],
                        pass_fds=() if memory is None else (descriptor,),
                        process_group=0,  # Ctrl-C is for the parent, which then ends them
                    )
                )
        except OSError as error:
            self.__exit__()
            raise PruneError(
                f"decoding processes cannot be started: {error.strerror or error}",
                "decode in this one with --workers 1",
            ) from None
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> DecodeWorkers:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                try:
                    if pipe is not None:
                        pipe.close()
                except OSError:  # what was still to be written has no reader left
                    pass
        for file in self._errors:
            file.close()

    def run(self, chunks: Iterator[Chunk], stop: Callable[[], bool]) -> Iterator[tuple[Chunk, Found]]:
        """Yield every chunk with what came to light in it, in the order in which they are done.

        Args:
            chunks: taken one by one in their order, one ahead of the need.
            stop: asked before each chunk is handed out; once it says so, what is under way is finished and no more is
                begun.
        Raises:
            PruneError: a worker died; the message names the rows that it had.
        """
        with selectors.DefaultSelector() as selector:
            ahead = next(chunks, None)
            for number, process in enumerate(self.processes):
                if ahead is not None:
                    self._send(number, ahead)
                    selector.register(_pipe(process.stdout), selectors.EVENT_READ, number)
                    ahead = next(chunks, None)
            while self._busy:
                for key, _ in selector.select():
                    number = key.data
                    chunk, found = self._receive(number)
                    if ahead is not None and not stop():
                        self._send(number, ahead)
                        ahead = next(chunks, None)
                    else:
                        selector.unregister(key.fileobj)
                    yield chunk, found

    def _send(self, number: int, chunk: Chunk) -> None:
        pipe = _pipe(self.processes[number].stdin)
        self._busy[number] = chunk
        try:
            pipe.write(_CHUNK_HEAD.pack(chunk.first, len(chunk), len(chunk.data)))
            pipe.write(chunk.kinds)
            pipe.write(chunk.offsets)
            pipe.write(chunk.data)
            pipe.flush()
        except OSError:
            raise self._death(number) from None

    def _receive(self, number: int) -> tuple[Chunk, Found]:
        pipe = _pipe(self.processes[number].stdout)
        head = pipe.read(_REPLY_HEAD.size)
        body = pipe.read(_REPLY_HEAD.unpack(head)[0]) if len(head) == _REPLY_HEAD.size else b""
        if not body:
            raise self._death(number)
        reply = json.loads(body)
        chunk = self._busy.pop(number)
        misfit = reply["misfit"]
        return chunk, Found(
            [(p, r) for p, r in reply["bad"]], reply["coloured"], misfit and (misfit[0], misfit[1], misfit[2])
        )

    def _death(self, number: int) -> PruneError:
        chunk = self._busy[number]
        code = self.processes[number].wait()
        rows = f"rows {chunk.first} to {chunk.first + len(chunk) - 1}"
        if code < 0:
            return PruneError(
                f"a decoding process was killed ({_signal_name(-code)}) while it decoded {rows}",
                "if memory ran out, use fewer processes (--workers 1) or refuse large pictures (--max-pixels); if it "
                "happens again, one of these rows makes the decoder crash",
            )
        self._errors[number].seek(0)
        lines = self._errors[number].read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
        return PruneError(
            f"a decoding process ended with code {code} while it had {rows}: {lines[-1]}",
            "decode in this process with --workers 1",
        )


def serve(task: str) -> None:
    """Decode chunks from standard input until it ends: the whole life of a worker."""
    settings = json.loads(task)
    job = Job(**settings["job"])
    size, shape = job.size, job.shape
    job = Job(
        job.max_pixels, job.root, size and (size[0], size[1]), job.channels, shape and (shape[0], shape[1]), job.stride
    )
    pixels = None if settings["descriptor"] < 0 else mmap.mmap(settings["descriptor"], 0)
    source = sys.stdin.buffer
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # nothing that a library prints gets between the replies
        while len(head := source.read(_CHUNK_HEAD.size)) == _CHUNK_HEAD.size:
            first, rows, length = _CHUNK_HEAD.unpack(head)
            kinds = source.read(rows)
            offsets = array("q")
            offsets.frombytes(source.read(8 * (rows + 1)))
            data = source.read(length)
            if len(data) < length:
                return
            reply = json.dumps(asdict(decode_chunk(Chunk(first, kinds, offsets, data), job, pixels))).encode()
            replies.write(_REPLY_HEAD.pack(len(reply)) + reply)
            replies.flush()


def _nameless_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
