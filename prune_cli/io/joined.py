"""Several manifests of the same samples, joined by id."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.columns import ID, Labels, locate, read_ids, read_labels
from prune_cli.io.provenance import InputFile, read_provenance
from prune_cli.io.tables import ParquetSource


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
        self.ids, self.ids_made_up = read_ids(self.sources[0], id_column)
        if not len(self.ids):
            raise InputError(f"{locations[0]} has no rows", "check the file")
        self._rows: list[np.ndarray | None] = [None]
        self.fields: dict[str, pa.Field] = {}
        self._source_of: dict[str, int] = {}
        for number, source in enumerate(self.sources):
            if number:
                self._rows.append(self._match(source))
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

    def _match(self, source: ParquetSource) -> np.ndarray:
        ids, made_up = read_ids(source, self.id_column)
        if made_up or self.ids_made_up:
            raise InputError("files are joined by id, and one of them has no column of ids", "name it with --id-column")
        rows = locate(self.ids, ids, self.sources[0].location, source.location)
        if len(ids) != len(self.ids):
            locate(ids, self.ids, source.location, self.sources[0].location)
        return rows

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
        """The labels, or None where no file has any."""
        found: Labels | None = None
        for source, rows in zip(self.sources, self._rows, strict=True):
            if self.label_column not in source.schema.names:
                continue
            labels = read_labels(source, self.label_column)
            labels = labels if rows is None else labels.take(rows)
            if found is None:
                found = labels
                continue
            differ = np.flatnonzero(
                labels.recoded(found.classes, found.names, source.location).codes_n != found.codes_n
            )
            if len(differ):
                one = self.ids[int(differ[0])]
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

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column, in the order of the ids."""
        number = self._source_of[name]
        column = self.sources[number].read([name]).column(0)
        rows = self._rows[number]
        return column if rows is None else column.take(pa.array(rows))
