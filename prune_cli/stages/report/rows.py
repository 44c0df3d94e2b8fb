"""The rows that a report is about: labels, scores and what is kept, joined by id from whatever files are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import Labels, read_ids, read_labels
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.selection import SELECTED
from prune_cli.methods.registry.lookup import published_direction
from prune_cli.stages.evaluate.label_noise import wrong_labels
from prune_cli.stages.report.files import ReportFile, of_kind, score_columns


@dataclass
class JoinedRows:
    """N rows by position.

    Args:
        ids: of the rows.
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


def _add_column(
    rows: JoinedRows, file: ReportFile, name: str, shown: str, place: np.ndarray, there: np.ndarray
) -> None:
    values = file.source.read([name]).column(0).cast(pa.float64()).to_numpy(zero_copy_only=False)
    column = np.full(len(rows.ids), np.nan)
    column[place[there]] = values[there]
    rows.scores[shown] = column
    direction = published_direction(shown)
    if direction:
        rows.directions.setdefault(shown, direction)
