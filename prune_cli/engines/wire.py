"""What goes between processes: a JSON value, and bytes as they are."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from io import BufferedIOBase
from typing import Any, TypeAlias

Buffer: TypeAlias = "bytes | bytearray | memoryview | array[int]"
Parcel: TypeAlias = tuple[Any, Sequence[Buffer]]


def write_parcel(file: BufferedIOBase, value: Any, buffers: Sequence[Buffer] = ()) -> None:
    """Write a value and buffers, each contiguous.

    Raises:
        OSError: the reader is gone.
    """
    file.write(json.dumps([value, [memoryview(buffer).nbytes for buffer in buffers]]).encode() + b"\n")
    for buffer in buffers:
        file.write(buffer)
    file.flush()


def read_parcel(file: BufferedIOBase) -> tuple[Any, list[bytearray]] | None:
    """Return the next value and its buffers, or None where the other side ended."""
    line = file.readline()
    if not line.endswith(b"\n"):
        return None
    value, sizes = json.loads(line)
    buffers = [bytearray(size) for size in sizes]
    for buffer in buffers:
        if file.readinto(buffer) != len(buffer):
            return None
    return value, buffers
