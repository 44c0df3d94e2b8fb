"""The ids of a manifest's rows: checked once, and read again where they are wanted instead of being held."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.core.sorting import position_type
from prune_cli.io.ids.columns import ID, as_type, cast_ids, id_type, position_ids, refuse_missing, some
from prune_cli.io.ids.order import held_bytes, id_ranges, in_range, order_of, parts_for, same_ids
from prune_cli.io.parquet.tables import ROW_GROUP_ROWS, ParquetSource, regrouped

MATCH_BYTES = 160
"""Memory of an id beside its own bytes while it is looked for among others: a measured upper bound."""

_PLAIN = 10**8
"""So many made-up ids have as many digits as one another, so that their order is that of the rows."""


class RowIds:
    """The ids of a manifest's rows, unique and not null: strings or int64.

    Args:
        column: name of the ids; without a column ``id`` they are made up, ``row-00000000`` and on.
        memory: bytes that sorting and looking up may take beside arrays by position; None for as many as they want.
    Raises:
        InputError: no such column, or another type.
    """

    def __init__(self, source: ParquetSource, column: str = ID, memory: int | None = None) -> None:
        self.source, self.column, self.memory = source, column, memory
        self.made_up = column not in source.schema.names
        if self.made_up and column != ID:
            source.require(column, "--id-column")
        self.type: pa.DataType = pa.string() if self.made_up else id_type(source, column)

    def __len__(self) -> int:
        return self.source.rows

    @property
    def location(self) -> str:
        """What to call the file in a message."""
        return self.source.location

    def read(self) -> Iterator[pa.Array]:
        """Yield the ids in the order of the rows, a row group's at a time.

        Raises:
            InputError: a null, told when all are read.
        """
        done, nulls, first_null = 0, 0, 0
        if self.made_up:
            for start in range(0, len(self), ROW_GROUP_ROWS):
                yield position_ids(min(len(self), start + ROW_GROUP_ROWS), start)
            return
        for batch in self.source.batches([self.column], ROW_GROUP_ROWS):
            ids = cast_ids(batch.column(0))
            if ids.null_count:
                first_null = first_null if nulls else done + pc.index(ids.is_null(), True).as_py()
                nulls += ids.null_count
                ids = ids.fill_null("" if pa.types.is_string(self.type) else 0)
            done += len(ids)
            yield ids
        if nulls:
            raise InputError(
                f"{self.location}: {nulls} null id(s) in '{self.column}', the first in row {first_null}", "give every row an id"
            )

    @cached_property
    def order_n(self) -> np.ndarray:
        """(N,) positions by ascending id, int32 where that is enough: what ties and random draws go by.

        Raises:
            InputError: a null, or an id that stands twice; names some.
        """
        if self.made_up and len(self) <= _PLAIN:
            return np.arange(len(self), dtype=position_type(len(self)))
        order_n, first_n = order_of(self.read, len(self), self.memory)
        if first_n.all():
            return order_n
        again = np.flatnonzero(~first_n)
        starts = again[first_n[again - 1]] - 1
        ends = np.append(np.flatnonzero(first_n), len(first_n))
        edges = np.stack([starts, ends[np.searchsorted(ends, starts, side="right")]], axis=1).ravel()
        # Named in the order of the file, by the first row that has each.
        rows = np.sort(np.minimum.reduceat(order_n, edges[edges < len(first_n)])[::2])
        raise InputError(
            f"{self.location}: {len(rows)} id(s) stand more than once in '{self.column}': {some(self.take(rows[:6]))}",
            "make the ids unique",
        )

    def take(self, positions: np.ndarray | pa.Array) -> pa.Array:
        """Return the ids of some rows."""
        wanted = np.asarray(positions, np.int64)
        by_row = np.argsort(wanted, kind="stable")
        parts, start, done = [pa.array([], self.type)], 0, 0
        for ids in self.read() if len(wanted) else ():
            until = int(np.searchsorted(wanted[by_row], start + len(ids)))
            parts.append(ids.take(pa.array(wanted[by_row[done:until]] - start)))
            start, done = start + len(ids), until
            if done == len(wanted):
                break
        place = np.empty(len(wanted), np.int64)
        place[by_row] = np.arange(len(wanted))
        return pa.concat_arrays(parts).take(pa.array(place))

    def locate(self, wanted: pa.Array, wanted_in: str, ids_in: str | None = None) -> np.ndarray:
        """Return the row of every wanted id.

        Args:
            wanted: ids in memory, each as often as one likes.
            wanted_in, ids_in: what to call them and these in a message.
        Raises:
            InputError: an id that is not there, or ids of another type; names some.
        """
        wanted = as_type(wanted, self.type, wanted_in, ids_in or self.location)
        rows = self.find(wanted)
        missing = wanted.filter(pa.array(rows < 0))
        refuse_missing(missing, len(missing), wanted_in, ids_in or self.location)
        return rows

    def find(self, wanted: pa.Array) -> np.ndarray:
        """Return the row of every wanted id, -1 where it is not there; ids of another type are compared as texts."""
        as_texts = wanted.type != self.type
        encoded = (wanted.cast(pa.string()) if as_texts else wanted).dictionary_encode()
        row_of = np.full(len(encoded.dictionary), -1, np.int64)
        done, held = 0, 0
        # The table of what is wanted is built anew for every piece, which therefore is as large as the table.
        waiting: list[pa.Array] = []
        for ids in itertools.chain(self.read(), [None]):
            if ids is not None:
                waiting.append(ids.cast(pa.string()) if as_texts else ids)
                held += len(ids)
            if waiting and (ids is None or held >= len(row_of)):
                hits = pc.index_in(pa.chunked_array(waiting), value_set=encoded.dictionary)
                there = np.flatnonzero(hits.is_valid().to_numpy())
                row_of[hits.drop_null().to_numpy()] = there + done
                done, held, waiting = done + held, 0, []
        found: np.ndarray = row_of[encoded.indices.to_numpy(zero_copy_only=False)]
        return found

    def rows_in(self, other: RowIds) -> np.ndarray | None:
        """Return the row of every one of these ids in another file, whose ids may be more.

        Returns:
            (N,) rows, int32 where that is enough; None where both files have the same ids in the same order.
        Raises:
            InputError: an id that is not there, or ids of another type; names some.
        """
        if self.source is other.source or self._as_ordered(other):
            return None
        _ = other.order_n
        if len(self) == len(other) and self.type == other.type:
            rows_n = np.empty(len(self), position_type(len(other)))
            rows_n[self.order_n] = other.order_n
            del other.order_n  # it is not wanted again where they are the same
            if same_ids(self.read, other.read, rows_n):
                return rows_n
        return self._rows_by_ranges(other)

    def _as_ordered(self, other: RowIds) -> bool:
        """Return whether both have the same ids in the same order."""
        if len(self) != len(other) or self.type != other.type:
            return False
        pieces = (regrouped(ids.read(), itertools.repeat(ROW_GROUP_ROWS)) for ids in (self, other))
        return all(ours.equals(theirs) for ours, theirs in zip(*pieces, strict=True))

    def _rows_by_ranges(self, other: RowIds) -> np.ndarray:
        def read() -> Iterator[pa.Array]:
            return (as_type(ids, other.type, self.location, other.location) for ids in self.read())

        size = len(self) * (MATCH_BYTES + held_bytes(read)) + len(other) * (MATCH_BYTES + held_bytes(other.read))
        rows_n = np.empty(len(self), position_type(len(other)))
        missing, first_missing = 0, []
        for low, high in id_ranges(read, len(self), parts_for(size, self.memory)):
            positions, wanted = in_range(read, low, high)
            there, ids = in_range(other.read, low, high)
            if not len(positions):
                continue
            hits = pc.index_in(pa.chunked_array(wanted), value_set=pa.chunked_array(ids, other.type))
            lost = hits.is_null().to_numpy()
            if lost.any():
                missing += int(lost.sum())
                first_missing.append(positions[lost][:6])
            elif not missing:
                rows_n[positions] = there[hits.to_numpy()]
        if missing:
            names = self.take(np.sort(np.concatenate(first_missing))[:6])
            refuse_missing(as_type(names, other.type, "", ""), missing, self.location, other.location)
        return rows_n
