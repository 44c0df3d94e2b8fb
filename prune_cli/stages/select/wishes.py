"""What the user says of single rows before a method chooses: which must be kept, and in which order, and which must not be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import canonical_order, some
from prune_cli.io.manifests.joined import Joined
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.manifests.selection import Selection, read_listed, read_selection
from prune_cli.io.parquet.provenance import InputFile, hash_file
from prune_cli.stages.select.options import SelectOptions


@dataclass(frozen=True)
class Wishes:
    """Rows that must be kept or dropped, by position.

    Args:
        keep, drop: (N,) bool, never both.
        keeper: what keeps the rows, for messages: ``--keep FILE names``.
        before: the selection that is topped up, or None; its kept rows are those of ``keep``.
        place_n: (N,) int64 place of each of these in the order of that selection, 1 = first, 0 = not kept; None without it.
        weight_n: (N,) float64 weights of these, NaN where there is none; None where it has no weights.
        inputs: the files.
        notes: what the user should know.
    """

    keep: np.ndarray
    drop: np.ndarray
    keeper: str
    before: Selection | None = None
    place_n: np.ndarray | None = None
    weight_n: np.ndarray | None = None
    inputs: tuple[InputFile, ...] = ()
    notes: tuple[str, ...] = ()

    def check(self, scores: Joined) -> None:
        """Raise where a row must be both kept and dropped."""
        both = self.keep & self.drop
        if both.any():
            kept = f"are kept by {self.before.location}" if self.before is not None else "are in --keep"
            raise InputError(
                f"{int(both.sum())} id(s) {kept} and in --drop, such as {scores.ids.take([both.argmax()])[0]}",
                "take them out of one",
            )

    def check_kept(self, ledger: Ledger, scores: Joined) -> None:
        """Raise where a row of the selection that is topped up cannot be kept; of ``--keep`` such rows are told later."""
        if self.before is None:
            return
        lost = np.flatnonzero(self.keep & ~ledger.good(len(scores.ids)))
        if len(lost):
            raise InputError(
                f"{len(lost)} row(s) that {self.before.location} keeps have no score or vector in {scores.location}: "
                f"{some(scores.ids.take(lost[:6]))}",
                "score them: rows that were kept stay kept",
            )


def read_wishes(options: SelectOptions, scores: Joined) -> Wishes:
    """Return what the options say of single rows.

    Raises:
        InputError: an id that has no score, or one that must be both kept and dropped.
    """
    drop = read_listed(options.drop, scores.ids, scores.location)
    listed = tuple(hash_file(file) for file in (options.keep, options.drop) if file is not None)
    if options.before is None:
        keep = read_listed(options.keep, scores.ids, scores.location)
        wishes = Wishes(keep, drop, f"--keep {options.keep} names", inputs=listed)
    else:
        before = read_selection(options.before, id_column=options.id_column, label_column=options.label_column)
        wishes = _topping_up(before, scores, drop, listed)
    wishes.check(scores)
    return wishes


def _topping_up(before: Selection, scores: Joined, drop: np.ndarray, listed: tuple[InputFile, ...]) -> Wishes:
    kept = np.flatnonzero(before.selected_n)
    if not len(kept):
        raise InputError(f"{before.location} keeps no row", "select anew: prune select")
    by_id = np.empty(len(before.ids), np.int64)
    by_id[canonical_order(before.ids)] = np.arange(len(before.ids))
    ranks = np.where(before.rank_n[kept] > 0, before.rank_n[kept], np.iinfo(np.int64).max)
    order = kept[np.lexsort((by_id[kept], ranks))]
    notes = []
    try:
        rows = scores.ids.locate(before.ids.take(pa.array(order)), before.location, scores.location)
    except InputError as error:
        raise InputError(error.message, "score old and new rows together: prune score of all the data") from None
    gone = int(np.count_nonzero(scores.ids.find(before.ids) < 0))
    if gone:
        notes.append(
            f"{gone:,} row(s) that {before.location} leaves out are not in {scores.location}, nor in the result"
        )
    place_n = np.zeros(len(scores.ids), np.int64)
    place_n[rows] = np.arange(1, len(rows) + 1)
    weight_n = None
    if before.weight_n is not None:
        weight_n = np.full(len(scores.ids), np.nan)
        weight_n[rows] = before.weight_n[order]
        notes.append("rows that are added have no weight")
    if not np.array_equal(before.rank_n[order], np.arange(1, len(order) + 1)):
        notes.append(
            f"ranks in {before.location} have gaps or are missing: its rows keep their order and are ranked anew"
        )
    return Wishes(
        place_n > 0, drop, f"{before.location} keeps", before, place_n, weight_n,
        (*before.source.inputs, *listed), tuple(notes),
    )  # fmt: skip
