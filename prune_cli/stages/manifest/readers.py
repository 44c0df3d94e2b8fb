"""What files of other tools say of the rows: a reader for each of `ORIGINS`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.foreign.csv_files import CsvFile, numbers, truths
from prune_cli.io.foreign.id_lists import read_ids_file, read_lines, read_uids
from prune_cli.io.foreign.numpy_files import read_vector
from prune_cli.io.ids.columns import ID, locate
from prune_cli.io.manifests.selection import RANK, SELECTED, WEIGHT
from prune_cli.stages.frame.directions import direction_of, parse_directions
from prune_cli.stages.manifest.foreign_rows import (
    KnownRows,
    check_length,
    check_positions,
    compare_labels,
    line_columns,
    locate_lines,
)
from prune_cli.stages.manifest.options import ImportOptions

LABEL_SCORE, LABEL_QUALITY, LABEL_ISSUE = "label_score", "label_quality", "is_label_issue"
"""Cleanlab's columns; its older versions say quality for score."""


@dataclass
class ReadRows:
    """What a file says of the rows.

    Args:
        columns: of the manifest, after id and label.
        directions: of its score columns.
        notes: what the user should know.
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
        raise InputError(
            f"{path} holds {values.dtype}, and scores are numbers", "np.save(file, scores.astype(np.float64))"
        )
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
        found.notes.append(
            f"{int(unknown.sum()):,} of {len(unknown):,} scores are missing, NaN or infinite, and null in the manifest"
        )
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
    options: ImportOptions,
    path: Path,
    rows: KnownRows,
    positions: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    ordered: bool = True,
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
