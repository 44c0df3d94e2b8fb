"""The files of a report, told apart by what they say of themselves, and the rows they speak of, joined by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import Labels, read_ids, read_labels
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.ledger import LEDGER_COLUMNS
from prune_cli.io.manifests.selection import SELECTED
from prune_cli.io.parquet.provenance import InputFile, read_provenance
from prune_cli.io.parquet.tables import ParquetSource, cast_whole
from prune_cli.io.runs.folder import HISTORY, MODEL, FinishedRun, read_run, run_files
from prune_cli.io.stores.locations import is_remote, name_of
from prune_cli.methods.registry.lookup import published_direction
from prune_cli.stages.evaluate.relabels import wrong_labels

FileKind = Literal["data", "scores", "features", "selection", "curve", "dynamics", "run", "evaluation", "comparison", "ledger", "relabels"]


@dataclass(frozen=True)
class ReportFile:
    """One file or run folder of a report.

    Args:
        name: without its folder.
        source: the Parquet file; of a run folder, its history.
        inputs: the file itself: name and hash of each part.
        stated: its provenance, empty where it has none.
    """

    name: str
    kind: FileKind
    source: ParquetSource
    inputs: tuple[InputFile, ...]
    stated: dict[str, Any]
    run: FinishedRun | None = None


def read_file(location: str) -> ReportFile:
    """Return a file with its kind.

    Raises:
        InputError: it is neither a run folder nor a Parquet file of ours, nor a data manifest.
    """
    path = Path(location)
    if (path / MODEL).is_file():
        run = read_run(path)
        history = ParquetSource(str(path / HISTORY))
        return ReportFile(path.resolve().name, "run", history, run_files(run), read_provenance(history.schema) or {}, run)
    source = ParquetSource(location)
    stated = read_provenance(source.schema) or {}
    kind = _kind(source.schema, stated)
    if kind is None:
        raise InputError(
            f"{location} is no file of prune: it has {', '.join(source.schema.names[:12])}",
            "give manifests, selections, reports, curves or run folders that prune wrote, or a data manifest",
        )
    name = source.names[0] if len(source.names) == 1 else name_of(location) if is_remote(location) else path.resolve().name
    return ReportFile(name, kind, source, source.inputs, stated)


def of_kind(files: Sequence[ReportFile], *kinds: FileKind) -> list[ReportFile]:
    """Return the files of some kinds."""
    return [file for file in files if file.kind in kinds]


def _kind(schema: pa.Schema, stated: dict[str, Any]) -> FileKind | None:
    columns = set(schema.names)
    if {"metric", "value"} <= columns:
        return "comparison" if "against" in columns else "evaluation"
    if "selected" in columns and "id" in columns:
        return "selection"
    if {"proxy_accuracy", "start"} <= columns:
        return "curve"
    if columns == set(LEDGER_COLUMNS):
        return "ledger"
    if {"p_clean", "new_label"} <= columns:
        return "relabels"
    if {"epoch", "p_label"} <= columns:
        return "dynamics"
    if stated.get("score_direction") and set(stated["score_direction"]) & columns:
        return "scores"
    if stated.get("command") == "score" and "embedding" in columns:
        return "features"
    if {"image", "embedding"} & columns:
        return "data"
    if "id" in columns and score_columns(schema):
        return "scores"
    return None


def score_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that hold a number a row and are no labels."""
    names = {"id", "label", "true_label", "split", "rank", "weight", "gain", "fold"}
    return [f.name for f in schema if f.name not in names and pa.types.is_floating(f.type)]


@dataclass
class JoinedRows:
    """N rows by position.

    Args:
        labels: their classes, or None where no file has any.
        scores: column -> (N,) float64, NaN where a row has no value; columns that two files have are named after the files too.
        directions: column -> ``harder`` or ``easier`` when high, where it is known.
        selections: name of the file -> (N,) bool.
        key: the score that the first selection went by, where it is among the scores.
        wrong_n: see `wrong_labels`.
    """

    ids: pa.Array
    labels: Labels | None = None
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    directions: dict[str, str] = field(default_factory=dict)
    selections: dict[str, np.ndarray] = field(default_factory=dict)
    key: str | None = None
    wrong_n: np.ndarray | None = None

    @property
    def selected(self) -> np.ndarray | None:
        """(N,) bool, what the first selection keeps; None without one."""
        return next(iter(self.selections.values()), None)


def read_rows(files: Sequence[ReportFile], dataset: Dataset | None) -> JoinedRows | None:
    """Return the rows of the data, else of the first file with ids; None where no file has rows.

    Raises:
        InputError: no id of a file is among the rows, or two score files of one column and one name.
    """
    tables = of_kind(files, "scores", "selection")
    if dataset is None and not tables:
        return None
    ids = dataset.ids if dataset is not None else read_ids(max(tables, key=lambda f: f.source.rows).source)[0]
    rows = JoinedRows(ids)
    if dataset is not None and dataset.options.label_column in dataset.source.schema.names:
        rows.labels = dataset.labels
        rows.wrong_n = wrong_labels(dataset.labels, dataset.true_labels)
    for file in tables:
        theirs, _ = read_ids(file.source)
        if theirs.equals(ids):
            place = np.arange(len(ids))
        else:
            if theirs.type != ids.type:
                theirs = theirs.cast(ids.type)
            place = pc.index_in(theirs, value_set=ids).fill_null(-1).to_numpy()
            if len(place) and not (place >= 0).any():
                raise InputError(f"{file.name} has none of the ids of the other files", "give files of the same data")
        there = place >= 0
        if rows.labels is None and "label" in file.source.schema.names and len(theirs) == len(ids) and there.all():
            labels = read_labels(file.source, "label")
            back = np.empty(len(ids), np.int64)
            back[place] = np.arange(len(ids))
            rows.labels = labels.take(back)
        if file.kind == "selection":
            _add_selection(rows, file, place, there)
        else:
            _add_scores(rows, file, place, there)
    if rows.key not in rows.scores:
        rows.key = None
    return rows


def _add_selection(rows: JoinedRows, file: ReportFile, place: np.ndarray, there: np.ndarray) -> None:
    kept = file.source.read([SELECTED]).column(0).combine_chunks().fill_null(False).to_numpy(zero_copy_only=False)
    mask = np.zeros(len(rows.ids), bool)
    mask[place[there & kept]] = True
    rows.selections[file.name] = mask
    key = file.stated.get("parameters", {}).get("key")
    if rows.key is None and key:
        rows.key = str(key)
        if key not in rows.scores and "score" in file.source.schema.names:
            _add_column(rows, file, "score", str(key), place, there)


def _add_scores(rows: JoinedRows, file: ReportFile, place: np.ndarray, there: np.ndarray) -> None:
    stated = file.stated.get("score_direction", {})
    for name in score_columns(file.source.schema):
        shown = name if name not in rows.scores or name == rows.key else f"{name} of {file.name}"
        _add_column(rows, file, name, shown, place, there)
        direction = stated.get(name) or published_direction(name)
        if direction:
            rows.directions[shown] = direction


def _add_column(rows: JoinedRows, file: ReportFile, name: str, shown: str, place: np.ndarray, there: np.ndarray) -> None:
    column = file.source.read([name]).column(0).combine_chunks()
    values = cast_whole(column, pa.float64(), file.source.location, name).to_numpy(zero_copy_only=False)
    column = np.full(len(rows.ids), np.nan)
    column[place[there]] = values[there]
    rows.scores[shown] = column
    direction = published_direction(shown)
    if direction:
        rows.directions.setdefault(shown, direction)
