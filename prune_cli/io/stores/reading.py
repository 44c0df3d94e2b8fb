"""Reading by location: files of this machine and objects of a store alike, bytes of these by ranges, each fetched once."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from weakref import WeakValueDictionary

import numpy as np

from prune_cli.core.errors import InputError, PruneError
from prune_cli.io.stores.filesystems import explained, known_sha256, open_filesystem
from prune_cli.io.stores.locations import is_remote, name_of, split_options

_BLOCK = 2**20
_PIECE, _AT_A_TIME = 4 * 2**20, 4
_STEP = _PIECE * _AT_A_TIME


class StoredObject:
    """The bytes of one object, as they were when it was opened.

    What was fetched is kept in a temporary file without a name, so that several passes over the rows and the hash of the whole
    fetch no byte twice, and nothing is fetched that nobody asks for. Where the temporary folder has no room for twice the object,
    nothing is kept. In memory are the ranges asked for alone.

    Args:
        filesystem, path: where the location is.
        info: what the store said of it.
    Raises:
        InputError: it is not there, or cannot be read.
    """

    def __init__(self, location: str, filesystem: Any, path: str, info: Any) -> None:
        self.location, self._filesystem, self._path, self._first = location, filesystem, path, (info.size, info.mtime_ns)
        try:
            self._source = filesystem.open_input_file(path)
            self.size: int = self._source.size() if info.size is None else info.size
            self._told = known_sha256(filesystem, path)
        except FileNotFoundError:
            raise _missing(location) from None
        except Exception as error:
            raise self._failed(error) from error
        self._lock = threading.Lock()
        room = shutil.disk_usage(tempfile.gettempdir()).free >= 2 * self.size
        self._kept = tempfile.TemporaryFile() if room else None  # noqa: SIM115
        self._there = np.zeros(-(-self.size // _BLOCK), bool)

    def read(self, start: int, length: int) -> bytes:
        """Return bytes of a range, cut off at the end of the object.

        Raises:
            InputError: the store does not give them.
        """
        end = min(start + max(0, length), self.size)
        if end <= start:
            return b""
        with self._lock:
            if self._kept is None:
                return b"".join(self._fetched(start, end))
            first, last = start // _BLOCK, -(-end // _BLOCK)
            missing = np.flatnonzero(~self._there[first:last]) + first
            for run in np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1) if len(missing) else ():
                at = int(run[0]) * _BLOCK
                for piece in self._fetched(at, min((int(run[-1]) + 1) * _BLOCK, self.size)):
                    self._keep(self._kept, piece, at)
                    at += len(piece)
                self._there[run] = True
            return os.pread(self._kept.fileno(), end - start, start)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all bytes.

        Raises:
            InputError: the object was replaced while it was read.
        """
        if self._told is not None:
            return self._told
        digest = hashlib.sha256()
        for start in range(0, self.size, _STEP):
            digest.update(self.read(start, _STEP))
        try:
            now = self._filesystem.get_file_info(self._path)
        except OSError as error:
            raise self._failed(error) from error
        if (now.size, now.mtime_ns) != self._first:
            raise InputError(f"{self.location} was changed while it was read", "run it again")
        return digest.hexdigest()

    def _failed(self, error: Exception) -> PruneError:
        return explained(_reason(self._filesystem, self._path, error), self.location, "read")

    def _keep(self, kept: IO[bytes], piece: bytes, at: int) -> None:
        view = memoryview(piece)
        try:
            while view:
                written = os.pwrite(kept.fileno(), view, at)
                view, at = view[written:], at + written
        except OSError as error:
            raise InputError(
                f"the temporary folder {tempfile.gettempdir()} takes no more of {self.location}: {error.strerror}",
                "free disk space, or set TMPDIR to a folder with room",
            ) from error

    def _fetched(self, start: int, end: int) -> list[bytes]:
        """Return the pieces of a range, fetched several at a time."""
        starts = range(start, end, _PIECE)
        if len(starts) == 1:
            return [self._piece(start, end)]
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            return list(pool.map(lambda at: self._piece(at, min(at + _PIECE, end)), starts))

    def _piece(self, start: int, end: int) -> bytes:
        parts: list[bytes] = []
        while start < end:
            try:
                parts.append(self._source.read_at(end - start, start))  # may be fewer than asked for
            except Exception as error:  # the Hub's library raises what it likes
                raise self._failed(error) from error
            if not parts[-1]:
                raise InputError(f"{self.location} was changed while it was read", "run it again")
            start += len(parts[-1])
        return b"".join(parts) if len(parts) > 1 else parts[0]


