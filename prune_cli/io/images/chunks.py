"""An Arrow column of images cut into the chunks that are decoded at a time."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.io.images.chunk_decoder import BYTES, NO_IMAGE, PATH, Chunk

_CHUNK_BYTES = 8 << 20


def image_chunks(batches: Iterable[pa.Array], rows: Callable[[], int]) -> Iterator[Chunk]:
    """Yield the rows of all batches in chunks of at most ``rows()`` rows and, but for one row alone, 8 MiB."""
    first = 0
    for batch in batches:
        kinds, offsets, data, names = _encoded_rows(batch)
        start = 0
        while start < len(batch):
            full = int(np.searchsorted(offsets, offsets[start] + _CHUNK_BYTES, side="right")) - 1
            stop = min(start + rows(), max(full, start + 1), len(batch))
            places = array("q", (offsets[start : stop + 1] - offsets[start]).tobytes())
            yield Chunk(
                first + start,
                kinds[start:stop].tobytes(),
                places,
                data[int(offsets[start]) : int(offsets[stop])],
                None if names is None else names.slice(start, stop - start),
            )
            start = stop
        first += len(batch)


def _encoded_rows(batch: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], memoryview, pa.Array | None]:
    """Return kind and place of every row, the bytes these are places in, and the path beside each; no Python object is made for a row."""
    batch = batch.storage if isinstance(batch, pa.ExtensionArray) else batch
    batch = batch.dictionary_decode() if pa.types.is_dictionary(batch.type) else batch
    files, names, known = pa.nulls(len(batch), pa.large_binary()), None, True
    if pa.types.is_struct(batch.type):
        parts = dict(zip((part.name for part in batch.type), batch.flatten(), strict=True))
        known = "bytes" in parts or "path" in parts
        files, names = parts.get("bytes", files), parts.get("path")
    elif _is_text(batch.type):
        names = batch
    else:
        files = batch
    if not known or not _is_binary(files.type) or not (names is None or _is_text(names.type)):
        raise InputError(
            f"an image column of type {batch.type} holds no images", "give struct<bytes, path>, binary or string: see the data manifest"
        )
    content = files.cast(pa.large_binary())
    kinds = np.where(_is_valid(content), BYTES, NO_IMAGE).astype(np.uint8)
    if names is not None:
        kinds[(kinds == NO_IMAGE) & _is_valid(names)] = PATH
        content = pc.coalesce(content, names.cast(pa.large_binary()))
    _, places, data = content.buffers()
    offsets = (
        np.frombuffer(places, dtype=np.int64)[content.offset : content.offset + len(content) + 1]
        if len(content)
        else np.zeros(1, dtype=np.int64)
    )
    return kinds, offsets, memoryview(data if data is not None else b""), names


def _is_valid(array: pa.Array) -> npt.NDArray[np.bool_]:
    """Return (N,) bool; read from the buffer, as pyarrow's own way to numpy imports pandas first where there is one."""
    valid = array.is_valid().cast(pa.uint8())
    return np.frombuffer(valid.buffers()[1], dtype=np.bool_, count=len(valid), offset=valid.offset)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))
