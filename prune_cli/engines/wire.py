"""What goes between processes: a JSON value, and arrays as the bytes they are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import IO, Any

import numpy as np


def write_parcel(file: IO[bytes], value: Any, arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Write a value, and arrays or none.

    Raises:
        OSError: the reader is gone.
    """
    contiguous = {name: np.asarray(array, order="C") for name, array in (arrays or {}).items()}
    shapes = None if arrays is None else [[n, a.dtype.str, list(a.shape)] for n, a in contiguous.items()]
    file.write(json.dumps([value, shapes]).encode() + b"\n")
    for array in contiguous.values():
        file.write(array.reshape(-1).view(np.uint8).data)
    file.flush()


def read_parcel(file: IO[bytes]) -> tuple[Any, dict[str, np.ndarray] | None] | None:
    """Return the next value and its arrays, None without; or None where the other side ended."""
    line = file.readline()
    if not line.endswith(b"\n"):
        return None
    value, shapes = json.loads(line)
    if shapes is None:
        return value, None
    arrays: dict[str, np.ndarray] = {}
    for name, kind, shape in shapes:
        dtype = np.dtype(kind)
        content = bytearray(dtype.itemsize * math.prod(shape))
        if file.readinto(content) != len(content):  # type: ignore[attr-defined]
            return None
        arrays[name] = np.frombuffer(content, dtype).reshape(shape)
    return value, arrays
