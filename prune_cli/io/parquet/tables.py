"""Parquet in and out: opening files, folders and standard input; writing whole files with a stated schema."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prune_cli.core.errors import ClosedPipeError, InputError
from prune_cli.io.images.folders import SPLITS
from prune_cli.io.parquet.provenance import InputFile, Provenance, hash_file, hash_stream, with_provenance
from prune_cli.io.stores.atomic import atomic_file
from prune_cli.io.stores.locations import STDIN as STDIN
from prune_cli.io.stores.locations import is_remote, name_of, stem_of
from prune_cli.io.stores.reading import parquet_files


def regrouped(arrays: Iterable[pa.Array], sizes: Iterable[int]) -> Iterator[pa.Array]:
    """Yield the same values in arrays of these sizes, the last one of as many as are left.

    Args:
        sizes: values of each array, above 0; no more are asked for than are needed.

    >>> [array.to_pylist() for array in regrouped([pa.array([1]), pa.array([2, 3, 4]), pa.array([5])], [2, 1, 9])]
    [[1, 2], [3], [4, 5]]
    """
    source = iter(arrays)
    waiting: list[pa.Array] = []
    held = 0
    for size in sizes:
        while held < size and (array := next(source, None)) is not None:
            if len(array):
                waiting.append(array)
                held += len(array)
        if not held:
            return
        whole = waiting[0] if len(waiting) == 1 else pa.concat_arrays(waiting)
        yield whole.slice(0, size)
        held = max(0, held - size)
        waiting = [whole.slice(size)] if held else []


ROW_GROUP_ROWS = 131_072


class ParquetSource:
    """One dataset of one or more Parquet files with the same columns, read by row group and never wholly held.

    Args:
        location: a file, a folder (its ``*.parquet`` and ``*.pq`` in name order), or ``-`` for Parquet bytes on standard input; of a store
            an object or a prefix, read by the ranges that are asked for.
    Raises:
        InputError: missing, empty, truncated, not Parquet, files whose columns differ, shards of several splits, or Parquet files in
            folders below, which would not be read.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        found: Sequence[tuple[str, BinaryIO | Path]]
        if location == STDIN:
            found = [("standard input", _spool_stdin())]
        elif is_remote(location):
            found = parquet_files(location)
        else:
            found = [(str(path), path) for path in _parquet_paths(Path(location))]
        self.names = [STDIN] if location == STDIN else [name_of(place) for place, _ in found]
        self._opened = [opened for _, opened in found]
        _refuse_several_splits(location, self.names)
        self._files = [_open_parquet(opened, place) for place, opened in found]
        self.schemas = [file.schema_arrow for file in self._files]
        self.schema: pa.Schema = _plain(self._files[0].schema_arrow)
        for name, file in zip(self.names[1:], self._files[1:], strict=True):
            if not _plain(file.schema_arrow).equals(self.schema, check_metadata=False):
                raise InputError(
                    f"{name} has other columns than {self.names[0]}: {_columns(file.schema_arrow)} against {_columns(self.schema)}",
                    "put only files of one dataset in the folder",
                )

    @property
    def rows(self) -> int:
        """Number of rows of all files."""
        return sum(f.metadata.num_rows for f in self._files)

    @property
    def stem(self) -> str:
        """Name that default outputs are made from."""
        return stem_of(self.location)

    @property
    def folder(self) -> Path:
        """Folder that relative image paths are under when no ``--root`` is given: the current one unless it is a local file."""
        if self.location == STDIN or is_remote(self.location):
            return Path.cwd()
        place = Path(self.location)
        return place if place.is_dir() else place.resolve().parent

    @property
    def nbytes(self) -> int:
        """Bytes of all files; of standard input 0, which takes no part in what a plan says."""
        if self.location == STDIN:
            return 0
        return sum(f.stat().st_size if isinstance(f, Path) else f.seek(0, 2) for f in self._opened)

    @cached_property
    def inputs(self) -> tuple[InputFile, ...]:
        """Name and SHA-256 of each file."""
        return tuple(
            hash_file(opened) if isinstance(opened, Path) else InputFile(name, hash_stream(opened))
            for name, opened in zip(self.names, self._opened, strict=True)
        )

    def require(self, column: str, option: str | None = None) -> pa.Field:
        """Return the field of a column.

        Raises:
            InputError: there is no such column; names those there are.
        """
        if column not in self.schema.names:
            raise self.lacking(column, option)
        self._refuse_twice([column])
        return self.schema.field(column)

    def _refuse_twice(self, columns: Sequence[str]) -> None:
        for name in columns:
            if self.schema.names.count(name) > 1:
                raise InputError(f"{self.location}: column '{name}' stands twice", "rename or drop one of the two")

    def lacking(self, column: str, option: str | None = None) -> InputError:
        """Return the error of a column that is not there; it names those there are."""
        hint = f"name it with {option}" if option else "add it"
        return InputError(f"{self.location}: no column '{column}'; it has {_columns(self.schema)}", hint)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return whole columns; for the small ones (ids, labels, scores)."""
        schema = pa.schema([self.schema.field(c) for c in columns])
        return pa.Table.from_batches(list(self.batches(columns)), schema=schema)

    def batches(self, columns: Sequence[str], rows: int = 8192) -> Generator[pa.RecordBatch, None, None]:
        """Yield batches of the columns in file order, one row group in memory at a time.

        Raises:
            InputError: the file's bytes are damaged, or a column stands twice.
        """
        self._refuse_twice(columns)
        schema = pa.schema([self.schema.field(c) for c in columns])
        for name, file in zip(self.names, self._files, strict=True):
            try:
                for batch in file.iter_batches(batch_size=rows, columns=list(columns)):
                    batch = batch.select(list(columns)).replace_schema_metadata(None)
                    yield batch if batch.schema.types == schema.types else _plain_batch(batch, schema)
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{name} is damaged: {_first_line(error)}", "make or fetch the file again") from error


def write_table(
    output: str, table: pa.Table, provenance: Provenance, source: ParquetSource | None = None, *, row_group_rows: int = ROW_GROUP_ROWS
) -> None:
    """Write one Parquet file, whole or not at all, with the provenance in its metadata.

    Args:
        output: a path, or ``-`` for standard output.
        table: the rows; its schema is written as it is.
        source: where it came from; what that says of its classes is kept.
        row_group_rows: rows a row group.
    """
    metadata = source.schema.metadata if source is not None else None
    write_batches(output, table.schema, table.to_batches(row_group_rows), provenance, metadata, row_group_rows=row_group_rows)


def write_batches(
    output: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    provenance: Provenance,
    source_metadata: Mapping[bytes, bytes] | None = None,
    *,
    row_group_rows: int = ROW_GROUP_ROWS,
) -> None:
    """Write one Parquet file from a stream of batches; ``source_metadata`` says what is known of the classes."""
    schema = with_provenance(schema, provenance, source_metadata)
    with open_output(output) as file, pq.ParquetWriter(file, schema, compression="zstd", version="2.6") as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata), row_group_size=row_group_rows)


@contextlib.contextmanager
def open_output(output: str) -> Iterator[BinaryIO]:
    """Yield a file that becomes ``output`` when whole; ``-`` collects it and then hands all of it to standard output."""
    if output != STDIN:
        with atomic_file(output) as file:
            yield file
        return
    with tempfile.TemporaryFile() as spool:
        yield spool
        spool.seek(0)
        try:
            if getattr(sys.stdout, "was_closed", False):
                raise InputError("standard output is closed, and the result was to go there", "name a file with -o")
            shutil.copyfileobj(spool, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise ClosedPipeError("standard output is closed") from None
        except OSError as error:
            raise InputError(f"cannot write to standard output: {error.strerror}", "free disk space") from error


def _spool_stdin() -> BinaryIO:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("standard input is a terminal, not Parquet bytes", "pipe a file into it: prune score ... -o - | prune select -")
    spool = tempfile.TemporaryFile()  # noqa: SIM115
    shutil.copyfileobj(sys.stdin.buffer, spool)
    if spool.tell() == 0:
        raise InputError("standard input is empty", "look for an error of the command before the pipe")
    spool.seek(0)
    return spool


def _parquet_paths(place: Path) -> list[Path]:
    if place.is_dir():
        paths = sorted(p for p in place.iterdir() if _is_parquet(p))
        if not paths:
            raise InputError(f"{place} is a folder without *.parquet files", f"for a folder of images: prune manifest create {place}")
        below = sorted(str(p.relative_to(place)) for p in place.glob("*/**/*") if _is_parquet(p))
        if below:
            shown = ", ".join(below[:3]) + (", ..." if len(below) > 3 else "")
            raise InputError(
                f"{place} has Parquet files, and {len(below)} more in folders below, which would not be read: {shown}",
                "put all files of the dataset into one folder, and no others",
            )
        return paths
    if not place.exists():
        raise InputError(f"{place} does not exist", "check the path")
    return [place]


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in {".parquet", ".pq"} and not path.name.startswith(".") and path.is_file()


_SHARD = re.compile(r"([a-z]+)(?:-\d+-of-\d+|-\d+|_\d+)?\.(?:parquet|pq)", re.IGNORECASE)


def _refuse_several_splits(location: str, names: Sequence[str]) -> None:
    """Raise where the names of files say that they are shards of more than one split."""
    found = [match[1].lower() for name in names if (match := _SHARD.fullmatch(name)) and match[1].lower() in SPLITS]
    splits = sorted(set(found))
    if len(splits) > 1:
        raise InputError(
            f"{location} holds files of several splits, by their names: {', '.join(splits)}",
            "name one file, or a folder that holds the files of one split",
        )


def _open_parquet(place: Path | BinaryIO, name: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(place, pre_buffer=False)  # else every row group that was read stays in memory
    except PermissionError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}", "check its permissions") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name} is not a whole Parquet file: {_first_line(error)}", "make or fetch the file again") from error


def _plain(schema: pa.Schema) -> pa.Schema:
    """Return the schema without views, UUIDs and tensors of one dimension: as the strings, binaries and lists that they are."""
    fields = [field.with_type(_plain_type(field.type)) for field in schema]
    return pa.schema(fields, schema.metadata)


def _plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch of which some columns are of types that `_plain_type` changes."""
    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        if isinstance(column, pa.ExtensionArray) and column.type != field.type:
            column = _uuid_texts(column.storage) if pa.types.is_string(field.type) else column.storage
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


