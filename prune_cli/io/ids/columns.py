"""Id and label columns: read, checked once, and kept in small arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.io.parquet.provenance import class_names
from prune_cli.io.parquet.tables import ROW_GROUP_ROWS, ParquetSource, cast_whole

ID = "id"
MISSING = -1
ClassValue = int | str


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
    none = pa.array([], id_type(source, column))
    ids = pa.concat_arrays([none, *(cast_ids(batch.column(0)) for batch in source.batches([column]))])
    if ids.null_count:
        where = pc.index(ids.is_null(), True).as_py()
        raise InputError(f"{source.location}: {ids.null_count} null id(s) in '{column}', the first in row {where}", "give every row an id")
    twice = repeated(ids)
    if len(twice):
        raise InputError(f"{source.location}: {len(twice)} id(s) stand more than once in '{column}': {some(twice)}", "make the ids unique")
    return ids, False


def repeated(ids: pa.Array) -> pa.Array:
    """Return the ids that stand more than once, each once.

    >>> repeated(pa.array(["a", "b", "a"])).to_pylist()
    ['a']
    """
    if pc.count_distinct(ids).as_py() == len(ids):
        return ids.slice(0, 0)
    counts = pc.value_counts(ids)
    return counts.filter(pc.greater(counts.field("counts"), 1)).field("values")


def id_type(source: ParquetSource, column: str) -> pa.DataType:
    """Return what ids of a column are read as: strings or int64.

    Raises:
        InputError: another type.
    """
    kind = source.schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.string()
    raise InputError(
        f"{source.location}: column '{column}' is {kind}, not a string or an integer",
        "cast it to strings or to int64, or name other ids with --id-column",
    )


def cast_ids(ids: pa.Array) -> pa.Array:
    """Return ids, as a file has them, as strings or int64.

    Raises:
        InputError: one does not fit.
    """
    ids = ids.dictionary_decode() if pa.types.is_dictionary(ids.type) else ids
    return cast_whole(ids, pa.int64() if pa.types.is_integer(ids.type) else pa.string(), "the ids", "id")


def position_ids(rows: int, start: int = 0) -> pa.Array:
    """Return the ids of a dataset that has none, from one row to before another.

    >>> position_ids(2).to_pylist()
    ['row-00000000', 'row-00000001']
    """
    digits = pc.utf8_lpad(pa.array(np.arange(start, rows), pa.int64()).cast(pa.string()), 8, "0")
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
    wanted = as_type(wanted, ids.type, wanted_in, ids_in)
    positions = pc.index_in(wanted, value_set=ids)
    missing = wanted.filter(positions.is_null())
    refuse_missing(missing, len(missing), wanted_in, ids_in)
    found: np.ndarray = positions.to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def as_type(wanted: pa.Array, kind: pa.DataType, wanted_in: str, ids_in: str) -> pa.Array:
    """Return ids as the type of others, which they are to be looked for among.

    Raises:
        InputError: texts that are no numbers.
    """
    if wanted.type == kind:
        return wanted
    if pa.types.is_integer(kind) and pa.types.is_string(wanted.type):
        try:
            return wanted.cast(pa.int64())
        except pa.ArrowInvalid:
            raise InputError(f"{wanted_in} has string ids, {ids_in} has integers", "use files of the same dataset") from None
    wanted = wanted.cast(pa.string())
    if wanted.type != kind:
        raise InputError(f"{wanted_in} has ids of type {wanted.type}, {ids_in} of {kind}", "use files of the same dataset")
    return wanted


def refuse_missing(missing: pa.Array, count: int, wanted_in: str, ids_in: str) -> None:
    """Raise where ids are not there.

    Args:
        missing: the first of them, one more than are named where there are more.
        wanted_in, ids_in: what to call the ids, and those that they are not among.
    """
    if count:
        raise InputError(f"{count} id(s) of {wanted_in} are not in {ids_in}: {some(missing)}", "use files of the same dataset")


@dataclass(frozen=True)
class Labels:
    """A label column as class codes.

    Args:
        codes_n: (N,) int64, or a smaller type where that is asked for, 0..C-1, `MISSING` where the row has no label.
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

    def doubts(self) -> list[str]:
        """Return what the user should know of labels that could be read in two ways."""
        negative = [str(value) for value in self.classes if isinstance(value, int) and value < 0]
        if self.names is not None or not negative:
            return []
        return [f"label {', '.join(negative[:5])} is taken as a class of its own: if it stands for no label, make it null"]

    def take(self, positions: np.ndarray | slice) -> Labels:
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
        kind = np.result_type(self.codes_n, np.min_scalar_type(-max(1, len(theirs))))
        table = np.array([*(code_of.get(value, MISSING) for value in ours), MISSING], kind)
        codes = table[self.codes_n]  # without a label: the last
        unknown = (codes < 0) & (self.codes_n >= 0)
        if unknown.any():
            found = sorted({str(ours[c]) for c in np.unique(self.codes_n[unknown])})
            raise InputError(
                f"{where}: unknown class {', '.join(found[:5])} in {int(unknown.sum())} row(s); known: "
                f"{', '.join(str(v) for v in list(theirs)[:20])}",
                "use data with the classes that the other file has",
            )
        return Labels(codes, tuple(classes), tuple(names) if names is not None else None, self.type)


