"""``prune manifest import``: what other tools say of the rows, as a score or selection manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.origins import ORIGINS, SELECTIONS
from prune_cli.io.foreign.csv_files import CsvFile, numbers, truths
from prune_cli.io.foreign.id_lists import read_ids_file, read_lines, read_uids
from prune_cli.io.foreign.numpy_files import read_vector
from prune_cli.io.ids.columns import ID, locate
from prune_cli.io.manifests.data import DataOptions
from prune_cli.io.manifests.selection import RANK, SELECTED, WEIGHT
from prune_cli.io.parquet.provenance import Provenance, hash_file
from prune_cli.io.parquet.tables import write_table
from prune_cli.io.stores.atomic import check_output
from prune_cli.io.stores.locations import require_local
from prune_cli.stages.frame.directions import direction_of, parse_directions
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.manifest.foreign_rows import (
    KnownRows,
    check_length,
    check_positions,
    compare_labels,
    line_columns,
    locate_lines,
    rows_of_data,
)

LABEL_SCORE, LABEL_QUALITY, LABEL_ISSUE = "label_score", "label_quality", "is_label_issue"
"""Cleanlab's columns; its older versions say quality for score."""

PROCESS_BYTES = 200 * 2**20
ROW_BYTES, FILE_FACTOR = 400, 4
"""Memory of Python with pyarrow, of each row with a string id, and of each byte of the file: measured upper bounds."""

_RESERVED = {ID, "label", SELECTED, RANK, WEIGHT, "reason", "true_label", "split"}
_MEANT_FOR = {
    "column": ("scores", "cleanlab"),
    "direction": ("scores",),
    "ids": ("scores",),
    "selection": ("cleanlab",),
    "unordered": ("indices", "ids", "csv"),
}
"""Option -> what it is an option of."""


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


@dataclass
class _Found:
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


def import_file(options: ImportOptions) -> Outcome:
    """Make a manifest of a file of another tool: every row of the data once.

    Raises:
        InputError: a file that is not what it is said to be, or that speaks of other rows; nothing is written.
    """
    watch = Stopwatch()
    _check_options(options)
    for file in (options.file, options.ids):
        if file is not None:
            require_local(file, "what another tool wrote,")
    path = Path(options.file)
    if not path.is_file():
        raise InputError(f"{options.file} is no file", "check the path")
    rows = _known_rows(options)
    kind = "selection" if options.origin in SELECTIONS or options.selection else "scores"
    output = options.output or f"{path.stem}.{kind}.parquet"
    if options.plan:
        figures = {
            "rows": len(rows.ids),
            "passes_over_data": 1,
            "algorithm": f"{options.origin} to {kind}",
            "peak_memory_bytes": PROCESS_BYTES + ROW_BYTES * len(rows.ids) + FILE_FACTOR * path.stat().st_size,
            "disk_bytes": 32 * len(rows.ids),
        }
        return plan_outcome("manifest import", figures)
    check_output(output, options.force)
    found = _READERS[options.origin](options, path, rows)
    columns: dict[str, pa.Array] = {ID: rows.ids}
    if rows.labels is not None:
        columns["label"] = rows.labels.values()
    table = pa.table(columns | found.columns)
    listed = (hash_file(Path(options.ids)),) if options.ids is not None else ()
    provenance = Provenance(
        command="manifest import",
        method=options.origin,
        parameters={
            "column": next(iter(found.directions), None),
            "selection": options.selection,
            "unordered": options.unordered,
            "split": options.data.split if options.data is not None else None,
        },
        seed=0,
        inputs=(hash_file(path), *listed, *(rows.inputs if options.data is not None else ())),
        packages=("numpy", "pyarrow"),
        score_direction=found.directions,
        rows={"rows_in": len(rows.ids), "rows_out": len(rows.ids), "rows_bad": 0},
    )
    write_table(output, table, provenance, rows.source)
    outcome = Outcome(outputs=[output], warnings=found.notes)
    if rows.made_up:
        outcome.warnings.append(f"{rows.location} has no column '{ID}': ids are the positions, row-00000000 and on")
    outcome.summary = {
        "command": "manifest import",
        "from": options.origin,
        "output": output,
        **found.figures,
        **provenance.rows,
        **watch.figures(),
    }
    return outcome


def _check_options(options: ImportOptions) -> None:
    if options.origin not in ORIGINS:
        raise InputError(f"unknown --from '{options.origin}'", f"use one of: {', '.join(ORIGINS)}")
    given = {
        "column": options.column is not None,
        "direction": bool(options.directions),
        "ids": options.ids is not None,
        "selection": options.selection,
        "unordered": options.unordered,
    }
    for name, there in given.items():
        if there and options.origin not in _MEANT_FOR[name]:
            raise InputError(f"--{name} has no meaning with --from {options.origin}", "leave it out")
    if options.data is None and options.ids is None:
        also = ", or their ids with --ids" if options.origin == "scores" else ""
        raise InputError(f"--from {options.origin} needs to know the rows", f"name the data with --data{also}")
    if options.selection and options.column is not None:
        raise InputError("--column is of scores, and --selection writes none", "leave one out")
    if options.column in _RESERVED:
        raise InputError(f"--column {options.column} is the name of another column of manifests", "name it otherwise")


