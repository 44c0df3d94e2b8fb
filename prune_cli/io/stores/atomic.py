"""Files, objects and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

from prune_cli.core.errors import InputError, PruneError
from prune_cli.io.stores.filesystems import explained, open_filesystem
from prune_cli.io.stores.locations import STDIN, is_remote, split_options
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


def check_output(output: str | Path, force: bool) -> None:
    """Raise before any work is done when the output cannot be written; standard output always can.

    Raises:
        InputError: it exists and ``force`` is not given, it is a folder where a file is wanted, or its folder is missing
            or not writable; of an object see `check_stored_output`.
    """
    if output == STDIN:
        return
    if is_remote(output):
        check_stored_output(str(output), force)
        return
    path = Path(output)
    if path.is_dir():
        raise InputError(f"output {path} is a folder", "name a file with -o")
    if os.path.lexists(path) and not force:
        raise InputError(f"output {path} exists already", "pass --force to replace it, or name another with -o")
    if not path.parent.is_dir():
        raise InputError(f"the folder of output {path} does not exist", f"make it: mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"the folder of output {path} is not writable", "name another with -o")


@contextlib.contextmanager
def atomic_file(output: str | Path) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes ``output`` when the block ends well, and vanishes when it does not.

    The temporary file stands in the same folder, is flushed and fsynced, then renamed, and the folder is fsynced: a
    kill at any moment leaves the old file or the new one. What a killed run left behind is removed by the next. For an
    object of a store see `stored_output`.

    Raises:
        InputError: the disk is full or the file cannot be written.
    """
    if is_remote(output):
        with stored_output(str(output)) as file:
            yield file
        return
    path = Path(output)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}", "free disk space or name another place with -o") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(final: Path, marker: str, force: bool) -> Iterator[Path]:
    """Yield a folder that becomes ``final`` when the block ends well, and vanishes when it does not.

    Args:
        marker: name of a file that tells a folder of ours: one without it is never replaced.
        force: replace a finished one.
    Raises:
        InputError: it exists and may not be replaced, its folder is missing, or it cannot be written.
    """
    if final.exists() and not force:
        raise InputError(f"output {final} exists already", "pass --force to replace it, or name another with -o")
    if final.exists() and not (final / marker).is_file():
        raise InputError(f"{final} is no export (it has no {marker}), and is not replaced", "name another with -o")
    if not final.parent.is_dir():
        raise InputError(f"the folder of output {final} does not exist", f"make it: mkdir -p {final.parent}")
    building = final.with_name(f"{final.name}.incomplete")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir()
        yield building
        publish_folder(building, final)
    except OSError as error:
        raise InputError(f"cannot write {final}: {error.strerror or error}", "free disk space") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def publish_file(building: Path, final: Path) -> None:
    """Rename a finished file into place, fsynced, replacing an older one of that name."""
    _sync(building)
    building.replace(final)
    _sync(final.parent)


def publish_folder(building: Path, final: Path) -> None:
    """Rename a finished folder into place, replacing an older one of that name.

    Every file in it is fsynced first. Where ``final`` exists, it is set aside until the new one stands.
    """
    for file in building.rglob("*"):
        if file.is_file():
            _sync(file)
    old = final.with_name(f".{final.name}.{os.getpid()}.old")
    if final.exists():
        final.rename(old)
    building.rename(final)
    _sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    pattern = re.compile(re.escape(f".{path.name}.{_host()}.") + r"(\d+)\.tmp")
    for entry in path.parent.iterdir() if path.parent.is_dir() else ():
        match = pattern.fullmatch(entry.name)
        if match and not Path(f"/proc/{match[1]}").exists() and Path("/proc/self").exists():
            entry.unlink(missing_ok=True)


def _host() -> str:
    """Return the name of this machine, as part of a file's: others may work in the same folder, and their processes are not ours."""
    return re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:40] or "here"


def _sync(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
