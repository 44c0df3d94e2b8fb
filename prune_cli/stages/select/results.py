"""What came of a selection: its manifests, a rank and a reason for every row, and what the outcome says of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.sorting import position_type
from prune_cli.io.ids.columns import ID, Labels
from prune_cli.io.manifests.selection import WEIGHT
from prune_cli.io.pages.drawing import write_plot
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import ROW_GROUP_ROWS, regrouped, write_batches, write_table
from prune_cli.io.stores.locations import beside
from prune_cli.methods.selection.contract import Choice, Curve, Extra, Ranking
from prune_cli.stages.frame.outcome import Outcome
from prune_cli.stages.select.eligible import EligibleRows
from prune_cli.stages.select.inputs import SelectionRows
from prune_cli.stages.select.outputs import Outputs, curve_plot
from prune_cli.stages.select.request import Budget, Request


@dataclass(frozen=True)
class RankedRows:
    """What one budget says of every row.

    Args:
        rank_n: (N,) int32 where that is enough, 1 = kept first, 0 = none.
        reason_n: (N,) int8 why a row is out that is not chosen, a place in ``reasons``.
        reasons: texts.
        columns: numbers of every row, each (N,) float64, NaN or masked where there is none: name -> numbers, rows that have one.
    """

    rank_n: np.ndarray
    reason_n: np.ndarray
    reasons: tuple[str, ...]
    columns: dict[str, tuple[np.ndarray, np.ndarray]]


_BEYOND, _SKIPPED, _BAD, _DROPPED = range(4)


def ranked_rows(rows: SelectionRows, eligible: EligibleRows, ranking: Ranking, limit: int | None, extra: Extra | None = None) -> RankedRows:
    """Return what the manifest says of every row, but for what is selected.

    Args:
        eligible: those that can be kept; of these the ones kept already come first, by id or in the order of the selection that is topped
            up.
        limit: how far its order goes, or None for all of it.
        extra: what else it says of the rows.
    """
    n_rows, candidates = len(rows.scores.ids), eligible.candidates
    rank_n = np.zeros(n_rows, position_type(n_rows))
    done = 0
    if candidates.kept_n is not None:
        kept = eligible.rows_of(candidates.order_n[candidates.kept_n[candidates.order_n]])
        if rows.wishes.place_n is not None:
            kept = kept[np.argsort(rows.wishes.place_n[kept])]
        done = len(kept)
        rank_n[kept] = np.arange(1, done + 1, dtype=rank_n.dtype)
    chosen = ranking.order_n[:limit]
    rank_n[eligible.rows_of(chosen)] = np.arange(done + 1, done + len(chosen) + 1, dtype=rank_n.dtype)
    reason_n = np.full(n_rows, _BEYOND, np.int8)
    reason_n[eligible.rows_of(ranking.order_n[len(ranking.order_n) - ranking.skipped :])] = _SKIPPED
    reason_n[~rows.good] = _BAD
    reason_n[rows.wishes.drop] = _DROPPED
    columns: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    if ranking.gain_n is not None:
        gains, ranked = np.zeros(n_rows), np.zeros(n_rows, bool)
        gains[eligible.rows_of(ranking.order_n)] = ranking.gain_n
        ranked[eligible.rows_of(ranking.order_n)] = True
        columns["gain"] = gains, ranked
    for name, values_m in extra.columns.items() if extra is not None else ():
        values_n = np.full(n_rows, np.nan)
        values_n[eligible.place] = values_m
        columns[name] = values_n, ~np.isnan(values_n)
    bad = "no score or vector" if rows.features is not None else "no score"
    return RankedRows(rank_n, reason_n, (ranking.reason, ranking.skipped_reason, bad, "dropped by --drop"), columns)


def selection_schema(rows: SelectionRows, ranked: RankedRows) -> pa.Schema:
    """Return the columns of a selection manifest."""
    columns = {ID: rows.scores.ids.type}
    if rows.scores.labels is not None:
        columns["label"] = rows.scores.labels.type
    columns |= {"selected": pa.bool_(), "rank": pa.int64()}
    weighed = rows.wishes.weight_n is not None
    numbers = [*(["score"] if rows.key is not None else []), *ranked.columns, *([WEIGHT] if weighed else [])]
    return pa.schema(columns | dict.fromkeys(numbers, pa.float64()) | {"reason": pa.string()})


def selection_batches(rows: SelectionRows, ranked: RankedRows, chosen: np.ndarray, selected_only: bool) -> Iterator[pa.RecordBatch]:
    """Yield a selection manifest by row group, as it is written; a row that is selected has no reason to be out.

    Args:
        chosen: (N,) bool, which are selected.
    """
    schema = selection_schema(rows, ranked)
    reasons = pa.array(ranked.reasons, pa.string())
    for here, ids in _written(rows, chosen, selected_only):
        rank, out = ranked.rank_n[here], ~chosen[here]
        columns = [ids]
        if rows.scores.labels is not None:
            columns.append(rows.scores.labels.take(here).values())
        columns += [pa.array(~out), pa.array(rank, pa.int64(), mask=rank == 0)]
        if rows.key is not None:
            score = rows.key.values_n[here]
            columns.append(pa.array(score, pa.float64(), mask=~np.isfinite(score)))
        columns += [pa.array(values[here], pa.float64(), mask=~there[here]) for values, there in ranked.columns.values()]
        if rows.wishes.weight_n is not None:
            weight = rows.wishes.weight_n[here]
            columns.append(pa.array(weight, pa.float64(), mask=np.isnan(weight)))
        columns.append(reasons.take(pa.array(ranked.reason_n[here], mask=~out)))
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _written(rows: SelectionRows, chosen: np.ndarray, selected_only: bool) -> Iterator[tuple[slice | np.ndarray, pa.Array]]:
    """Yield which rows are written, so many at a time as a row group has, and their ids."""
    if not selected_only:
        start = 0
        for ids in regrouped(rows.scores.ids.read(), itertools.repeat(ROW_GROUP_ROWS)):
            yield slice(start, start + len(ids)), ids
            start += len(ids)
        return
    kept, done = np.flatnonzero(chosen).astype(position_type(len(chosen))), 0
    for ids in regrouped(_filtered(rows.scores.ids.read(), chosen), itertools.repeat(ROW_GROUP_ROWS)):
        yield kept[done : done + len(ids)], ids
        done += len(ids)


def _filtered(arrays: Iterable[pa.Array], wanted: np.ndarray) -> Iterator[pa.Array]:
    start = 0
    for array in arrays:
        yield array.filter(pa.array(wanted[start : start + len(array)]))
        start += len(array)


def write_results(
    request: Request,
    rows: SelectionRows,
    eligible: EligibleRows,
    choice: Choice,
    outputs: Outputs,
    provenance: Provenance,
    outcome: Outcome,
) -> None:
    """Write a manifest for each budget, and the curve of what was tried; the outcome is told of them."""
    options, key, tie = request.options, rows.key, rows.tie
    outcome.tables["kept"] = [["budget", "rows kept", "of", "share", "file"]]
    files = []
    for number, budget in enumerate(outputs.budgets):
        extra = choice.extras[number] if choice.extras else None
        limit = None if request.method.nested else budget.count - eligible.kept
        ranked = ranked_rows(rows, eligible, choice.rankings[number], limit, extra)
        chosen = _chosen(rows, ranked, budget)
        kept = int(np.count_nonzero(chosen))
        parameters = {**provenance.parameters, **budget.stated}
        counts = {**provenance.rows, "rows_out": kept if options.selected_only else len(chosen)}
        made = dataclasses.replace(provenance, parameters=parameters, rows=counts)
        batches = selection_batches(rows, ranked, chosen, options.selected_only)
        write_batches(budget.output, selection_schema(rows, ranked), batches, made, rows.scores.sources[0].schema.metadata)
        figures: dict[str, Any] = {"rows_kept_before": eligible.kept} if options.before is not None else {}
        figures |= extra.figures if extra is not None else {}
        files.append({"output": budget.output, **budget.stated, "rows_kept": kept, **figures})
        if short := _classes_short(rows.scores.labels, rows.eligible, chosen):
            files[-1]["classes_short"] = short
            outcome.warnings.append(_short_in_words(budget.shown(), short, rows.per_class))
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


_LEAST_SHARE = 1 / 3
"""A class that keeps less than this part of its share is named."""


def _classes_short(labels: Labels | None, eligible: np.ndarray, chosen: np.ndarray) -> list[dict[str, Any]]:
    """Return the classes that a selection loses, or keeps at under a third of their share: name, rows kept, rows of that share."""
    if labels is None or not (kept := np.count_nonzero(chosen)):
        return []
    n_classes = len(labels.classes)
    there_c, kept_c = (np.bincount(labels.codes_n[rows & (labels.codes_n >= 0)], minlength=n_classes) for rows in (eligible, chosen))
    share_c = kept * there_c / max(1, int(there_c.sum()))
    lost_c = (kept_c == 0) & (there_c > 0) & (kept >= np.count_nonzero(there_c))
    names = labels.display_names()
    return [
        {"class": names[code], "kept": int(kept_c[code]), "share": round(float(share_c[code]), 1)}
        for code in np.flatnonzero(lost_c | (kept_c < _LEAST_SHARE * share_c))
    ]


def _short_in_words(budget: str, short: Sequence[Mapping[str, Any]], per_class: bool) -> str:
    lost = sum(not one["kept"] for one in short)
    shown = ", ".join(f"{one['class']} {one['kept']:,} of {one['share']:,.0f}" for one in short[:5])
    more = f" and {len(short) - 5} more" if len(short) > 5 else ""
    cure = "" if per_class else "; --per-class keeps the share of each"
    return f"{budget}: {lost} class(es) lost, {len(short) - lost} kept at under a third of their share ({shown}{more}){cure}"


def _chosen(rows: SelectionRows, ranked: RankedRows, budget: Budget) -> np.ndarray:
    """Return (N,) bool, which rows a budget keeps."""
    if rows.threshold is None:
        within: np.ndarray = (ranked.rank_n > 0) & (ranked.rank_n <= budget.count)
        return within
    beyond: np.ndarray = rows.eligible & (rows.wishes.keep | (rows.threshold.beyond() & (ranked.reason_n != _SKIPPED)))
    return beyond


def _tell_extras(extras: Sequence[Extra], budgets: Sequence[Budget], outcome: Outcome) -> None:
    """Print the figures of each budget, and how they were computed."""
    names = list(extras[0].figures)
    told = zip(budgets, extras, strict=True)
    rows = [[budget.shown(), *(f"{extra.figures[name]:,.6g}" for name in names)] for budget, extra in told]
    outcome.tables[f"figures: {extras[0].way}"] = [["budget", *names], *rows]
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
    rows[0] += ["random"] if curve.random_accuracy else []
    best_starts = []
    for number, budget in enumerate(budgets):
        mine = np.flatnonzero(curve.budget == number)
        best = int(mine[curve.best[mine]][0])
        start = curve.name[best] if unknown[best] else f"{curve.start[best]:.3g}"
        accuracy = curve.proxy_accuracy
        row = [budget.shown(), start, f"{accuracy[best]:.4f}", f"{accuracy[mine].min():.4f}", str(len(mine))]
        told = {**budget.stated, "method": curve.name[best], "proxy_accuracy": float(accuracy[best])}
        told |= {} if unknown[best] else {"start": float(curve.start[best])}
        if curve.random_accuracy:
            drawn = curve.random_accuracy[number]
            told |= {"random_proxy_accuracy": float(drawn.mean()), "random_proxy_accuracies": drawn.tolist()}
            row.append(f"{drawn.mean():.4f}")
            if drawn.mean() > accuracy[best]:
                outcome.warnings.append(
                    f"{budget.shown()}: the proxy learns more from class-balanced random rows ({drawn.mean():.2%} right) than from the "
                    f"best {curve.name[best]} ({accuracy[best]:.2%}); prefer --method random --per-class there"
                )
        rows.append(row)
        best_starts.append(told)
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