def read_labels(source: ParquetSource, column: str, option: str = "--label-column", *, compact: bool = False) -> Labels:
    """Return a label column: integers (with names where the metadata has them) or strings; whole numbers and truths count as integers.

    Null labels, and negative ones where class names are known (-1 and -100 are written for none), are missing.

    Args:
        column, option: name of the labels, and the option that says it.
        compact: codes of the smallest type that holds them, instead of int64.
    Raises:
        InputError: no such column, another type, or a label outside the named classes.
    """
    kind = source.require(column, option).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    whole = pa.types.is_boolean(kind) or pa.types.is_floating(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
    if not texts and not whole and not pa.types.is_integer(kind):
        raise InputError(
            f"{source.location}: column '{column}' is {source.schema.field(column).type}, not integers or strings",
            f"cast it to int64 or to strings, or name other labels with {option}",
        )
    names = None if texts else class_names(source.schema, column)
    for place, schema in zip(source.names, source.schemas, strict=True) if not texts else ():
        if class_names(schema, column) != names:
            raise InputError(
                f"{place} has other class names, or another order of them, than {source.names[0]}: the same number is another class",
                "write the files with one list of classes",
            )
    classes = tuple(range(len(names))) if names is not None else _classes(_label_arrays(source, column, texts))
    codes_n = np.empty(source.rows, np.min_scalar_type(-max(1, len(classes))) if compact else np.int64)
    known, done = pa.array(classes, pa.string() if texts else pa.int64()), 0
    for array in _label_arrays(source, column, texts):
        codes = pc.index_in(array, value_set=known, skip_nulls=True).fill_null(MISSING).to_numpy()
        if names is not None:
            _refuse_unknown(source, column, array, codes, done, len(names))
        codes_n[done : done + len(codes)] = codes
        done += len(codes)
    return Labels(codes_n, classes, names, pa.string() if texts else pa.int64() if whole else kind)


def _label_arrays(source: ParquetSource, column: str, texts: bool) -> Iterator[pa.Array]:
    """Yield the labels as strings or int64."""
    for batch in source.batches([column], ROW_GROUP_ROWS):
        array = batch.column(0)
        array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
        if pa.types.is_floating(array.type):  # as pandas writes integers with gaps
            array = pc.if_else(pc.is_nan(array), None, array)
        yield cast_whole(array, pa.string() if texts else pa.int64(), source.location, column)


def _classes(arrays: Iterable[pa.Array]) -> tuple[ClassValue, ...]:
    """Return the values that occur, ascending."""
    return tuple(sorted({value for array in arrays for value in pc.unique(array).drop_null().to_pylist()}))


def _refuse_unknown(source: ParquetSource, column: str, array: pa.Array, codes: np.ndarray, row: int, n: int) -> None:
    """Raise where a label is not negative, null or one of the named classes."""
    unlabeled = array.fill_null(MISSING).to_numpy() < 0
    outside = (codes < 0) & ~unlabeled
    if outside.any():
        place = int(outside.argmax())
        raise InputError(
            f"{source.location}: row {row + place} has the unknown class {array[place]}; the metadata names {n} classes, 0 to {n - 1}",
            "correct the labels or the class names",
        )


def some(values: pa.Array | Sequence[object], limit: int = 5) -> str:
    """Return a few values as text, with a mark where there are more."""
    shown = ", ".join(str(v) for v in values[:limit])
    return shown + (", ..." if len(values) > limit else "")
