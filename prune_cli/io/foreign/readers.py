"""Files of other tools, read without running what is in them: columns of CSV, arrays that ``numpy.save`` wrote, lists of ids."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import repeated, some

NOTHING = ("", "nan", "NaN", "None", "null", "NA", "N/A", "<NA>")
"""What stands for a missing number."""

_TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


class CsvFile:
    """A CSV file with a heading, UTF-8, commas between values.

    Raises:
        InputError: no such file, no text, or a heading that has a name twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                self.names: list[str] = next(csv.reader(file), [])
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}", "check the path") from None
        except (UnicodeDecodeError, csv.Error):
            raise InputError(f"{path} is not CSV in UTF-8", "save it with to_csv") from None
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise InputError(f"{path} has the column '{twice[0]}' twice", "save it with each column once")

    def require(self, wanted: Sequence[str], cure: str) -> str:
        """Return the first of some columns that is there.

        Raises:
            InputError: none is.
        """
        for name in wanted:
            if name in self.names:
                return name
        shown = " or ".join(f"'{name}'" for name in wanted)
        raise InputError(f"{self.path} has no column {shown}; it has {', '.join(self.names) or 'none'}", cure)

    def read(self, columns: Iterable[str]) -> dict[str, pa.Array]:
        """Return columns as strings, each (M,), of all rows.

        Raises:
            InputError: a row that has more or fewer values than the heading, or no row.
        """
        wanted = list(dict.fromkeys(columns))
        try:
            table = pcsv.read_csv(
                self.path,
                parse_options=pcsv.ParseOptions(newlines_in_values=True),
                convert_options=pcsv.ConvertOptions(
                    column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted, strings_can_be_null=False
                ),
            )
        except pa.ArrowInvalid as error:
            raise InputError(f"{self.path} is not sound CSV: {str(error).splitlines()[0]}", "save it with to_csv") from None
        if not table.num_rows:
            raise InputError(f"{self.path} has no rows", "check the file")
        return {name: pa.concat_arrays(table.column(name).chunks) for name in wanted}


def numbers(texts: pa.Array, column: str, path: Path) -> pa.Array:
    """Return texts as float64, null where nothing stands.

    Raises:
        InputError: a text that is no number; names the first.
    """
    known = pc.is_in(texts, value_set=pa.array(NOTHING))
    try:
        return pc.if_else(known, None, texts).cast(pa.float64())
    except pa.ArrowInvalid:
        row, text = _first(texts, known, float)
        raise InputError(f"{path}: column '{column}' has {text!r} in row {row}, which is no number", "correct it") from None


def truths(texts: pa.Array, column: str, path: Path) -> pa.Array:
    """Return texts as booleans: ``True`` and ``False``, in any case, or 1 and 0.

    Raises:
        InputError: another text, or none; names the first.
    """
    places = pc.index_in(pc.utf8_lower(texts), value_set=pa.array(list(_TRUTH)))
    if places.null_count:
        row = pc.index(places.is_null(), True).as_py()
        raise InputError(f"{path}: column '{column}' has {texts[row].as_py()!r} in row {row}, and True or False is wanted", "correct it")
    return pa.array(list(_TRUTH.values())).take(places)


def _first(texts: pa.Array, skipped: pa.Array, kind: type[float]) -> tuple[int, str]:
    for row, (text, skip) in enumerate(zip(texts.to_pylist(), skipped.to_pylist(), strict=True)):
        try:
            if not skip:
                kind(text)
        except ValueError:
            return row, text
    return 0, texts[0].as_py()


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
                    f"{path} has the shape {shape}, and one dimension is wanted", f"save it flat: np.save(file, {what}.ravel())"
                )
            there, wanted = path.stat().st_size - file.tell(), math.prod(shape) * dtype.itemsize
            if there < wanted:
                raise InputError(
                    f"{path} is cut short: {there:,} bytes of {shape[0]:,} {what}, {wanted:,} wanted", "make or fetch the file again"
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
        raise InputError(f"{path} is no array of numpy.save", "save it with np.save; .npz, .pt and .pkl are not read") from None
    return shape, dtype


UID = np.dtype("u8,u8")
"""How DataComp stores a uid of 128 bits: its two halves."""

_DIGITS = 32


def read_ids_file(path: Path) -> pa.Array:
    """Return the ids of a list, strings or int64, in its order: a ``.npy`` file, else text with one id a line.

    Raises:
        InputError: no such file, neither kind, no id in it, or an id that stands twice.
    """
    return _checked(_array_ids(path) if path.suffix == ".npy" else _line_ids(path), path)


def read_lines(path: Path) -> pa.Array:
    """Return the ids of a text file, one a line, as strings; empty lines are none.

    Raises:
        InputError: no such file, no text, no id in it, or an id that stands twice.
    """
    return _checked(_line_ids(path), path)


def read_uids(path: Path) -> pa.Array:
    """Return the uids of one of DataComp's subset files, as strings of 32 hexadecimal digits.

    Raises:
        InputError: another type than pairs of unsigned 64-bit numbers, no uid in it, or one that stands twice.
    """
    halves = read_vector(path, "uids")
    if halves.dtype != UID:
        raise InputError(f"{path} holds {halves.dtype}, and DataComp's uids are '{UID}'", "import it --from indices or ids")
    first, second = halves.dtype.names or ()
    digits = np.stack([halves[first], halves[second]], axis=1).astype(">u8").tobytes().hex().encode()
    offsets = np.arange(len(halves) + 1, dtype=np.int64) * _DIGITS
    uids = pa.LargeStringArray.from_buffers(len(halves), pa.py_buffer(offsets), pa.py_buffer(digits))
    return _checked(uids.cast(pa.string()), path)


def _line_ids(path: Path) -> pa.Array:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text", "give one id a line, in UTF-8") from None
    # Not splitlines: an id may hold what that takes for the end of a line.
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return pa.array([line for line in lines if line], pa.string())


def _array_ids(path: Path) -> pa.Array:
    ids = read_vector(path, "ids")
    if ids.dtype.kind in "iu":
        if ids.dtype.kind == "u" and len(ids) and int(ids.max()) > np.iinfo(np.int64).max:
            raise InputError(f"{path} has the id {int(ids.max())}, which is beyond 64 bits with a sign", "save them as strings")
        return pa.array(ids.astype(np.int64))
    if ids.dtype.kind == "U":
        return pa.array(ids, pa.string())
    if ids.dtype.kind == "S":
        try:
            return pa.array(np.char.decode(ids, "utf-8"), pa.string())
        except UnicodeDecodeError:
            raise InputError(f"{path} holds bytes that are not UTF-8", "save the ids as strings") from None
    raise InputError(f"{path} holds {ids.dtype}, and ids are strings or whole numbers", "np.save(file, ids.astype(str))")


def _checked(ids: pa.Array, path: Path) -> pa.Array:
    if not len(ids):
        raise InputError(f"{path} has no ids", "check the file")
    twice = repeated(ids)
    if len(twice):
        raise InputError(f"{path}: {len(twice)} id(s) stand more than once: {some(twice)}", "list each once")
    return ids
