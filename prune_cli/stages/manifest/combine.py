"""``prune manifest merge --how``: several selections of the same data made into one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import ID, Labels
from prune_cli.io.manifests.joined_selections import JoinedSelections
from prune_cli.io.manifests.selection import RANK, SELECTED, WEIGHT
from prune_cli.io.parquet.provenance import Provenance, row_counts
from prune_cli.io.parquet.tables import write_table
from prune_cli.io.stores.atomic import check_output
from prune_cli.methods.selection.combining import Combination, fill_quotas, intersect, subtract, unite
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.manifest.combinations import HOWS, SET_OPERATIONS
from prune_cli.stages.manifest.options import MergeOptions
from prune_cli.stages.manifest.quotas import quotas_of

PROCESS_BYTES = 200 * 2**20
ROW_BYTES, FILE_ROW_BYTES = 250, 150
"""Memory of Python with pyarrow, of each row with a string id, and of each row of each file: measured upper bounds."""


def combine(options: MergeOptions) -> Outcome:
    """Make one selection of several: every row once, kept or not, with the reason.

    Raises:
        InputError: selections of other rows, labels that differ, quotas that do not fit the classes; nothing is written.
    """
    watch = Stopwatch()
    _check_options(options)
    joined = JoinedSelections(options.files, id_column=options.id_column, label_column=options.label_column)
    output = options.output or f"{joined.selections[0].source.stem.removesuffix('.selection')}.{options.how}.parquet"
    quotas_c = quotas_of(options.quotas, _labels(joined, options)) if options.how == "quota" else None
    if options.plan:
        n_rows = len(joined.ids)
        figures = {
            "rows": n_rows,
            "passes_over_data": 1,
            "algorithm": f"{options.how} of {len(options.files)} selection(s), by id",
            "peak_memory_bytes": PROCESS_BYTES + (ROW_BYTES + FILE_ROW_BYTES * len(options.files)) * n_rows,
            "disk_bytes": 40 * n_rows,
        }
        return plan_outcome("manifest merge", figures)
    check_output(output, options.force)
    outcome = Outcome(outputs=[output])
    found = _combination(joined, options, quotas_c)
    weight_n, differ = joined.weights(found.selected_n)
    weighed = any(selection.weight_n is not None for selection in joined.selections)
    if weight_n is None and weighed and found.selected_n.any():
        why = f"{differ:,} row(s) have weights that differ" if differ else "a file has none"
        outcome.warnings.append(f"the column '{WEIGHT}' is left out: {why}")
    if not joined.whole:
        outcome.warnings.append("every file holds kept rows alone, so that no other rows are known")
    if not found.selected_n.any():
        outcome.warnings.append("no row is selected")
    table = _table(joined, found, weight_n)
    if options.selected_only:
        table = table.filter(pa.array(found.selected_n))
    provenance = Provenance(
        "manifest merge",
        options.how,
        {"quota": list(options.quotas), "selected_only": options.selected_only, "nested": False},
        inputs=joined.inputs,
        packages=("numpy", "pyarrow"),
        rows=row_counts(len(joined.ids), len(table)),
    )
    write_table(output, table, provenance, joined.source)
    _tell(joined, found, quotas_c, outcome)
    kept = int(found.selected_n.sum())
    outcome.summary = watch.summary(
        provenance.command, how=options.how, output=output, rows_kept=kept, **provenance.rows
    )
    return outcome


def _check_options(options: MergeOptions) -> None:
    if options.how not in SET_OPERATIONS:
        raise InputError(f"unknown --how '{options.how}'", f"use one of: {', '.join(HOWS)}")
    if len(options.files) < 2 and options.how != "quota":
        raise InputError(f"--how {options.how} is of several selections, and one is given", "name two or more")
    if options.quotas and options.how != "quota":
        raise InputError(f"--quota has no meaning with --how {options.how}", "use --how quota, or leave it out")


def _labels(joined: JoinedSelections, options: MergeOptions) -> Labels:
    if joined.labels is None:
        raise joined.source.lacking(options.label_column, "--label-column")
    return joined.labels


def _combination(joined: JoinedSelections, options: MergeOptions, quotas_c: np.ndarray | None) -> Combination:
    selections = joined.selected_fn, joined.rank_fn, joined.place_n
    if quotas_c is not None:
        return fill_quotas(*selections, _labels(joined, options).codes_n, quotas_c)
    ways: dict[str, Callable[[], Combination]] = {
        "union": lambda: unite(*selections),
        "intersect": lambda: intersect(*selections, joined.names),
        "difference": lambda: subtract(*selections, joined.names),
    }
    return ways[options.how]()


def _table(joined: JoinedSelections, found: Combination, weight_n: np.ndarray | None) -> pa.Table:
    columns: dict[str, pa.Array] = {ID: joined.ids}
    if joined.labels is not None:
        columns["label"] = joined.labels.values()
    columns[SELECTED] = pa.array(found.selected_n)
    columns[RANK] = pa.array(found.rank_n, pa.int64(), mask=found.rank_n == 0)
    if weight_n is not None:
        columns[WEIGHT] = pa.array(weight_n, pa.float64(), mask=np.isnan(weight_n))
    out = found.reason_n >= 0
    columns["reason"] = pa.array(found.reasons, pa.string()).take(pa.array(found.reason_n, mask=~out))
    return pa.table(columns)


def _tell(joined: JoinedSelections, found: Combination, quotas_c: np.ndarray | None, outcome: Outcome) -> None:
    """Say how many rows each file keeps, how many the result does, and which quotas are not filled."""
    n_rows, kept = len(joined.ids), int(found.selected_n.sum())
    outcome.tables["kept"] = [
        ["selection", "rows kept", "of"],
        *([n, f"{int(s.sum()):,}", f"{n_rows:,}"] for n, s in zip(joined.names, joined.selected_fn, strict=True)),
        ["result", f"{kept:,}", f"{n_rows:,}"],
    ]
    if quotas_c is None or joined.labels is None:
        return
    codes = joined.labels.codes_n
    taken_c = np.bincount(codes[found.selected_n], minlength=len(quotas_c))
    names = joined.labels.display_names()
    outcome.tables["classes"] = [
        ["class", "quota", "rows kept"],
        *([names[c], f"{quotas_c[c]:,}", f"{taken_c[c]:,}"] for c in range(min(50, len(names)))),
    ]
    short = [names[c] for c in np.flatnonzero(taken_c < quotas_c)]
    if short:
        shown = ", ".join(short[:5]) + (", ..." if len(short) > 5 else "")
        outcome.warnings.append(f"{len(short)} class(es) have fewer selected rows than their quota: {shown}")
