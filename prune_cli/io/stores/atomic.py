"""Files, objects and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
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


class _Guard:
    """The files that a command reads, and those that it will write: none may be both, nor two outputs be one.

    Args:
        inputs: locations; of a folder its Parquet files are read.
    """

    def __init__(self, inputs: Iterable[str | Path]) -> None:
        self._inputs = {_identity(place): str(place) for place in inputs}
        self._folders = {_identity(place): str(place) for place in inputs if not is_remote(place) and Path(place).is_dir()}
        self._outputs: set[object] = set()

    def admit(self, output: str | Path) -> None:
        """Raise where an output is an input, would be read as one, or is there twice."""
        here, cure = _identity(output), "name another with -o"
        if here in self._inputs:
            raise InputError(f"output {output} is what the command reads ({self._inputs[here]})", cure)
        above = None if is_remote(output) else _identity(Path(output).parent)
        if above in self._folders and str(output).endswith(".parquet"):
            raise InputError(f"output {output} would be one of the files of {self._folders[above]}, which the command reads", cure)
        if here in self._outputs:
            raise InputError(f"{output} is named for two outputs", "give each a name of its own")
        self._outputs.add(here)

    def holds_input(self, folder: Path) -> bool:
        """Return whether an input is a folder, or lies in it."""
        place = os.path.realpath(folder)
        return any(not is_remote(i) and (os.path.realpath(i) + os.sep).startswith(place + os.sep) for i in self._inputs.values())


_GUARD: ContextVar[_Guard | None] = ContextVar("guard", default=None)


@contextlib.contextmanager
def guarding(inputs: Iterable[str | Path]) -> Iterator[None]:
    """Within the block no output may be one of these files, however it is named, and no two outputs may be one."""
    token = _GUARD.set(_Guard(list(inputs)))
    try:
        yield
    finally:
        _GUARD.reset(token)


def _identity(place: str | Path) -> object:
    """Return what a location is, however it is named: device and inode, or where it will be."""
    if is_remote(place):
        return str(place)
    try:
        found = Path(place).stat()
    except OSError:
        return Path(os.path.realpath(Path(place).parent)) / Path(place).name
    return found.st_dev, found.st_ino


def check_output(output: str | Path, force: bool) -> None:
    """Raise before any work is done when the output cannot be written; standard output always can.

    Raises:
        InputError: it exists and ``force`` is not given, it is no regular file, its folder is missing or not writable, or it is what the
            command reads or writes elsewhere (see `guarding`); of an object see `check_stored_output`.
    """
    if output == STDIN:
        return
    if (guard := _GUARD.get()) is not None:
        guard.admit(output)
    if is_remote(output):
        check_stored_output(str(output), force)
        return
    path = Path(output)
    if path.is_dir():
        raise InputError(f"output {path} is a folder", "name a file with -o")
    if path.exists() and not path.is_file():
        raise InputError(f"output {path} is a device, a pipe or a socket", "name a file with -o, or - for standard output")
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
    if (guard := _GUARD.get()) is not None and guard.holds_input(final):
        raise InputError(f"output {final} holds what the command reads", "name another with -o")
    if final.exists() and not (final / marker).is_file():
        raise InputError(f"{final} is no export (it has no {marker}), and is not replaced", "name another with -o")
    if not final.parent.is_dir():
        raise InputError(f"the folder of output {final} does not exist", f"make it: mkdir -p {final.parent}")
    building = final.with_name(f".{final.name}.{_host()}.{os.getpid()}.tmp")
    _remove_leftovers(final)
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
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
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