def _uuid_texts(storage: pa.Array) -> pa.Array:
    """Return UUIDs, of 16 bytes each, as their usual texts.

    >>> _uuid_texts(pa.array([bytes(range(16)), None], pa.binary(16))).to_pylist()
    ['00010203-0405-0607-0809-0a0b0c0d0e0f', None]
    """
    raw = storage.fill_null(bytes(16)).cast(pa.binary()).to_numpy(zero_copy_only=False)
    bytes_nb = np.frombuffer(b"".join(raw), np.uint8).reshape(-1, 16)
    digits = np.stack([_HEX[bytes_nb >> 4], _HEX[bytes_nb & 15]], axis=2).reshape(-1, 32)
    dash = np.full((len(digits), 1), ord("-"), np.uint8)
    parts = np.split(digits, (8, 12, 16, 20), axis=1)
    texts = np.concatenate([p for part in parts for p in (part, dash)][:-1], axis=1)
    found = pa.array(np.ascontiguousarray(texts).view("S36").ravel()).cast(pa.string())
    return pc.if_else(storage.is_valid(), found, None) if storage.null_count else found


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return pa.string()
        return kind.storage_type if kind.extension_name == "arrow.fixed_shape_tensor" and len(kind.shape) == 1 else kind
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain_type(field.type)) for field in kind])
    if pa.types.is_large_list_view(kind) or pa.types.is_list_view(kind):
        return (pa.large_list if pa.types.is_large_list_view(kind) else pa.list_)(_plain_type(kind.value_type))
    if pa.types.is_list(kind) and _plain_type(kind.value_type) != kind.value_type:
        return pa.list_(_plain_type(kind.value_type))
    return kind


def cast_whole(array: pa.Array, kind: pa.DataType, where: str, column: str) -> pa.Array:
    """Return the values of a column as another type.

    Raises:
        InputError: one of them does not fit it; the cure names the cast.
    """
    try:
        return array.cast(kind)
    except pa.ArrowException as error:
        raise InputError(
            f"{where}: column '{column}' is {array.type}, and a value does not fit {kind}: {_first_line(error)}",
            f"cast the column to {kind}, or to strings",
        ) from error


def _columns(schema: pa.Schema) -> str:
    shown = ", ".join(f"{field.name} ({field.type})" for field in list(schema)[:20])
    return shown + (", ..." if len(schema) > 20 else "")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
