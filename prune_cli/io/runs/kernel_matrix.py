"""A kernel matrix in a file: computed once, memory-mapped by whoever needs it, with the ids of its rows and how it was made.

A safetensors file of two tensors, ``kernel`` (N, N) and ``ids`` (JSON, as bytes), with our provenance in its metadata. It is filled tile
row by tile row beside its place, goes on after a kill, and gets its name when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.io.parquet.provenance import KEY, Provenance
from prune_cli.io.stores.atomic import atomic_file, publish_file

_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype(np.float32), "F64": np.dtype(np.float64)}
_LARGEST_HEADER = 100 * 2**20


@dataclass(frozen=True)
class KernelFile:
    """A kernel that was read.

    Args:
        matrix_mm: (M, M), memory-mapped.
        ids: of its rows, as text.
    """

    matrix_mm: np.ndarray
    ids: pa.Array
    provenance: dict[str, Any]

    def places(self, ids: pa.Array, where: str) -> np.ndarray:
        """Return (N,) int64, the row of each id.

        Raises:
            InputError: an id that the kernel has not.
        """
        found = pc.index_in(ids.cast(pa.string()), value_set=self.ids)
        if found.null_count:
            missing = ids.filter(found.is_null())[0].as_py()
            raise InputError(
                f"{where}: the kernel has no row for {found.null_count} id(s), the first is {missing!r}",
                "compute it for these data: leave out --load-kernel",
            )
        return np.asarray(found.to_numpy(), dtype=np.int64)


def write_kernel(
    path: Path, ids: pa.Array, dtype: str, provenance: Provenance, fill: Callable[[np.ndarray, int, int], None], rows: int
) -> None:
    """Write a kernel file, tile row by tile row.

    Args:
        ids: of the rows, in the order of the matrix.
        dtype: ``float32`` or ``float64``.
        fill: (matrix, first, last) fills rows first to last up to the diagonal, and their mirror image.
    """
    stated = provenance.to_json()
    header, start = _header(ids, dtype, stated)
    size = len(ids)
    building, marker = (path.with_name(f".{path.name}.{end}") for end in ("building", "rows"))
    identity = json.dumps([stated, hashlib.sha256(_ids_bytes(ids)).hexdigest(), dtype])
    done = _rows_done(marker, identity) if building.is_file() else 0
    try:
        if not done:
            with building.open("wb") as file:
                file.write(header)
                file.truncate(start + size * size * np.dtype(dtype).itemsize)
                file.seek(0, os.SEEK_END)
                file.write(_ids_bytes(ids))
        matrix: np.memmap = np.memmap(building, dtype=dtype, mode="r+", offset=start, shape=(size, size))
        for first in range(done, size, rows):
            last = min(first + rows, size)
            fill(matrix, first, last)
            matrix.flush()
            with atomic_file(marker) as file:
                file.write(json.dumps([identity, last]).encode())
        del matrix
        publish_file(building, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}", "free disk space, or name another place") from error
    marker.unlink(missing_ok=True)


def read_kernel(path: Path) -> KernelFile:
    """Return a kernel file, its matrix memory-mapped.

    Raises:
        InputError: no kernel file, or not a whole one.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LARGEST_HEADER:
                raise ValueError("no safetensors header")
            header = json.loads(file.read(length))
            kernel, ids = header["kernel"], header["ids"]
            dtype, (size, width) = _TYPES[kernel["dtype"]], kernel["shape"]
            provenance = json.loads(header["__metadata__"][KEY.decode()])
            start = 8 + length
            begin, end = ids["data_offsets"]
            file.seek(start + begin)
            names = json.loads(file.read(end - begin))
        if size != width or len(names) != size or path.stat().st_size < start + end:
            raise ValueError("it is not whole")
    except FileNotFoundError:
        raise InputError(f"there is no kernel {path}", "make it with --save-kernel") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a kernel file ({error})", "make it with --save-kernel") from error
    matrix = np.memmap(path, dtype=dtype, mode="c", offset=start + kernel["data_offsets"][0], shape=(size, size))
    return KernelFile(matrix, pa.array(names, pa.string()), provenance)


def is_kernel(path: Path, ids: pa.Array, provenance: Provenance) -> bool:
    """Return whether a whole kernel file of these ids, made in this way, is there already."""
    if not path.is_file():
        return False
    file = read_kernel(path)
    return bool(file.provenance == json.loads(provenance.to_json()) and file.ids.equals(ids.cast(pa.string())))


def _header(ids: pa.Array, dtype: str, provenance: str) -> tuple[bytes, int]:
    """Return the file's beginning, and where the matrix starts."""
    size = len(ids)
    matrix_bytes, ids_bytes = size * size * np.dtype(dtype).itemsize, len(_ids_bytes(ids))
    kind = next(name for name, known in _TYPES.items() if known == np.dtype(dtype))
    described = {
        "__metadata__": {KEY.decode(): provenance},
        "kernel": {"dtype": kind, "shape": [size, size], "data_offsets": [0, matrix_bytes]},
        "ids": {"dtype": "U8", "shape": [ids_bytes], "data_offsets": [matrix_bytes, matrix_bytes + ids_bytes]},
    }
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, 8 + len(text)


def _ids_bytes(ids: pa.Array) -> bytes:
    return json.dumps(ids.cast(pa.string()).to_pylist(), separators=(",", ":")).encode()


def _rows_done(marker: Path, identity: str) -> int:
    try:
        whose, done = json.loads(marker.read_text())
    except (OSError, ValueError, TypeError):
        return 0
    return int(done) if whose == identity else 0
