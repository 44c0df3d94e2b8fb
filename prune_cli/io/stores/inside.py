"""Files under a root folder, and none outside it: for paths that come out of a file that somebody else made."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a symbolic link that leads nowhere"}


class BadFile(Exception):
    """The reason why a path does not lead to a file that may be read: one line that names it."""


def resolve_inside(root: Path, path: str) -> Path:
    """Return where a path leads, if that is a regular file inside the root folder.

    Relative paths start at the root; ``..``, absolute paths and symbolic links are followed on paper and refused if
    they end outside it. Nothing is opened here.

    Raises:
        BadFile: a path out of the root, nothing there, or not a regular file.
    """
    if not path or "\0" in path:
        raise BadFile(f"{_shown(path)} is not a path")
    base = os.path.realpath(root)
    try:
        real = os.path.realpath(os.path.join(base, path))  # noqa: PTH118 -- pathlib costs more than a small image
        if not real.startswith(base if base.endswith(os.sep) else base + os.sep):
            raise BadFile(f"{_shown(path)} leads outside the root folder {root}")
        mode = os.lstat(real).st_mode
    except (OSError, ValueError) as error:
        raise BadFile(f"{_shown(path)}: {trouble_of(error)}") from None
    if not stat.S_ISREG(mode):
        raise BadFile(f"{_shown(path)} is {_kind_of_file(mode)}, not a file")
    return Path(real)


def read_inside(root: Path, path: str, limit: int) -> bytes:
    """Return the bytes of a regular file inside the root folder: see `resolve_inside`.

    Raises:
        BadFile: as `resolve_inside`, or it cannot be read, or it has more than ``limit`` bytes.
    """
    real = resolve_inside(root, path)
    try:
        # Not to block on a pipe, and not through a link, should either have taken the file's place since it
        # was looked at.
        handle = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        with open(handle, "rb") as file:  # noqa: PTH123 -- a descriptor
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                raise BadFile(f"{_shown(path)} is {_kind_of_file(facts.st_mode)}, not a file")
            if facts.st_size > limit:
                raise BadFile(f"{_shown(path)} has {facts.st_size} bytes, more than the {limit} that a picture can need")
            return file.read()
    except OSError as error:
        raise BadFile(f"{_shown(path)}: {trouble_of(error)}") from None


def trouble_of(error: OSError | ValueError) -> str:
    """Return what is wrong, without the path."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def _shown(path: str) -> str:
    text = repr(path)
    return text if len(text) <= 200 else text[:120] + "..." + text[-70:]


def _kind_of_file(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "a device")
