"""Id and label columns: read, checked once, and kept in small arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.io.provenance import class_names
from prune_cli.io.tables import ParquetSource

ID = "id"
MISSING = -1
ClassValue = int | str


def _decoded(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array


def read_ids(source: ParquetSource, column: str = ID) -> tuple[pa.Array, bool]:
    """Return the ids, unique and not null, and whether they had to be made from the position.

    Returns:
        A string or int64 array, and True when there is no such column: ids are then ``row-00000000``, the position in
        the dataset.
    Raises:
        InputError: another type, a null, or an id that stands twice; names some.
    """
    if column not in source.schema.names:
        if column != ID:
            source.require(column, "--id-column")
        return position_ids(source.rows), True
    ids = _decoded(source.read([column]).column(0))
    kind = ids.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        ids = ids.cast(pa.string())
    elif pa.types.is_integer(kind):
        ids = ids.cast(pa.int64())
    elif not pa.types.is_string(kind):
        raise InputError(
            f"{source.location}: column '{column}' is {kind}, not a string or an integer",
            "name the ids with --id-column",
        )
    if ids.null_count:
        where = pc.index(ids.is_null(), True).as_py()
        raise InputError(
            f"{source.location}: {ids.null_count} null id(s) in '{column}', the first in row {where}",
            "give every row an id",
        )
    if pc.count_distinct(ids).as_py() != len(ids):
        counts = pc.value_counts(ids)
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        raise InputError(
            f"{source.location}: {len(twice)} id(s) stand more than once in '{column}': {some(twice)}",
            "make the ids unique",
        )
    return ids, False


def position_ids(rows: int) -> pa.Array:
    """Return the ids of a dataset that has none.

    >>> position_ids(2).to_pylist()
    ['row-00000000', 'row-00000001']
    """
    digits = pc.utf8_lpad(pa.array(np.arange(rows), pa.int64()).cast(pa.string()), 8, "0")
    return pc.binary_join_element_wise("row-", digits, "")


def canonical_order(ids: pa.Array) -> np.ndarray:
    """Return (N,) int64 positions by ascending id: the order that ties and random draws go by, whatever the file's order."""
    order_n: np.ndarray = pc.sort_indices(ids).to_numpy(zero_copy_only=False).astype(np.int64)
    return order_n


def locate(wanted: pa.Array, ids: pa.Array, wanted_in: str, ids_in: str) -> np.ndarray:
    """Return the position in ``ids`` of every wanted id.

    Raises:
        InputError: an id that is not there, or ids of another type; names some.
    """
    if wanted.type != ids.type:
        if pa.types.is_integer(ids.type) and pa.types.is_string(wanted.type):
            try:
                wanted = wanted.cast(pa.int64())
            except pa.ArrowInvalid:
                raise InputError(
                    f"{wanted_in} has string ids, {ids_in} has integers", "use files of the same dataset"
                ) from None
        else:
            wanted = wanted.cast(pa.string())
    if wanted.type != ids.type:
        raise InputError(
            f"{wanted_in} has ids of type {wanted.type}, {ids_in} of {ids.type}", "use files of the same dataset"
        )
    positions = pc.index_in(wanted, value_set=ids)
    if positions.null_count:
        missing = wanted.filter(positions.is_null())
        raise InputError(
            f"{len(missing)} id(s) of {wanted_in} are not in {ids_in}: {some(missing)}", "use files of the same dataset"
        )
    found: np.ndarray = positions.to_numpy(zero_copy_only=False).astype(np.int64)
    return found