class StoredFile(io.RawIOBase):
    """A place in a `StoredObject`, as Python's files have it; several of them share what was fetched."""

    def __init__(self, stored: StoredObject) -> None:
        self.stored = stored
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    seekable = readable

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place and return it."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.stored.size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return bytes from the place on; all that are left without a size."""
        found = self.stored.read(self._at, self.stored.size - self._at if size is None or size < 0 else size)
        self._at += len(found)
        return found

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer and return how many bytes there were."""
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


_OPEN: WeakValueDictionary[tuple[object, ...], StoredObject] = WeakValueDictionary()
"""What somebody has open: it is fetched and hashed once, however often it is named."""


def open_input(location: str | Path) -> BinaryIO:
    """Return a file or an object, open for reading at its start.

    Raises:
        InputError: an object that is not there or cannot be read; of a local file the error is Python's.
    """
    if not is_remote(location):
        return Path(location).open("rb")
    return _opened(str(location), look(str(location)))


def parquet_files(location: str) -> list[tuple[str, BinaryIO]]:
    """Return the Parquet files of a remote location, open, with the location of each: itself, or those of a prefix in name order.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    from pyarrow.fs import FileSelector, FileType

    info = look(location)
    place, options = split_options(location)
    if info.type == FileType.File and not place.endswith("/"):
        return [(location, _opened(location, info))]
    if info.type != FileType.Directory:
        raise _missing(location)
    filesystem, path = open_filesystem(location)
    try:
        infos = filesystem.get_file_info(FileSelector(path))
    except Exception as error:
        raise explained(error, location, "list") from error
    wanted = [i for i in infos if i.is_file and i.base_name.endswith(".parquet") and not i.base_name.startswith(".")]
    if not wanted:
        raise InputError(f"{location} is a prefix without *.parquet files", "check the location")
    children = {f"{place.rstrip('/')}/{i.base_name}{options}": i for i in sorted(wanted, key=lambda i: i.base_name)}
    return [(child, _opened(child, one)) for child, one in children.items()]


def fetch(location: str, folder: Path) -> str:
    """Return a location on this machine with the same bytes and names: itself, or a copy in a folder, which is emptied first.

    For work in several processes, each of which would fetch a remote one anew.

    Raises:
        InputError: it cannot be read, or the folder has no room.
    """
    if not is_remote(location):
        return location
    files = parquet_files(location)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for place, file in files:
            with (folder / name_of(place)).open("wb") as copy:
                shutil.copyfileobj(file, copy, 16 * 2**20)
    except OSError as error:
        raise InputError(f"cannot copy {location} to {folder}: {error.strerror or error}", "free disk space") from error
    return str(folder / name_of(location) if files[0][0] == location else folder)


def look(location: str, doing: str = "read") -> Any:
    """Return what the store says of a remote location: pyarrow's FileInfo.

    Raises:
        InputError: it says no.
    """
    filesystem, path = open_filesystem(location)
    try:
        return filesystem.get_file_info(path)
    except Exception as error:
        raise explained(_reason(filesystem, path, error), location, doing) from error


def there(location: str) -> bool:
    """Return whether a location is a file or an object."""
    if not is_remote(location):
        return Path(location).is_file()
    from pyarrow.fs import FileType

    return bool(look(location).type == FileType.File)


def _reason(filesystem: Any, path: str, error: Exception) -> Exception:
    """Return the error that says why. Of an answer to HEAD, and to GET of an object, the reason is lost; of a listing it is not."""
    from pyarrow.fs import FileSelector

    if not re.search(r"AWS Error (UNKNOWN|ACCESS_DENIED).* during (Head|Get)Object", str(error)):
        return error
    try:
        filesystem.get_file_info(FileSelector(path, allow_not_found=True))
    except OSError as told:
        return told
    return error


def _missing(location: str) -> PruneError:
    from pyarrow.fs import FileType

    filesystem, path = open_filesystem(location)
    container = "/".join(path.split("/")[: 3 if location.startswith("hf:") else 1])
    try:
        there = filesystem.get_file_info(container).type != FileType.NotFound
    except Exception:  # one may be allowed to read an object and not to ask for its bucket
        there = True
    if there:
        return InputError(f"{location} does not exist", "check the location")
    code = "RepositoryNotFound" if location.startswith("hf:") else "NO_SUCH_BUCKET NOT_FOUND"
    return explained(FileNotFoundError(code), location, "read")


def _opened(location: str, info: Any) -> BinaryIO:
    from pyarrow.fs import FileType

    if info.type != FileType.File:
        raise _missing(location)
    filesystem, path = open_filesystem(location)
    key = (id(filesystem), path, info.size, info.mtime_ns)
    found = _OPEN.get(key)
    if found is None:
        found = _OPEN[key] = StoredObject(location, filesystem, path, info)
    return cast(BinaryIO, StoredFile(found))
