"""Reading by location: files of this machine and objects of a store alike."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast
from weakref import WeakValueDictionary

from prune_cli.core.errors import InputError, PruneError
from prune_cli.io.stores.errors import explained
from prune_cli.io.stores.filesystems import known_sha256, open_filesystem
from prune_cli.io.stores.locations import is_remote, name_of, split_options
from prune_cli.io.stores.ranges import StoredFile, StoredObject

_OPEN: WeakValueDictionary[tuple[object, ...], StoredObject] = WeakValueDictionary()
"""What somebody has open: it is fetched and hashed once, however often it is named."""


def open_input(location: str | Path) -> BinaryIO:
    """Return a file or an object, open for reading at its start.

    Raises:
        InputError: an object that is not there or cannot be read; of a local file the error is Python's.
    """
    if not is_remote(location):
        return Path(location).open("rb")
    return cast(BinaryIO, StoredFile(_stored(str(location), look(str(location)))))


def parquet_files(location: str) -> list[tuple[str, BinaryIO]]:
    """Return the Parquet files of a remote location, open, with the location of each: itself, or those of a prefix in name order.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    from pyarrow.fs import FileSelector, FileType

    info = look(location)
    place, options = split_options(location)
    if info.type == FileType.File and not place.endswith("/"):
        return [(location, cast(BinaryIO, StoredFile(_stored(location, info))))]
    if info.type != FileType.Directory:
        raise _missing(location)
    filesystem, path = open_filesystem(location)
    try:
        infos = filesystem.get_file_info(FileSelector(path))
    except Exception as error:
        raise _explained(error, location, "list") from error
    wanted = [i for i in infos if i.is_file and i.base_name.endswith(".parquet") and not i.base_name.startswith(".")]
    if not wanted:
        raise InputError(f"{location} is a prefix without *.parquet files", "check the location")
    found = []
    for one in sorted(wanted, key=lambda i: i.base_name):
        child = f"{place.rstrip('/')}/{one.base_name}{options}"
        found.append((child, cast(BinaryIO, StoredFile(_stored(child, one)))))
    return found


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
        raise _explained(_reason(filesystem, path, error), location, doing) from error


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
    if location.startswith("hf:"):
        return _explained(FileNotFoundError("RepositoryNotFound"), location, "read")
    return _explained(FileNotFoundError("NO_SUCH_BUCKET NOT_FOUND"), location, "read")


def _stored(location: str, info: Any) -> StoredObject:
    from pyarrow.fs import FileType

    if info.type != FileType.File:
        raise _missing(location)
    filesystem, path = open_filesystem(location)
    key = (id(filesystem), path, info.size, info.mtime_ns)
    found = _OPEN.get(key)
    if found is not None:
        return found

    def now() -> Sequence[object]:
        one = filesystem.get_file_info(path)
        return one.size, one.mtime_ns

    def failed(error: Exception) -> PruneError:
        return _explained(_reason(filesystem, path, error), location, "read")

    try:
        source = filesystem.open_input_file(path)
        size = source.size() if info.size is None else info.size
        told = known_sha256(filesystem, path)
    except FileNotFoundError:
        raise _missing(location) from None
    except Exception as error:
        raise failed(error) from error
    found = _OPEN[key] = StoredObject(location, source, size, (info.size, info.mtime_ns), now, failed, told)
    return found


def _explained(error: BaseException, location: str, doing: str) -> PruneError:
    return error if isinstance(error, PruneError) else explained(error, location, doing)
