"""Lists of ids that other tools read and write: one a line, an array of NumPy's, DataComp's uids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.foreign.readers import read_vector
from prune_cli.io.ids.columns import repeated, some

UID = np.dtype("u8,u8")
"""How DataComp stores a uid of 128 bits: its two halves."""

_DIGITS = 32


def read_ids_file(path: Path) -> pa.Array:
    """Return the ids of a list, strings or int64, in its order: a ``.npy`` file, else text with one id a line.

    Raises:
        InputError: no such file, neither kind, no id in it, or an id that stands twice.
    """
    return _checked(_array_ids(path) if path.suffix == ".npy" else _line_ids(path), path)


def read_lines(path: Path) -> pa.Array:
    """Return the ids of a text file, one a line, as strings; empty lines are none.

    Raises:
        InputError: no such file, no text, no id in it, or an id that stands twice.
    """
    return _checked(_line_ids(path), path)


def read_uids(path: Path) -> pa.Array:
    """Return the uids of one of DataComp's subset files, as strings of 32 hexadecimal digits.

    Raises:
        InputError: another type than pairs of unsigned 64-bit numbers, no uid in it, or one that stands twice.
    """
    halves = read_vector(path, "uids")
    if halves.dtype != UID:
        raise InputError(f"{path} holds {halves.dtype}, and DataComp's uids are '{UID}'", "import it --from indices or ids")
    first, second = halves.dtype.names or ()
    digits = np.stack([halves[first], halves[second]], axis=1).astype(">u8").tobytes().hex().encode()
    offsets = np.arange(len(halves) + 1, dtype=np.int64) * _DIGITS
    uids = pa.LargeStringArray.from_buffers(len(halves), pa.py_buffer(offsets), pa.py_buffer(digits))
    return _checked(uids.cast(pa.string()), path)


def _line_ids(path: Path) -> pa.Array:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text", "give one id a line, in UTF-8") from None
    # Not splitlines: an id may hold what that takes for the end of a line.
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return pa.array([line for line in lines if line], pa.string())


def _array_ids(path: Path) -> pa.Array:
    ids = read_vector(path, "ids")
    if ids.dtype.kind in "iu":
        if ids.dtype.kind == "u" and len(ids) and int(ids.max()) > np.iinfo(np.int64).max:
            raise InputError(f"{path} has the id {int(ids.max())}, which is beyond 64 bits with a sign", "save them as strings")
        return pa.array(ids.astype(np.int64))
    if ids.dtype.kind == "U":
        return pa.array(ids, pa.string())
    if ids.dtype.kind == "S":
        try:
            return pa.array(np.char.decode(ids, "utf-8"), pa.string())
        except UnicodeDecodeError:
            raise InputError(f"{path} holds bytes that are not UTF-8", "save the ids as strings") from None
    raise InputError(f"{path} holds {ids.dtype}, and ids are strings or whole numbers", "np.save(file, ids.astype(str))")


def _checked(ids: pa.Array, path: Path) -> pa.Array:
    if not len(ids):
        raise InputError(f"{path} has no ids", "check the file")
    twice = repeated(ids)
    if len(twice):
        raise InputError(f"{path}: {len(twice)} id(s) stand more than once: {some(twice)}", "list each once")
    return ids