@dataclass(frozen=True)
class Labels:
    """A label column as class codes.

    Args:
        codes_n: (N,) int64, 0..C-1, `MISSING` where the row has no label.
        classes: the stored value of each class code, ascending (all of them where the metadata names them).
        names: the name of each class, or None where labels are their own names.
        type: Arrow type of the stored column, which outputs repeat.
    """

    codes_n: np.ndarray
    classes: tuple[ClassValue, ...]
    names: tuple[str, ...] | None
    type: pa.DataType

    def values(self) -> pa.Array:
        """Return the column as it was stored, null where missing."""
        known = self.codes_n >= 0
        indices = pa.array(np.where(known, self.codes_n, 0), pa.int64(), mask=~known)
        return pa.array(list(self.classes), self.type).take(indices)

    def display_names(self) -> list[str]:
        """Return a name for each class."""
        return list(self.names) if self.names is not None else [str(c) for c in self.classes]

    def take(self, positions: np.ndarray) -> Labels:
        """Return the labels of some rows."""
        return Labels(self.codes_n[positions], self.classes, self.names, self.type)

    def recoded(self, classes: Sequence[ClassValue], names: Sequence[str] | None, where: str) -> Labels:
        """Return the same labels as codes of another list of classes, matched by name where both have names.

        Raises:
            InputError: a class that occurs here and is not in the list.
        """
        ours: Sequence[object] = self.names if self.names is not None and names is not None else self.classes
        theirs: Sequence[object] = names if self.names is not None and names is not None else classes
        code_of = {value: code for code, value in enumerate(theirs)}
        table = np.array([code_of.get(value, MISSING) for value in ours] or [MISSING], np.int64)
        codes = np.where(self.codes_n >= 0, table[np.maximum(self.codes_n, 0)], MISSING)
        unknown = (codes < 0) & (self.codes_n >= 0)
        if unknown.any():
            found = sorted({str(ours[c]) for c in np.unique(self.codes_n[unknown])})
            raise InputError(
                f"{where}: unknown class {', '.join(found[:5])} in {int(unknown.sum())} row(s); known: "
                f"{', '.join(str(v) for v in list(theirs)[:20])}",
                "use data with the classes that the other file has",
            )
        return Labels(codes, tuple(classes), tuple(names) if names is not None else None, self.type)


def read_labels(source: ParquetSource, column: str, option: str = "--label-column") -> Labels:
    """Return a label column: integers (with names where the metadata has them) or strings.

    Null labels, and -1 where class names are known (unlabeled, as Hugging Face writes it), are missing.

    Raises:
        InputError: no such column, another type, or a label outside the named classes.
    """
    kind = source.require(column, option).type
    array = _decoded(source.read([column]).column(0))
    if pa.types.is_integer(array.type):
        return _integer_labels(source, column, array)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        encoded = array.cast(pa.string()).dictionary_encode()
        values = encoded.dictionary.to_pylist()
        order = sorted(range(len(values)), key=lambda i: values[i])
        rank = np.empty(max(1, len(values)), np.int64)
        rank[order] = np.arange(len(values))
        indices = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
        codes = np.where(np.asarray(array.is_valid()), rank[indices], MISSING)
        return Labels(codes.astype(np.int64), tuple(values[i] for i in order), None, pa.string())
    raise InputError(
        f"{source.location}: column '{column}' is {kind}, not integers or strings", f"name the labels with {option}"
    )


def _integer_labels(source: ParquetSource, column: str, array: pa.Array) -> Labels:
    kind = array.type
    valid = np.asarray(array.is_valid())
    values = array.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    names = class_names(source.schema, column)
    if names is not None:
        codes = np.where(valid, values, MISSING)
        outside = (codes < MISSING) | (codes >= len(names))
        if outside.any():
            row = int(np.flatnonzero(outside)[0])
            raise InputError(
                f"{source.location}: row {row} has the unknown class {codes[row]}; "
                f"the metadata names {len(names)} classes, 0 to {len(names) - 1}",
                "correct the labels or the class names",
            )
        return Labels(codes, tuple(range(len(names))), names, kind)
    classes = np.unique(values[valid])
    codes = np.where(valid, np.searchsorted(classes, values), MISSING)
    return Labels(codes.astype(np.int64), tuple(int(c) for c in classes), None, kind)


def some(values: pa.Array | Sequence[object], limit: int = 5) -> str:
    """Return a few values as text, with a mark where there are more."""
    shown = ", ".join(str(v) for v in values[:limit])
    return shown + (", ..." if len(values) > limit else "")
