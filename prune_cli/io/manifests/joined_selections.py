"""Several selection manifests of the same samples, joined by id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import ID, MISSING, ClassValue, Labels, canonical_order, locate
from prune_cli.io.manifests.selection import Selection, read_selection
from prune_cli.io.parquet.provenance import InputFile
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.stores.locations import STDIN, name_of


class JoinedSelections:
    """F selection manifests as arrays of the same N rows.

    A manifest that names rows that are out is whole: all whole ones must have the same ids, and the rows are those of the first,
    in its order. One that holds kept rows alone (``--selected-only``) may name any part of these. Where none is whole, the rows
    are all that are named, in the order in which they first are.

    Args:
        locations: the files.
        id_column, label_column: names of the columns.
    Raises:
        InputError: an id that one has and another has not, as told above; see `read_selection`.
    """

    def __init__(self, locations: Sequence[str], *, id_column: str = ID, label_column: str = "label") -> None:
        self.selections = [read_selection(f, id_column=id_column, label_column=label_column) for f in locations]
        self._base = next((s for s in self.selections if s.whole), None)
        self.ids = self._base.ids if self._base is not None else _all_ids(self.selections)
        self._rows_f = [self._match(selection) for selection in self.selections]
        n_files, n_rows = len(self.selections), len(self.ids)
        self.selected_fn = np.zeros((n_files, n_rows), bool)
        self.rank_fn = np.zeros((n_files, n_rows), np.int64)
        for number, (selection, rows) in enumerate(zip(self.selections, self._rows_f, strict=True)):
            self.selected_fn[number, rows] = selection.selected_n
            self.rank_fn[number, rows] = selection.rank_n

    def _match(self, selection: Selection) -> np.ndarray:
        """Return the row of each id of a selection."""
        base = self._base
        if base is None:
            return locate(selection.ids, self.ids, selection.location, "all files")
        rows = locate(selection.ids, base.ids, selection.location, base.location)
        if selection.whole and len(selection.ids) != len(base.ids):
            locate(base.ids, selection.ids, base.location, selection.location)
        return rows

    @property
    def whole(self) -> bool:
        """Whether any file names rows that are out."""
        return self._base is not None

    @property
    def source(self) -> ParquetSource:
        """The file whose rows these are: what it says of its classes holds for all."""
        return (self._base or self.selections[0]).source

    @property
    def inputs(self) -> tuple[InputFile, ...]:
        """Name and SHA-256 of each file."""
        return tuple(file for selection in self.selections for file in selection.source.inputs)

    @cached_property
    def names(self) -> list[str]:
        """What to call each file in a row's reason: its name without folder, with its number where two are called the same."""
        names = ["standard input" if s.location == STDIN else name_of(s.location) for s in self.selections]
        often = Counter(names)
        return [f"{name} (file {n})" if often[name] > 1 else name for n, name in enumerate(names, start=1)]

    @cached_property
    def place_n(self) -> np.ndarray:
        """(N,) int64 place of each row in ascending order of the ids."""
        places = np.empty(len(self.ids), np.int64)
        places[canonical_order(self.ids)] = np.arange(len(self.ids))
        return places

    @cached_property
    def labels(self) -> Labels | None:
        """The labels, or None where no file has any; each row's are of the first file that has one for it.

        Raises:
            InputError: labels of a row that differ.
        """
        labeled = [
            (s, s.labels, rows) for s, rows in zip(self.selections, self._rows_f, strict=True) if s.labels is not None
        ]
        if not labeled:
            return None
        named = next((labels for _, labels, _ in labeled if labels.names is not None), None)
        first = named or labeled[0][1]
        classes = named.classes if named else _all_classes([labels for _, labels, _ in labeled])
        names = named.names if named else None
        codes_n = np.full(len(self.ids), MISSING, np.int64)
        for selection, labels, rows in labeled:
            codes = labels.recoded(classes, names, selection.location).codes_n
            before = codes_n[rows]
            differ = np.flatnonzero((codes != before) & (codes >= 0) & (before >= 0))
            if len(differ):
                raise InputError(
                    f"{len(differ)} label(s) of {selection.location} are not those of the files before it, such as that of "
                    f"{self.ids[int(rows[differ[0]])]}",
                    "use selections of the same data, with the same labels",
                )
            codes_n[rows] = np.where(codes >= 0, codes, before)
        return Labels(codes_n, classes, names, first.type)

    def weights(self, wanted_n: np.ndarray) -> tuple[np.ndarray | None, int]:
        """Return the weights of some rows, where all selections that keep a row agree on its weight.

        Args:
            wanted_n: (N,) bool.
        Returns:
            (N,) float64, NaN where there is none, or None where a file has no weights or two differ; and how many rows differ.
        """
        weights = np.full(len(self.ids), np.nan)
        told, differ = np.zeros(len(self.ids), bool), np.zeros(len(self.ids), bool)
        for selection, rows in zip(self.selections, self._rows_f, strict=True):
            here = rows[selection.selected_n & wanted_n[rows]]
            if not len(here):
                continue
            if selection.weight_n is None:
                return None, 0
            mine = selection.weight_n[selection.selected_n & wanted_n[rows]]
            before = weights[here]
            differ[here] |= told[here] & (mine != before) & ~(np.isnan(mine) & np.isnan(before))
            weights[here] = np.where(told[here], before, mine)
            told[here] = True
        count = int(differ.sum())
        return (None if count or not told.any() else weights), count


def _all_ids(selections: Sequence[Selection]) -> pa.Array:
    kinds = {selection.ids.type for selection in selections}
    parts = [s.ids if len(kinds) == 1 else s.ids.cast(pa.string()) for s in selections]
    return pc.unique(pa.concat_arrays(parts))


def _all_classes(labels: Sequence[Labels]) -> tuple[ClassValue, ...]:
    found = {value for one in labels for value in one.classes}
    if len({type(value) for value in found}) > 1:  # numbers here, texts there: told where they meet
        return labels[0].classes
    return tuple(sorted(found, key=lambda value: value))
