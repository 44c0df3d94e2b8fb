"""What files of other tools say, and of which rows: a reader for each of `ORIGINS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.io.foreign.readers import CsvFile, numbers, read_ids_file, read_lines, read_uids, read_vector, truths
from prune_cli.io.ids.columns import ID, Labels, locate
from prune_cli.io.manifests.data import DataOptions, Dataset
from prune_cli.io.manifests.selection import RANK, SELECTED, WEIGHT
from prune_cli.io.parquet.provenance import InputFile
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.stages.frame.outcome import direction_of, parse_directions

_INDEX_NAMES = ("", "Unnamed: 0")
"""How pandas names the index of a table in a CSV file, and what becomes of that when the file is read and saved again."""


@dataclass(frozen=True)
class ImportOptions:
    """The options of ``prune manifest import``; see docs/commands.md."""

    file: str
    origin: str
    data: DataOptions | None = None
    ids: str | None = None
    column: str | None = None
    directions: tuple[str, ...] = ()
    selection: bool = False
    unordered: bool = False
    output: str | None = None
    force: bool = False
    plan: bool = False


@dataclass(frozen=True)
class KnownRows:
    """The rows that a manifest is made of.

    Args:
        ids: (N,) unique.
        location: what to call them in a message.
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
    return KnownRows(dataset.ids, labels, options.location, dataset.source.inputs, dataset.source, dataset.ids_made_up, options.id_column)


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
        raise InputError(f"{len(often)} {what}(s) of {path} stand more than once, such as {named(int(often[0]))}", "list each once")
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


LABEL_SCORE, LABEL_QUALITY, LABEL_ISSUE = "label_score", "label_quality", "is_label_issue"
"""Cleanlab's columns; its older versions say quality for score."""


@dataclass
class ReadRows:
    """What a file says of the rows.

    Args:
        columns: of the manifest, after id and label.
        directions: of its score columns.
        figures: for the summary.
    """

    columns: dict[str, pa.Array]
    directions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


def read_scores(options: ImportOptions, path: Path, rows: KnownRows) -> ReadRows:
    """Read one number a row, saved by NumPy: in the order of ``--ids``, else of the data."""
    if options.column is None:
        raise InputError(f"{path} does not say what its scores are", "name them: --column NAME")
    given = parse_directions(options.directions)
    others = sorted(given.keys() - {options.column})
    if others:
        raise InputError(f"--direction names '{others[0]}', and the column is '{options.column}'", "name that one")
    direction = direction_of(options.column, given)
    values = read_vector(path, "scores")
    if values.dtype.kind not in "iuf":
        raise InputError(f"{path} holds {values.dtype}, and scores are numbers", "np.save(file, scores.astype(np.float64))")
    order = np.arange(len(rows.ids))
    if options.data is not None and options.ids is not None:
        ids = read_ids_file(Path(options.ids))
        check_length(len(ids), "ids", Path(options.ids), rows)
        order = locate(ids, rows.ids, options.ids, rows.location)
    check_length(len(values), "scores", path, rows)
    placed = np.empty(len(values))
    placed[order] = values
    return _as_scores(options.column, direction, placed)


def _as_scores(name: str, direction: str, values_n: np.ndarray) -> ReadRows:
    unknown = ~np.isfinite(values_n)
    found = ReadRows({name: pa.array(values_n, pa.float64(), mask=unknown)}, {name: direction})
    found.figures = {"column": name, "direction": direction, "null_scores": int(unknown.sum())}
    if unknown.any():
        found.notes.append(f"{int(unknown.sum()):,} of {len(unknown):,} scores are missing, NaN or infinite, and null in the manifest")
    return found


