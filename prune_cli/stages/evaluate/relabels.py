"""New labels put to use: a cleaned data manifest, what they got right, and the score they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import Labels, locate, read_ids, read_labels
from prune_cli.io.manifests.relabels import GIVEN, read_relabels
from prune_cli.io.parquet.provenance import Provenance, row_counts
from prune_cli.io.parquet.tables import ParquetSource, write_batches
from prune_cli.io.stores.atomic import check_output
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome


def wrong_labels(labels: Labels, true: Labels | None) -> np.ndarray | None:
    """Return (N,) float64: 1 where a label is wrong, 0 where it is right, NaN where it or the truth is missing.

    None where nothing says what is true.
    """
    if true is None:
        return None
    wrong: np.ndarray = (label_names(labels) != label_names(true)).astype(np.float64)
    wrong[(labels.codes_n < 0) | (true.codes_n < 0)] = np.nan
    return wrong


def noise_share(wrong_n: np.ndarray | None, rows: np.ndarray | None = None) -> float | None:
    """Return the share of wrong labels among those that are known, of some rows (a mask or positions) or of all.

    None where none is known.

    >>> noise_share(np.array([1.0, 0.0, np.nan])), noise_share(np.array([1.0, np.nan]), np.array([1])), noise_share(None)
    (0.5, None, None)
    """
    if wrong_n is None:
        return None
    wrong = wrong_n if rows is None else wrong_n[rows]
    wrong = wrong[np.isfinite(wrong)]
    return float(wrong.mean()) if len(wrong) else None


_BATCH_ROWS = 1024


@dataclass(frozen=True)
class RelabelOptions:
    """The options of ``prune manifest merge DATA RELABELS --relabel``; see docs/commands.md."""

    data: str
    relabels: str
    id_column: str = "id"
    label_column: str = "label"
    output: str | None = None
    force: bool = False
    plan: bool = False


def relabel(options: RelabelOptions) -> Outcome:
    """Write a data manifest with its labels replaced by new ones; rows without a new label keep theirs.

    Returns:
        Outcome whose output has the rows and columns of the data, and the labels as they were in ``given_label``.
    Raises:
        InputError: ids or classes that do not go together, or labels that are not those the file was made from; nothing is
            written.
    """
    watch = Stopwatch()
    source, found = ParquetSource(options.data), read_relabels(options.relabels)
    if GIVEN in source.schema.names:
        raise InputError(f"{options.data} has a column '{GIVEN}' already", "give the data as it was before")
    labels = read_labels(source, options.label_column)
    ids, _ = read_ids(source, options.id_column)
    rows = locate(found.ids, ids, options.relabels, options.data)
    given = found.given.recoded(labels.classes, labels.names, options.relabels)
    differ = given.codes_n != labels.codes_n[rows]
    if differ.any():
        raise InputError(
            f"{int(differ.sum())} label(s) of {options.data} are not those {options.relabels} was made from, such as that of "
            f"{found.ids[int(np.flatnonzero(differ)[0])]}",
            "give the data the run was trained on",
        )
    new = found.new.recoded(labels.classes, labels.names, options.relabels)
    codes_n = labels.codes_n.copy()
    codes_n[rows] = new.codes_n
    cleaned = Labels(codes_n, labels.classes, labels.names, labels.type).values()
    output = options.output or f"{source.stem}.cleaned.parquet"
    if options.plan:
        figures = {
            "rows": len(ids),
            "passes_over_data": 1,
            "algorithm": "labels replaced by id",
            "peak_memory_bytes": 200 * 2**20 + 200 * len(ids),
            "disk_bytes": source.nbytes,
        }
        return plan_outcome("manifest merge", figures)
    check_output(output, options.force)
    fields = list(source.schema)
    schema = pa.schema([*fields, fields[source.schema.get_field_index(options.label_column)].with_name(GIVEN)])
    inputs, counts = (*source.inputs, *found.source.inputs), row_counts(len(ids), len(ids))
    provenance = Provenance("manifest merge", "relabel", inputs=inputs, packages=("pyarrow",), rows=counts)
    batches = _cleaned_batches(source, schema, options.label_column, cleaned)
    write_batches(output, schema, batches, provenance, source.schema.metadata, row_group_rows=_BATCH_ROWS)
    changed = int((codes_n != labels.codes_n).sum())
    outcome = Outcome(outputs=[output])
    told = {"rows_with_a_new_label": len(rows), "labels_changed": changed}
    outcome.summary = watch.summary(provenance.command, output=output, **provenance.rows, **told)
    outcome.tables["labels"] = [["rows", "seen by the run", "changed"], [f"{len(ids):,}", f"{len(rows):,}", f"{changed:,}"]]
    return outcome


def _cleaned_batches(source: ParquetSource, schema: pa.Schema, label_column: str, cleaned: pa.Array) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in source.batches(source.schema.names, _BATCH_ROWS):
        here = cleaned.slice(start, len(batch)).cast(schema.field(label_column).type)
        start += len(batch)
        columns = [here if name == label_column else batch.column(name) for name in source.schema.names]
        yield pa.RecordBatch.from_arrays([*columns, batch.column(label_column)], schema=schema)


def relabeling_figures(location: str, ids: pa.Array, true_n: np.ndarray, where: str) -> dict[str, float]:
    """Return what new labels got right, of the rows whose true label is known.

    ``relabel_accuracy``: share of new labels that are true. ``label_noise_given``, ``label_noise_left``: share of labels that are
    wrong before and after. ``errors_corrected``: of the wrong labels, the share that became true. ``good_broken``: of the right
    ones, the share that became wrong. ``changed``: share of labels changed; ``changed_right``: of these, the share now true.

    Args:
        ids: of the data, all of the file's among them.
        true_n: (N,) str, the true label of each row by name, empty where it is not known.
        where: what to call the data.
    Raises:
        InputError: ids that are not in the data.
    """
    found = read_relabels(location)
    true_m = true_n[locate(found.ids, ids, location, where)]
    known = true_m != ""
    if not known.any():
        return {}
    given, new, true = label_names(found.given)[known], label_names(found.new)[known], true_m[known]
    wrong, changed, right = given != true, given != new, new == true
    figures = {
        "relabel_accuracy": right.mean(),
        "label_noise_given": wrong.mean(),
        "label_noise_left": (~right).mean(),
        "changed": changed.mean(),
    }
    for name, part, share in (("errors_corrected", wrong, right), ("good_broken", ~wrong, ~right), ("changed_right", changed, right)):
        if part.any():
            figures[name] = share[part].mean()
    return {name: float(value) for name, value in figures.items()}


def label_names(labels: Labels) -> np.ndarray:
    """Return (N,) labels as text, empty where missing."""
    names: np.ndarray = np.array([*(str(c) for c in labels.classes), ""], object)
    return names[labels.codes_n]  # type: ignore[no-any-return]


def p_clean_of(location: str, ids: pa.Array, where: str) -> tuple[np.ndarray, Mapping[str, Any]]:
    """Return (N,) float64 ``p_clean`` of each row, and the facts of the file.

    Raises:
        InputError: a row the run was not trained on.
    """
    found = read_relabels(location)
    rows = locate(ids, found.ids, where, location)
    return found.p_clean[rows], {"relabels": len(found.ids)}
