"""Arrays that other tools saved with ``numpy.save``, read without ever running what is in them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

from prune_cli.core.errors import InputError

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_vector(path: Path, what: str) -> np.ndarray:
    """Return an array of one dimension, (M,) of the stored type.

    Args:
        path: a ``.npy`` file.
        what: what its numbers are, for messages: ``positions``, ``scores``.
    Raises:
        InputError: no such file, no ``.npy`` file, Python objects in it, cut short, or another number of dimensions.
    """
    try:
        with path.open("rb") as file:
            shape, dtype = _read_header(path, file)
            if dtype.hasobject:
                raise InputError(
                    f"{path} holds Python objects ({dtype}), which are never loaded: a pickle can run any program",
                    f"save plain {what}: np.save(file, np.asarray({what}.tolist()))",
                )
            if len(shape) != 1:
                raise InputError(
                    f"{path} has the shape {shape}, and one dimension is wanted",
                    f"save it flat: np.save(file, {what}.ravel())",
                )
            there, wanted = path.stat().st_size - file.tell(), math.prod(shape) * dtype.itemsize
            if there < wanted:
                raise InputError(
                    f"{path} is cut short: {there:,} bytes of {shape[0]:,} {what}, {wanted:,} wanted",
                    "make or fetch the file again",
                )
            file.seek(0)
            values: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            return values
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path") from None


def _read_header(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = _HEADERS[version](file)
    except (ValueError, KeyError):
        raise InputError(
            f"{path} is no array of numpy.save", "save it with np.save; .npz, .pt and .pkl are not read"
        ) from None
    return shape, dtype
