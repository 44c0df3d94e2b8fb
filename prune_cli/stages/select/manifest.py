"""The manifest that a selection is written as: a rank, and a reason for every row that is out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from prune_cli.core.sorting import position_type
from prune_cli.io.ids.columns import ID
from prune_cli.io.manifests.selection import WEIGHT
from prune_cli.io.parquet.regrouping import regrouped
from prune_cli.io.parquet.tables import ROW_GROUP_ROWS
from prune_cli.methods.selection.contract import Extra, Ranking
from prune_cli.stages.select.eligible import EligibleRows
from prune_cli.stages.select.inputs import SelectionRows


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

    @property
    def skipped_n(self) -> np.ndarray:
        """(N,) bool, rows that the method skips."""
        skipped: np.ndarray = self.reason_n == _SKIPPED
        return skipped


_BEYOND, _SKIPPED, _BAD, _DROPPED = range(4)


def ranked_rows(
    rows: SelectionRows, eligible: EligibleRows, ranking: Ranking, limit: int | None, extra: Extra | None = None
) -> RankedRows:
    """Return what the manifest says of every row, but for what is selected.

    Args:
        rows: all rows.
        eligible: those that can be kept; of these the ones kept already come first, by id or in the order of the selection that is topped
            up.
        ranking: the method's answer.
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


def selection_batches(
    rows: SelectionRows, ranked: RankedRows, chosen: np.ndarray, selected_only: bool
) -> Iterator[pa.RecordBatch]:
    """Yield a selection manifest by row group, as it is written; a row that is selected has no reason to be out.

    Args:
        rows, ranked: what is known of all rows.
        chosen: (N,) bool, which are selected.
        selected_only: leave the others out.
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
        columns += [
            pa.array(values[here], pa.float64(), mask=~there[here]) for values, there in ranked.columns.values()
        ]
        if rows.wishes.weight_n is not None:
            weight = rows.wishes.weight_n[here]
            columns.append(pa.array(weight, pa.float64(), mask=np.isnan(weight)))
        columns.append(reasons.take(pa.array(ranked.reason_n[here], mask=~out)))
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _written(
    rows: SelectionRows, chosen: np.ndarray, selected_only: bool
) -> Iterator[tuple[slice | np.ndarray, pa.Array]]:
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
