"""Writing to object stores: an object is there whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, TypeVar

from prune_cli.core.errors import InputError, PruneError
from prune_cli.io.stores.errors import explained
from prune_cli.io.stores.filesystems import open_filesystem
from prune_cli.io.stores.locations import split_options
from prune_cli.io.stores.reading import look

T = TypeVar("T")

_CHUNK = 32 * 2**20
"""Bytes that are on their way at a time: some parts of a multipart upload, sent side by side."""

_BEGUN: dict[tuple[int, str], Any] = {}
"""File system and path -> the stream of the upload that `check_stored_output` began."""


def check_stored_output(location: str, force: bool) -> None:
    """Raise before any work is done when an object cannot be written.

    The upload is begun here, which takes the permission to write and shows nothing in the bucket, and is gone on with when the
    object is there to be sent.

    Raises:
        InputError: it exists and ``force`` is not given, the location names no object, is read-only, or may not be written.
    """
    from pyarrow.fs import FileType

    place = split_options(location)[0]
    if place.startswith("hf://"):
        raise InputError(f"output {location} is on the Hub, which is read alone", "write a file, then: hf upload")
    if place.endswith("/") or place.count("/") < 3:
        raise InputError(f"output {location} names no object", "write BUCKET/FOLDER/FILE.parquet")
    if not force and look(location, "write").type == FileType.File:
        raise InputError(f"output {location} exists already", "pass --force to replace it, or name another with -o")
    _BEGUN[_key(location)] = _in_thread(lambda stop: _begin(location))


@contextlib.contextmanager
def stored_output(location: str) -> Iterator[BinaryIO]:
    """Yield a file that becomes an object when the block ends well; when it does not, nothing was sent.

    The file is a temporary one of this machine, and is sent in one go when it is whole. The store shows an object when the upload
    is completed, and only ``close()`` of pyarrow's stream completes it, with whatever was sent until then. But such a stream also
    closes itself: at the end of a ``with`` block that an exception ends, and when it is collected. So none is used in a ``with``
    block, every stream is made immortal as soon as it is opened, in a thread that no signal interrupts, and ``close()`` is called
    when all bytes were sent and at no other time. An error, Ctrl-C or a kill thus leaves an upload that was begun, which no
    listing shows and no reader sees; a lifecycle rule that aborts incomplete uploads removes it, on GCS a week does.

    Raises:
        InputError: the store takes it not, or the temporary folder has no room.
    """
    try:
        with tempfile.TemporaryFile() as spool:
            yield spool
            spool.flush()
            _upload(location, spool)
    except OSError as error:
        raise InputError(
            f"cannot write {location}: {error.strerror or error} in {tempfile.gettempdir()}",
            "free disk space there, or set TMPDIR to a folder with room",
        ) from error


def remove_object(location: str) -> None:
    """Remove an object."""
    filesystem, path = open_filesystem(location)
    try:
        filesystem.delete_file(path)
    except OSError as error:
        raise explained(error, location, "remove") from error


def _upload(location: str, spool: BinaryIO) -> None:
    """Send a whole file and see that the store has as many bytes."""
    size = spool.seek(0, 2)
    begun = _BEGUN.pop(_key(location), None)
    try:
        _in_thread(lambda stop: _send(location, begun or _begin(location), spool, stop))
    except PruneError:
        if begun is None:
            raise
        # what was begun hours ago may have been aborted since
        _in_thread(lambda stop: _send(location, _begin(location), spool, stop))
    there = look(location, "write").size
    if there != size:
        raise InputError(f"{location} has {there} bytes and {size} were sent", "write it again")


def _key(location: str) -> tuple[int, str]:
    filesystem, path = open_filesystem(location)
    return id(filesystem), path


def _begin(location: str) -> Any:
    """Return the stream of an upload that was begun, immortal."""
    filesystem, path = open_filesystem(location)
    try:
        stream = filesystem.open_output_stream(path)
    except OSError as error:
        raise explained(error, location, "write") from error
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))
    return stream


def _send(location: str, stream: Any, spool: BinaryIO, stop: threading.Event) -> None:
    spool.seek(0)
    while chunk := spool.read(_CHUNK):
        if stop.is_set():
            return
        try:
            stream.write(chunk)
            stream.flush()  # waits for the parts, whose errors it raises
        except OSError as error:
            raise explained(error, location, "write") from error
    if not stop.is_set():
        try:
            stream.close()
        except OSError as error:
            raise explained(error, location, "write") from error


def _in_thread(work: Callable[[threading.Event], T]) -> T:
    """Return what work gives that Ctrl-C does not interrupt; the event that it gets is set when it should stop by itself."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work, stop)
        try:
            return working.result()
        except BaseException:
            stop.set()
            raise