def read_cleanlab(options: ImportOptions, path: Path, rows: KnownRows) -> ReadRows:
    """Read cleanlab's label issues: a low score is a suspicious label."""
    file = CsvFile(path)
    cure = "save them whole: lab.get_issues('label').to_csv(file), or cl.get_label_issues().to_csv(file)"
    wanted = file.require([LABEL_ISSUE] if options.selection else [LABEL_SCORE, LABEL_QUALITY], cure)
    given = [name for name in ("given_label",) if name in file.names]
    columns = file.read([*line_columns(file, rows), wanted, *given])
    check_length(len(columns[wanted]), "rows", path, rows)
    positions = locate_lines(file, columns, rows)
    notes = [compare_labels(columns[name], positions, rows, path) for name in given]
    if options.selection:
        kept = np.zeros(len(rows.ids), bool)
        kept[positions] = ~truths(columns[wanted], wanted, path).to_numpy(zero_copy_only=False)
        found = _as_selection(kept, np.zeros(len(kept), np.int64), None, "a label issue")
    else:
        scores = np.empty(len(rows.ids))
        scores[positions] = numbers(columns[wanted], wanted, path).fill_null(np.nan).to_numpy()
        found = _as_scores(options.column or LABEL_SCORE, "easier", scores)
    found.notes = [note for note in notes if note is not None] + found.notes
    return found


def read_indices(options: ImportOptions, path: Path, rows: KnownRows) -> ReadRows:
    """Read positions of kept rows, as DeepCore and CCS save them."""
    return _kept(options, path, rows, check_positions(read_vector(path, "positions"), rows, path))


def read_ids(options: ImportOptions, path: Path, rows: KnownRows) -> ReadRows:
    """Read ids of kept rows, one a line."""
    return _kept(options, path, rows, locate(read_lines(path), rows.ids, options.file, rows.location))


def read_uids_file(options: ImportOptions, path: Path, rows: KnownRows) -> ReadRows:
    """Read DataComp's uids of kept rows; they are sorted, so their order says nothing."""
    return _kept(options, path, rows, locate(read_uids(path), rows.ids, options.file, rows.location), ordered=False)


def read_csv(options: ImportOptions, path: Path, rows: KnownRows) -> ReadRows:
    """Read kept rows from a table with a column of ids, and weights and labels where there are any."""
    file = CsvFile(path)
    file.require([rows.id_column, ID], "name the column of ids 'id'")
    more = [name for name in ("label", WEIGHT) if name in file.names]
    columns = file.read([*line_columns(file, rows), *more])
    positions = locate_lines(file, columns, rows)
    note = compare_labels(columns["label"], positions, rows, path) if "label" in more else None
    weights = numbers(columns[WEIGHT], WEIGHT, path).fill_null(np.nan).to_numpy() if WEIGHT in more else None
    found = _kept(options, path, rows, positions, weights)
    found.notes += [note] if note is not None else []
    return found


def _kept(
    options: ImportOptions, path: Path, rows: KnownRows, positions: np.ndarray, weights: np.ndarray | None = None, *, ordered: bool = True
) -> ReadRows:
    """Return the selection that keeps the rows at some positions, in their order where that says something."""
    kept, rank_n = np.zeros(len(rows.ids), bool), np.zeros(len(rows.ids), np.int64)
    kept[positions] = True
    if ordered and not options.unordered:
        rank_n[positions] = np.arange(1, len(positions) + 1)
    weight_n = None
    if weights is not None:
        weight_n = np.full(len(rows.ids), np.nan)
        weight_n[positions] = weights
    return _as_selection(kept, rank_n, weight_n, f"not in {path.name}")


def _as_selection(kept: np.ndarray, rank_n: np.ndarray, weight_n: np.ndarray | None, reason: str) -> ReadRows:
    columns = {SELECTED: pa.array(kept), RANK: pa.array(rank_n, pa.int64(), mask=rank_n == 0)}
    if weight_n is not None:
        columns[WEIGHT] = pa.array(weight_n, pa.float64(), mask=np.isnan(weight_n))
    columns["reason"] = pa.array([reason], pa.string()).take(pa.array(np.zeros(len(kept), np.int64), mask=kept))
    return ReadRows(columns, figures={"rows_kept": int(kept.sum())})
