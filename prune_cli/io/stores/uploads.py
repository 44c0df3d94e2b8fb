"""Writing to object stores: an object is there whole or not at all."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import BinaryIO

from prune_cli.core.errors import InputError, PruneError
from prune_cli.io.stores.errors import explained
from prune_cli.io.stores.filesystems import open_filesystem
from prune_cli.io.stores.locations import split_options
from prune_cli.io.stores.reading import look

_CHUNK = 32 * 2**20
"""Bytes that are on their way at a time: some parts of a multipart upload, sent side by side."""


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
    _BEGUN[_key(location)] = _Upload(location)


@contextlib.contextmanager
def stored_output(location: str) -> Iterator[BinaryIO]:
    """Yield a file that becomes an object when the block ends well; when it does not, nothing was sent.

    The file is a temporary one of this machine, and is sent in one go when it is whole. The store shows an object when its upload is
    completed: see `_Upload`. An error, Ctrl-C or a kill leaves an upload that was begun, which no listing shows and no reader sees; a
    lifecycle rule that aborts incomplete uploads removes it, on GCS a week does.

    Raises:
        InputError: the store takes it not, or the temporary folder has no room.
    """
    try:
        with tempfile.TemporaryFile() as spool:
            yield spool
            spool.flush()
            _send(location, spool)
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


def _send(location: str, spool: BinaryIO) -> None:
    """Send a whole file and see that the store has as many bytes."""
    size = spool.seek(0, 2)
    begun = _BEGUN.pop(_key(location), None)
    try:
        (begun or _Upload(location)).send(spool)
    except PruneError:
        if begun is None:
            raise
        _Upload(location).send(spool)  # what was begun hours ago may have been aborted since
    there = look(location, "write").size
    if there != size:
        raise InputError(f"{location} has {there} bytes and {size} were sent", "write it again")


def _key(location: str) -> tuple[int, str]:
    filesystem, path = open_filesystem(location)
    return id(filesystem), path


class _Upload:
    """An upload that was begun, and the thread that alone holds its stream.

    pyarrow's stream completes an upload when it is closed, and also when it is collected, with whatever was sent until then; it has no
    way to abort. So the thread ends when it has sent and closed a whole file, and at no other time: after an error, or where no file
    comes, it holds the stream and waits, a daemon, until the process is gone. No signal interrupts it.

    Raises:
        InputError: the store takes nothing.
    """

    def __init__(self, location: str) -> None:
        self._location, self._stopped = location, False
        self._files: SimpleQueue[BinaryIO] = SimpleQueue()
        self._answers: SimpleQueue[Exception | None] = SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()
        self._wait()

    def send(self, file: BinaryIO) -> None:
        """Send a whole file and complete the object; once."""
        self._files.put(file)
        self._wait()

    def _wait(self) -> None:
        try:
            error = self._answers.get()
        except BaseException:  # Ctrl-C: the thread stops before its next chunk
            self._stopped = True
            self._answers.get()
            raise
        if error is not None:
            raise error

    def _run(self) -> None:
        stream = None
        try:
            filesystem, path = open_filesystem(self._location)
            stream = filesystem.open_output_stream(path)
            self._answers.put(None)
            file = self._files.get()
            file.seek(0)
            while not self._stopped and (chunk := file.read(_CHUNK)):
                stream.write(chunk)
                stream.flush()  # waits for the parts, whose errors it raises
            if not self._stopped:
                stream.close()
                stream = None
            self._answers.put(None)
        except OSError as error:
            self._answers.put(explained(error, self._location, "write"))
        except Exception as error:
            self._answers.put(error)
        if stream is not None:
            threading.Event().wait()


_BEGUN: dict[tuple[int, str], _Upload] = {}
"""File system and path -> the upload that `check_stored_output` began."""
