"""Several manifests of the same samples, joined by id: of scores, and of selections."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import ID, MISSING, ClassValue, Labels, canonical_order, locate, read_labels
from prune_cli.io.ids.rows import RowIds
from prune_cli.io.manifests.selection import Selection, read_selection
from prune_cli.io.parquet.provenance import InputFile, read_provenance
from prune_cli.io.parquet.tables import ROW_GROUP_ROWS, ParquetSource, cast_whole, regrouped
from prune_cli.io.stores.locations import STDIN, name_of


class Joined:
    """Score manifests as one: the rows of the first, in its order, with the columns of all.

    Args:
        locations: the files; each has the same ids, in any order.
        id_column, label_column: names of the columns; labels are those of the first file that has any.
    Raises:
        InputError: an id that one of them has and another has not, a column that two of them have, labels that differ.
    """

    def __init__(self, locations: Sequence[str], *, id_column: str = ID, label_column: str = "label") -> None:
        self.sources = [ParquetSource(location) for location in locations]
        self.id_column, self.label_column = id_column, label_column
        self.ids = RowIds(self.sources[0], id_column)
        if not len(self.ids):
            raise InputError(f"{locations[0]} has no rows", "check the file")
        self.fields: dict[str, pa.Field] = {}
        self._source_of: dict[str, int] = {}
        for number, source in enumerate(self.sources):
            for field in source.schema:
                if field.name in {id_column, label_column}:
                    continue
                if field.name in self.fields:
                    first = self.sources[self._source_of[field.name]].location
                    raise InputError(
                        f"{first} and {source.location} both have a column '{field.name}'",
                        "leave one of the files out, or rename the column",
                    )
                self.fields[field.name] = field
                self._source_of[field.name] = number

    def match(self, memory: int) -> None:
        """Sort the ids of all files and join them; without it that is done when it is first needed, in as much memory as it wants.

        Args:
            memory: bytes that sorting and looking up may take beside arrays by position.
        Raises:
            InputError: see `rows`.
        """
        self.ids.memory = memory
        _ = self.rows

    @cached_property
    def rows(self) -> list[np.ndarray | None]:
        """For every file the row of each id, or None where it has them in the order of the first.

        Raises:
            InputError: an id that is not in all files, stands twice, or is null.
        """
        _ = self.ids.order_n
        return [None, *(self._match(source) for source in self.sources[1:])]

    def _match(self, source: ParquetSource) -> np.ndarray | None:
        theirs = RowIds(source, self.id_column, self.ids.memory)
        if theirs.made_up or self.ids.made_up:
            raise InputError("files are joined by id, and one of them has no column of ids", "name it with --id-column")
        rows = self.ids.rows_in(theirs)
        if len(theirs) != len(self.ids):
            theirs.rows_in(self.ids)
        return rows

    def other_bytes(self) -> int:
        """Return about how much memory a row takes of the columns that are in other files than the first."""
        found = 0
        for name, number in self._source_of.items():
            if number:
                kind = self.fields[name].type
                source = self.sources[number]
                fixed = pa.types.is_primitive(kind)
                stored = source.nbytes // source.rows if source.rows else 0
                found += max(1, kind.bit_width // 8) if fixed else max(32, 4 * stored)
        return found

    @property
    def location(self) -> str:
        """What to call it in a message."""
        return " + ".join(source.location for source in self.sources)

    @property
    def stem(self) -> str:
        """Name that default outputs are made from: that of the first file."""
        return self.sources[0].stem

    @property
    def inputs(self) -> tuple[InputFile, ...]:
        """Name and SHA-256 of each file."""
        return tuple(file for source in self.sources for file in source.inputs)

    @cached_property
    def labels(self) -> Labels | None:
        """The labels, as codes of the smallest type, or None where no file has any."""
        found: Labels | None = None
        for source, rows in zip(self.sources, self.rows, strict=True):
            if self.label_column not in source.schema.names:
                continue
            labels = read_labels(source, self.label_column, compact=True)
            labels = labels if rows is None else labels.take(rows)
            if found is None:
                found = labels
                continue
            differ = np.flatnonzero(labels.recoded(found.classes, found.names, source.location).codes_n != found.codes_n)
            if len(differ):
                one = self.ids.take(differ[:1])[0]
                raise InputError(
                    f"{len(differ)} label(s) of {source.location} are not those of {self.location}, such as that of {one}",
                    "use files of the same dataset, with the same labels",
                )
        return found

    @cached_property
    def directions(self) -> dict[str, str]:
        """Score column -> ``harder`` or ``easier``, as the files say."""
        found: dict[str, str] = {}
        for source in self.sources:
            found |= (read_provenance(source.schema) or {}).get("score_direction", {})
        return {name: direction for name, direction in found.items() if name in self.fields}

    def schema(self) -> pa.Schema:
        """Return the columns of `batches`: ``id``, ``label`` where there are labels, and those of all files."""
        columns = {ID: self.ids.type, **({"label": self.labels.type} if self.labels is not None else {})}
        return pa.schema(columns | {name: field.type for name, field in self.fields.items()})

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows with all columns, in pieces as the first file is read."""
        schema, sizes_of = self.schema(), itertools.tee(self._sizes(), 2 + len(self.fields))
        columns = [self._cut(name, sizes) for name, sizes in zip(self.fields, sizes_of[2:], strict=True)]
        start = 0
        for ids, size in zip(regrouped(self.ids.read(), sizes_of[0]), sizes_of[1], strict=False):
            part = [self.labels.take(slice(start, start + size)).values()] if self.labels is not None else []
            start += size
            yield pa.RecordBatch.from_arrays([ids, *part, *(next(column) for column in columns)], schema=schema)

    def _sizes(self) -> Iterator[int]:
        """Yield how many rows a batch has: as many as the columns of the first file come in, if it has any."""
        first = [name for name, number in self._source_of.items() if not number]
        if not first:
            return itertools.repeat(ROW_GROUP_ROWS)
        return (len(batch) for batch in self.sources[0].batches(first[:1]))

    def _cut(self, name: str, sizes: Iterator[int]) -> Iterator[pa.Array]:
        """Yield a column in pieces; where the file has the rows in another order it is held as a whole."""
        number = self._source_of[name]
        source, rows = self.sources[number], self.rows[number]
        if not number or (rows is None and not pa.types.is_dictionary(self.fields[name].type)):
            yield from regrouped((batch.column(0) for batch in source.batches([name])), sizes)
            return
        column, done = source.read([name]).column(0).combine_chunks(), 0
        for size in sizes:
            here = rows[done : done + size] if rows is not None else np.arange(done, min(done + size, len(column)))
            if not len(here):
                return
            yield column.take(pa.array(here))
            done += size

    def numbers(self, name: str) -> np.ndarray:
        """Return a column of numbers as (N,) float64, in the order of the ids, NaN where null."""
        number = self._source_of[name]
        values_n, done = np.empty(len(self.ids)), 0
        for batch in self.sources[number].batches([name], ROW_GROUP_ROWS):
            column = cast_whole(batch.column(0), pa.float64(), self.sources[number].location, name).fill_null(np.nan)
            values_n[done : done + len(column)] = column.to_numpy()
            done += len(column)
        rows = self.rows[number]
        return values_n if rows is None else values_n[rows]


class JoinedSelections:
    """F selection manifests as arrays of the same N rows.

    A manifest that names rows that are out is whole: all whole ones must have the same ids, and the rows are those of the first,
    in its order. One that holds kept rows alone (``--selected-only``) may name any part of these. Where none is whole, the rows
    are all that are named, in the order in which they first are.

    Args:
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
        labeled = [(s, s.labels, rows) for s, rows in zip(self.selections, self._rows_f, strict=True) if s.labels is not None]
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
