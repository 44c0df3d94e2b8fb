"""What a selection is written as: the manifest with a reason for every row, and the curve of what was tried."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from prune_cli.io.columns import ID
from prune_cli.io.drawing import write_plot
from prune_cli.io.features import FeatureFile
from prune_cli.io.joined import Joined
from prune_cli.io.locations import beside
from prune_cli.io.provenance import Provenance
from prune_cli.io.selection import WEIGHT
from prune_cli.io.tables import write_table
from prune_cli.methods.selection.candidates import Candidates, Curve, Extra, Ranking
from prune_cli.stages.budgets import Budget
from prune_cli.stages.curve_plots import curve_plot
from prune_cli.stages.outcome import Outcome
from prune_cli.stages.score_key import Key
from prune_cli.stages.wishes import Wishes


@dataclass(frozen=True)
class SelectionRows:
    """The rows to choose from, by position: what is known of each, and what the user said of it.

    Args:
        scores: ids, labels and scores.
        key, tie: the score the selection goes by and the one that breaks its ties, or None.
        features: where the vectors are, or None.
        probabilities: where the probabilities are, or None.
        good: (N,) bool, rows with all that is needed.
        wishes: rows that the user wants kept or dropped.
    """

    scores: Joined
    key: Key | None
    tie: Key | None
    features: FeatureFile | None
    probabilities: FeatureFile | None
    good: np.ndarray
    wishes: Wishes

    @property
    def eligible(self) -> np.ndarray:
        """(N,) bool, rows that can be kept."""
        rows: np.ndarray = self.good & ~self.wishes.drop
        return rows


def ranked_table(
    rows: SelectionRows,
    positions: np.ndarray,
    candidates: Candidates,
    ranking: Ranking,
    limit: int | None,
    extra: Extra | None = None,
) -> tuple[pa.Table, np.ndarray]:
    """Return the manifest but for what is selected, and (N,) bool of the rows that have a rank.

    Args:
        rows: all rows.
        positions: (M,) the rows that the candidates are.
        candidates: as the method saw them; those kept already come first, by id or in the order of the selection that is topped up.
        ranking: the method's answer.
        limit: how far its order goes, or None for all of it.
        extra: what else it says of the rows.
    """
    n_rows = len(rows.scores.ids)
    kept = candidates.order_n[candidates.kept[candidates.order_n]]
    if rows.wishes.place_n is not None:
        kept = kept[np.argsort(rows.wishes.place_n[positions[kept]])]
    order_n = positions[np.concatenate([kept, ranking.order_n[:limit]])]
    rank = np.zeros(n_rows, np.int64)
    rank[order_n] = np.arange(1, len(order_n) + 1)
    reason = np.full(n_rows, ranking.reason, object)
    reason[positions[ranking.order_n[len(ranking.order_n) - ranking.skipped :]]] = ranking.skipped_reason
    reason[~rows.good] = "no score or vector" if rows.features is not None else "no score"
    reason[rows.wishes.drop] = "dropped by --drop"
    columns: dict[str, pa.Array] = {ID: rows.scores.ids}
    if rows.scores.labels is not None:
        columns["label"] = rows.scores.labels.values()
    columns["rank"] = pa.array(rank, pa.int64(), mask=rank == 0)
    if rows.key is not None:
        columns["score"] = pa.array(rows.key.values_n, pa.float64(), mask=~np.isfinite(rows.key.values_n))
    if ranking.gain_n is not None:
        gains = np.zeros(n_rows)
        gains[positions[ranking.order_n]] = ranking.gain_n
        ranked = np.zeros(n_rows, bool)
        ranked[positions[ranking.order_n]] = True
        columns["gain"] = pa.array(gains, pa.float64(), mask=~ranked)
    for name, values_m in extra.columns.items() if extra is not None else ():
        values_n = np.full(n_rows, np.nan)
        values_n[positions] = values_m
        columns[name] = pa.array(values_n, pa.float64(), mask=np.isnan(values_n))
    weight_n = rows.wishes.weight_n
    if weight_n is not None:
        columns[WEIGHT] = pa.array(weight_n, pa.float64(), mask=np.isnan(weight_n))
    columns["reason"] = pa.array(reason, pa.string())
    return pa.table(columns), rank > 0


def with_choice(table: pa.Table, chosen: np.ndarray) -> pa.Table:
    """Return the manifest with what is selected; a row that is has no reason to be out."""
    reasons = pa.array(table["reason"].to_numpy(), pa.string(), mask=chosen)
    at = table.schema.get_field_index("rank")
    table = table.set_column(table.schema.get_field_index("reason"), "reason", reasons)
    return table.add_column(at, "selected", pa.array(chosen))


def tell_extras(extras: Sequence[Extra], budgets: Sequence[Budget], outcome: Outcome) -> None:
    """Print the figures of each budget, and how they were computed."""
    names = list(extras[0].figures)
    rows = [["budget", *names]]
    for budget, extra in zip(budgets, extras, strict=True):
        rows.append([budget.shown(), *(f"{extra.figures[name]:,.6g}" for name in names)])
    outcome.tables[f"figures: {extras[0].way}"] = rows
    outcome.summary["way"] = extras[0].way


def tell_curve(
    curve: Curve, budgets: Sequence[Budget], path: str | None, plot: bool, provenance: Provenance, outcome: Outcome
) -> None:
    """Write the curve beside the selections, draw it where that is wanted, and print the best of each budget."""
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
