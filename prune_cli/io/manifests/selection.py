"""Selection manifests and lists of ids, read: which ids they name."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import ID, Labels, read_ids, read_labels
from prune_cli.io.ids.rows import RowIds
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.stores.reading import open_input, there

SELECTED, RANK, WEIGHT = "selected", "rank", "weight"


@dataclass(frozen=True)
class Selection:
    """A selection manifest in memory.

    Args:
        ids: (N,) unique.
        selected_n: (N,) bool.
        rank_n: (N,) int64, 1 = kept first, 0 where there is none.
        weight_n: (N,) float64, NaN where there is none; None without such a column.
        labels: None without such a column.
    """

    source: ParquetSource
    ids: pa.Array
    selected_n: np.ndarray
    rank_n: np.ndarray
    weight_n: np.ndarray | None
    labels: Labels | None

    @property
    def location(self) -> str:
        """What to call it in a message."""
        return self.source.location

    @property
    def whole(self) -> bool:
        """Whether it also names rows that are out."""
        return not self.selected_n.all()


def read_selection(location: str, *, id_column: str = ID, label_column: str = "label") -> Selection:
    """Return a selection manifest.

    Args:
        id_column, label_column: names of the columns, as they are in the data; ``id`` and ``label``, as we write them, serve as well.
    Raises:
        InputError: no ids, no column ``selected``, no rows, a column of another type, or a rank below 1.
    """
    source = ParquetSource(location)
    id_column, label_column = (name if name in source.schema.names else ours for name, ours in ((id_column, ID), (label_column, "label")))
    source.require(id_column, "--id-column")
    if SELECTED not in source.schema.names:
        raise InputError(
            f"{location} has no column '{SELECTED}' and is no selection manifest", "make one: prune select, prune manifest import"
        )
    ids, _ = read_ids(source, id_column)
    if not len(ids):
        raise InputError(f"{location} has no rows", "check the file")
    weighed, labeled = WEIGHT in source.schema.names, label_column in source.schema.names
    return Selection(
        source,
        ids,
        read_selected(source).to_numpy(zero_copy_only=False),
        _read_ranks(source),
        _read_column(source, WEIGHT, pa.float64()).fill_null(np.nan).to_numpy() if weighed else None,
        read_labels(source, label_column) if labeled else None,
    )


def read_selected(source: ParquetSource) -> pa.Array:
    """Return the column ``selected``.

    Raises:
        InputError: it is not of booleans, or has a null.
    """
    column = source.read([SELECTED]).column(0).combine_chunks()
    if not pa.types.is_boolean(column.type) or column.null_count:
        found = f"{column.type}" if not pa.types.is_boolean(column.type) else f"{column.null_count} null(s)"
        raise InputError(f"{source.location}: column '{SELECTED}' has {found}, and true or false is wanted", "correct it")
    return column


def _read_ranks(source: ParquetSource) -> np.ndarray:
    if RANK not in source.schema.names:
        return np.zeros(source.rows, np.int64)
    if not pa.types.is_integer(source.schema.field(RANK).type):
        raise InputError(f"{source.location}: column '{RANK}' is {source.schema.field(RANK).type}, not whole numbers", "correct it")
    ranks = _read_column(source, RANK, pa.int64())
    least = pc.min(ranks).as_py()
    if least is not None and least < 1:
        raise InputError(f"{source.location}: column '{RANK}' has {least}, and ranks begin at 1", "correct it")
    numbers: np.ndarray = ranks.fill_null(0).to_numpy()
    return numbers


def _read_column(source: ParquetSource, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return source.read([name]).column(0).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputError(f"{source.location}: column '{name}' is {source.schema.field(name).type}, not {kind}", "correct it") from None


def selected_ids(source: ParquetSource) -> pa.Array:
    """Return the ids a selection manifest keeps; every id where there is no ``selected`` column.

    Raises:
        InputError: no id column, or nothing selected.
    """
    source.require(ID)
    ids, _ = read_ids(source)
    if SELECTED in source.schema.names:
        ids = ids.filter(read_selected(source))
    if not len(ids):
        raise InputError(f"{source.location} selects no row", "select with a larger budget")
    return ids


def read_listed(file: str | None, ids: RowIds, ids_in: str) -> np.ndarray:
    """Return (N,) bool: which ids a file lists, one a line, or the selected rows of a Parquet file; None lists none.

    Args:
        file: the file, or None.
        ids_in: where these are, for messages.
    Raises:
        InputError: no such file, no ids in it, or an id that is not among them.
    """
    listed = np.zeros(len(ids), bool)
    if file is None:
        return listed
    if not there(file):
        raise InputError(f"{file} does not exist", "check the path")
    with open_input(file) as handle:
        is_parquet = handle.read(4) == b"PAR1"
    if is_parquet:
        wanted = selected_ids(ParquetSource(file))
    else:
        try:
            with open_input(file) as handle, io.TextIOWrapper(handle, encoding="utf-8") as text:
                lines = [line.strip() for line in text.read().splitlines()]
        except UnicodeDecodeError:
            raise InputError(f"{file} is neither Parquet nor text", "give a Parquet file with ids, or one id a line") from None
        wanted = pa.array([line for line in lines if line], pa.string())
    if len(wanted):
        listed[ids.locate(wanted, file, ids_in)] = True
    return listed