def _known_rows(options: ImportOptions) -> KnownRows:
    if options.data is not None:
        return rows_of_data(options.data)
    assert options.ids is not None
    return KnownRows(read_ids_file(Path(options.ids)), None, options.ids, ())


def _scores(options: ImportOptions, path: Path, rows: KnownRows) -> _Found:
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


def _as_scores(name: str, direction: str, values_n: np.ndarray) -> _Found:
    unknown = ~np.isfinite(values_n)
    found = _Found({name: pa.array(values_n, pa.float64(), mask=unknown)}, {name: direction})
    found.figures = {"column": name, "direction": direction, "null_scores": int(unknown.sum())}
    if unknown.any():
        found.notes.append(
            f"{int(unknown.sum()):,} of {len(unknown):,} scores are missing, NaN or infinite, and null in the manifest"
        )
    return found


def _cleanlab(options: ImportOptions, path: Path, rows: KnownRows) -> _Found:
    """Read cleanlab's label issues: a low score is a suspicious label."""
    assert options.data is not None
    file = CsvFile(path)
    cure = "save them whole: lab.get_issues('label').to_csv(file), or cl.get_label_issues().to_csv(file)"
    wanted = file.require([LABEL_ISSUE] if options.selection else [LABEL_SCORE, LABEL_QUALITY], cure)
    given = [name for name in ("given_label",) if name in file.names]
    columns = file.read([*line_columns(file, options.data.id_column), wanted, *given])
    check_length(len(columns[wanted]), "rows", path, rows)
    positions = locate_lines(file, options.data.id_column, columns, rows)
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


def _indices(options: ImportOptions, path: Path, rows: KnownRows) -> _Found:
    """Read positions of kept rows, as DeepCore and CCS save them."""
    return _kept(options, path, rows, check_positions(read_vector(path, "positions"), rows, path))


def _ids(options: ImportOptions, path: Path, rows: KnownRows) -> _Found:
    """Read ids of kept rows, one a line."""
    return _kept(options, path, rows, locate(read_lines(path), rows.ids, options.file, rows.location))


def _uids(options: ImportOptions, path: Path, rows: KnownRows) -> _Found:
    """Read DataComp's uids of kept rows; they are sorted, so their order says nothing."""
    return _kept(options, path, rows, locate(read_uids(path), rows.ids, options.file, rows.location))


def _csv(options: ImportOptions, path: Path, rows: KnownRows) -> _Found:
    """Read kept rows from a table with a column of ids, and weights and labels where there are any."""
    assert options.data is not None
    file = CsvFile(path)
    file.require([options.data.id_column, ID], "name the column of ids 'id'")
    more = [name for name in ("label", WEIGHT) if name in file.names]
    columns = file.read([*line_columns(file, options.data.id_column), *more])
    positions = locate_lines(file, options.data.id_column, columns, rows)
    note = compare_labels(columns["label"], positions, rows, path) if "label" in more else None
    weights = numbers(columns[WEIGHT], WEIGHT, path).fill_null(np.nan).to_numpy() if WEIGHT in more else None
    found = _kept(options, path, rows, positions, weights)
    found.notes += [note] if note is not None else []
    return found


def _kept(
    options: ImportOptions, path: Path, rows: KnownRows, positions: np.ndarray, weights: np.ndarray | None = None
) -> _Found:
    """Return the selection that keeps the rows at some positions, in their order where that says something."""
    kept, rank_n = np.zeros(len(rows.ids), bool), np.zeros(len(rows.ids), np.int64)
    kept[positions] = True
    if options.origin != "uids" and not options.unordered:
        rank_n[positions] = np.arange(1, len(positions) + 1)
    weight_n = None
    if weights is not None:
        weight_n = np.full(len(rows.ids), np.nan)
        weight_n[positions] = weights
    return _as_selection(kept, rank_n, weight_n, f"not in {path.name}")


def _as_selection(kept: np.ndarray, rank_n: np.ndarray, weight_n: np.ndarray | None, reason: str) -> _Found:
    columns = {SELECTED: pa.array(kept), RANK: pa.array(rank_n, pa.int64(), mask=rank_n == 0)}
    if weight_n is not None:
        columns[WEIGHT] = pa.array(weight_n, pa.float64(), mask=np.isnan(weight_n))
    columns["reason"] = pa.array([reason], pa.string()).take(pa.array(np.zeros(len(kept), np.int64), mask=kept))
    return _Found(columns, figures={"rows_kept": int(kept.sum())})


_READERS: dict[str, Callable[[ImportOptions, Path, KnownRows], _Found]] = {
    "cleanlab": _cleanlab,
    "scores": _scores,
    "indices": _indices,
    "ids": _ids,
    "csv": _csv,
    "uids": _uids,
}
