"""What came of a selection: its manifests are written, and the outcome says what is in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.io.pages.drawing import write_plot
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import write_batches, write_table
from prune_cli.io.stores.locations import beside
from prune_cli.methods.selection.contract import Choice, Curve, Extra
from prune_cli.stages.frame.outcome import Outcome
from prune_cli.stages.select.budgets import Budget
from prune_cli.stages.select.curves import curve_plot
from prune_cli.stages.select.eligible import EligibleRows
from prune_cli.stages.select.inputs import SelectionRows
from prune_cli.stages.select.manifest import RankedRows, ranked_rows, selection_batches, selection_schema
from prune_cli.stages.select.outputs import Outputs
from prune_cli.stages.select.request import Request


def write_results(
    request: Request,
    rows: SelectionRows,
    eligible: EligibleRows,
    choice: Choice,
    outputs: Outputs,
    provenance: Provenance,
    outcome: Outcome,
) -> None:
    """Write a manifest for each budget, and the curve of what was tried; the outcome is told of them.

    Args:
        request: what was asked for.
        rows, eligible: what was chosen from.
        choice: the method's answer.
        outputs: where the files go.
        provenance: of all of them.
        outcome: gets tables, figures and warnings.
    """
    options, key, tie = request.options, rows.key, rows.tie
    outcome.tables["kept"] = [["budget", "rows kept", "of", "share", "file"]]
    files = []
    for number, budget in enumerate(outputs.budgets):
        extra = choice.extras[number] if choice.extras else None
        limit = None if request.method.nested else budget.count - eligible.kept
        ranked = ranked_rows(rows, eligible, choice.rankings[number], limit, extra)
        chosen = _chosen(rows, ranked, budget)
        kept = int(np.count_nonzero(chosen))
        _write(budget, rows, ranked, chosen, provenance, options.selected_only)
        figures: dict[str, Any] = {"rows_kept_before": eligible.kept} if options.before is not None else {}
        figures |= extra.figures if extra is not None else {}
        files.append({"output": budget.output, **budget.stated, "rows_kept": kept, **figures})
        share = f"{kept / len(chosen):.1%}"
        outcome.tables["kept"].append([budget.shown(), f"{kept:,}", f"{len(chosen):,}", share, budget.output])
        if kept == 0:
            outcome.warnings.append(f"{budget.shown()}: no row is selected")
    outcome.outputs = [budget.output for budget in outputs.budgets]
    outcome.summary = {
        "command": options.command,
        "method": request.method.name,
        "key": key.name if key else None,
        "tie": tie.name if tie else None,
        "outputs": files,
        **provenance.rows,
    }
    if choice.extras:
        _tell_extras(choice.extras, outputs.budgets, outcome)
    if choice.curve is not None:
        _tell_curve(choice.curve, outputs, options.plot, provenance, outcome)


def _chosen(rows: SelectionRows, ranked: RankedRows, budget: Budget) -> np.ndarray:
    """Return (N,) bool, which rows a budget keeps."""
    if rows.threshold is None:
        within: np.ndarray = (ranked.rank_n > 0) & (ranked.rank_n <= budget.count)
        return within
    beyond: np.ndarray = rows.eligible & (rows.wishes.keep | (rows.threshold.beyond() & ~ranked.skipped_n))
    return beyond


def _write(
    budget: Budget,
    rows: SelectionRows,
    ranked: RankedRows,
    chosen: np.ndarray,
    provenance: Provenance,
    selected_only: bool,
) -> None:
    n_written = int(np.count_nonzero(chosen)) if selected_only else len(chosen)
    made = dataclasses.replace(
        provenance,
        parameters={**provenance.parameters, **budget.stated},
        rows={**provenance.rows, "rows_out": n_written},
    )
    batches = selection_batches(rows, ranked, chosen, selected_only)
    metadata = rows.scores.sources[0].schema.metadata
    write_batches(budget.output, selection_schema(rows, ranked), batches, made, metadata)


def _tell_extras(extras: Sequence[Extra], budgets: Sequence[Budget], outcome: Outcome) -> None:
    """Print the figures of each budget, and how they were computed."""
    names = list(extras[0].figures)
    rows = [["budget", *names]]
    for budget, extra in zip(budgets, extras, strict=True):
        rows.append([budget.shown(), *(f"{extra.figures[name]:,.6g}" for name in names)])
    outcome.tables[f"figures: {extras[0].way}"] = rows
    outcome.summary["way"] = extras[0].way


def _tell_curve(curve: Curve, outputs: Outputs, plot: bool, provenance: Provenance, outcome: Outcome) -> None:
    """Write the curve beside the selections, draw it where that is wanted, and print the best of each budget."""
    budgets, path = outputs.budgets, outputs.curve
    n_rows = provenance.rows["rows_in"]
    counts = np.array([budget.count for budget in budgets])[curve.budget]
    unknown = np.isnan(curve.start)
    table = pa.table(
        {
            "fraction": pa.array(counts / n_rows, pa.float64()),
            "count": pa.array(counts, pa.int64()),
            "method": pa.array(list(curve.name), pa.string()),
            "start": pa.array(curve.start, pa.float64(), mask=unknown),
            "window_start": pa.array(curve.window_start, pa.int64(), mask=curve.window_start < 0),
            "proxy_accuracy": pa.array(curve.proxy_accuracy, pa.float64()),
            "best": pa.array(curve.best),
        }
    )
    rows = [["budget", "best start" if not unknown.any() else "best method", "proxy accuracy", "worst", "trials"]]
    best_starts = []
    for number, budget in enumerate(budgets):
        mine = np.flatnonzero(curve.budget == number)
        best = int(mine[curve.best[mine]][0])
        start = curve.name[best] if unknown[best] else f"{curve.start[best]:.3g}"
        accuracy = curve.proxy_accuracy
        rows.append([budget.shown(), start, f"{accuracy[best]:.4f}", f"{accuracy[mine].min():.4f}", str(len(mine))])
        best_starts.append(
            {**budget.stated, "method": curve.name[best], "proxy_accuracy": float(accuracy[best])}
            | ({} if unknown[best] else {"start": float(curve.start[best])})
        )
    outcome.tables["best"] = rows
    outcome.summary["best"] = best_starts
    if path is None:
        outcome.warnings.append("standard output is one file: the curve is not written (name a file with -o)")
        return
    write_table(path, table, dataclasses.replace(provenance, rows={**provenance.rows, "rows_out": len(table)}))
    outcome.summary["curve"] = path
    if plot:
        picture = beside(path, ".png")
        write_plot(curve_plot(table.to_pylist(), "curve", "what was tried").plot, picture)
        outcome.summary["plot"] = picture
