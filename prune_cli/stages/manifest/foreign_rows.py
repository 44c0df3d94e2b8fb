"""Which rows of the data a file of another tool speaks of: by position, by id, or one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.io.foreign.csv_files import CsvFile
from prune_cli.io.ids.columns import ID, Labels, locate
from prune_cli.io.manifests.data import DataOptions, Dataset
from prune_cli.io.parquet.provenance import InputFile
from prune_cli.io.parquet.tables import ParquetSource

_INDEX_NAMES = ("", "Unnamed: 0")
"""How pandas names the index of a table in a CSV file, and what becomes of that when the file is read and saved again."""


@dataclass(frozen=True)
class KnownRows:
    """The rows that a manifest is made of.

    Args:
        ids: (N,) unique.
        labels: or None.
        location: what to call them in a message.
        inputs: the files they are of.
        source: the data, or None where there is a list of ids alone.
        made_up: whether the ids are the positions.
        id_column: what the data call the ids.
    """

    ids: pa.Array
    labels: Labels | None
    location: str
    inputs: tuple[InputFile, ...]
    source: ParquetSource | None = None
    made_up: bool = False
    id_column: str = ID


def rows_of_data(options: DataOptions) -> KnownRows:
    """Return the rows of a data manifest, after ``--split``."""
    dataset = Dataset(options)
    labeled = options.label_column in dataset.source.schema.names or options.label_column != "label"
    labels = dataset.labels if labeled else None
    return KnownRows(
        dataset.ids,
        labels,
        options.location,
        dataset.source.inputs,
        dataset.source,
        dataset.ids_made_up,
        options.id_column,
    )


def check_positions(found: np.ndarray, rows: KnownRows, path: Path) -> np.ndarray:
    """Return positions as (M,) int64.

    Raises:
        InputError: none, no whole numbers, one below 0 or beyond the data, or one that stands twice.
    """
    if found.dtype.kind not in "iu":
        mend = "np.flatnonzero(kept)" if found.dtype.kind == "b" else "positions.astype(np.int64)"
        raise InputError(f"{path} holds {found.dtype}, and positions are whole numbers", f"np.save(file, {mend})")
    if not len(found):
        raise InputError(f"{path} has no positions", "check the file")
    outside = (found < 0) | (found >= len(rows.ids))
    if outside.any():
        place = int(outside.argmax())
        raise InputError(
            f"{int(outside.sum())} position(s) of {path} are not in {rows.location}, which has {len(rows.ids):,} rows, such as "
            f"{found[place]} in place {place}",
            "positions count from 0 to the last row; name the data, and the --split, that they were made from",
        )
    positions = found.astype(np.int64)
    return _each_once(positions, "position", path, lambda position: position)


def check_length(found: int, what: str, path: Path, rows: KnownRows) -> None:
    """Raise where a file has not as many of something as there are rows."""
    if found != len(rows.ids):
        raise InputError(
            f"{path} has {found:,} {what} and {rows.location} has {len(rows.ids):,} rows",
            "give one a row, of the data and the --split that they were made from",
        )


def locate_lines(file: CsvFile, columns: dict[str, pa.Array], rows: KnownRows) -> np.ndarray:
    """Return (M,) int64, the row of each line: by its id, by pandas' index, which is the position, or by its place.

    Args:
        file: a CSV file.
        columns: those of the file that `line_columns` names, as texts.
        rows: of the data; their column of ids is looked for in the file, and ``id`` serves as well.
    Raises:
        InputError: an id or position that is not there or stands twice, or as many lines as there are no rows.
    """
    name = _name_of_lines(file, rows)
    if name is None:
        found = len(next(iter(columns.values())))
        check_length(found, "rows", file.path, rows)
        return np.arange(found)
    if name in _INDEX_NAMES:
        try:
            return check_positions(columns[name].cast(pa.int64()).to_numpy(), rows, file.path)
        except pa.ArrowInvalid:
            pass  # an index that was set is of ids
    positions = locate(columns[name], rows.ids, str(file.path), rows.location)
    return _each_once(positions, "id", file.path, lambda position: rows.ids[position])


def _each_once(positions: np.ndarray, what: str, path: Path, named: Callable[[int], object]) -> np.ndarray:
    often = np.flatnonzero(np.bincount(positions, minlength=1) > 1)
    if len(often):
        raise InputError(
            f"{len(often)} {what}(s) of {path} stand more than once, such as {named(int(often[0]))}", "list each once"
        )
    return positions


def line_columns(file: CsvFile, rows: KnownRows) -> list[str]:
    """Return the columns that `locate_lines` goes by."""
    name = _name_of_lines(file, rows)
    return [] if name is None else [name]


def _name_of_lines(file: CsvFile, rows: KnownRows) -> str | None:
    return next((name for name in (rows.id_column, ID, *_INDEX_NAMES) if name in file.names), None)


def compare_labels(texts: pa.Array, positions: np.ndarray, rows: KnownRows, path: Path) -> str | None:
    """Compare the labels that a file has with those of the data, by value and by name: they tell whether the rows are the same.

    Args:
        texts: (M,) labels as the file has them; empty ones say nothing.
        positions: (M,) int64 the rows they are of.
        rows: of the data; rows without a label say nothing.
        path: the file.
    Returns:
        None, or a warning where the file calls the classes otherwise, so that nothing can be compared.
    Raises:
        InputError: labels of the same classes that differ.
    """
    if rows.labels is None:
        return None
    labels = rows.labels
    if pa.types.is_integer(labels.type):
        texts = pc.replace_substring_regex(texts, r"\.0$", "")  # pandas makes numbers with gaps floats
    codes = labels.codes_n[positions]
    known, equal = np.zeros(len(codes), bool), np.zeros(len(codes), bool)
    for names in ([str(value) for value in labels.classes], labels.display_names()):
        found = pc.index_in(texts, value_set=pa.array(names, pa.string())).fill_null(-1).to_numpy()
        known |= found >= 0
        equal |= found == codes
    told = (codes >= 0) & pc.not_equal(texts, "").to_numpy(zero_copy_only=False)
    strange = told & ~known
    if strange.any():
        return (
            f"the labels in {path}, such as '{texts[int(strange.argmax())]}', are no classes of {rows.location}: whether the rows are "
            "the same cannot be told by them"
        )
    differ = told & ~equal
    if differ.any():
        place = int(differ.argmax())
        value = labels.classes[codes[place]]
        raise InputError(
            f"{int(differ.sum())} label(s) of {path} are not those of {rows.location}, such as that of "
            f"'{rows.ids[int(positions[place])]}': '{texts[place]}', there '{value}'",
            "name the data, and the --split, that the file was made from: rows or their order differ",
        )
    return None
