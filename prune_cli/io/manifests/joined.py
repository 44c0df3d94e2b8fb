"""Several manifests of the same samples, joined by id."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import ID, Labels, read_labels
from prune_cli.io.ids.rows import RowIds
from prune_cli.io.parquet.provenance import InputFile, read_provenance
from prune_cli.io.parquet.regrouping import regrouped
from prune_cli.io.parquet.tables import ROW_GROUP_ROWS, ParquetSource


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
            differ = np.flatnonzero(
                labels.recoded(found.classes, found.names, source.location).codes_n != found.codes_n
            )
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
        number = self._source_of[name]
        source, rows = self.sources[number], self.rows[number]
        if not number or (rows is None and not pa.types.is_dictionary(self.fields[name].type)):
            return regrouped((batch.column(0) for batch in source.batches([name])), sizes)
        return self._in_other_order(name, sizes)

    def _in_other_order(self, name: str, sizes: Iterator[int]) -> Iterator[pa.Array]:
        """Yield a column of a file that has the rows in another order: it is held as a whole."""
        number = self._source_of[name]
        column, rows, done = self.sources[number].read([name]).column(0).combine_chunks(), self.rows[number], 0
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
            column = batch.column(0).cast(pa.float64()).fill_null(np.nan)
            values_n[done : done + len(column)] = column.to_numpy()
            done += len(column)
        rows = self.rows[number]
        return values_n if rows is None else values_n[rows]
