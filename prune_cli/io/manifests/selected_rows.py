"""The rows that a selection keeps, as a stream of samples, columns, ids or paths."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress
from prune_cli.io.ids.columns import Labels
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.relabels import GIVEN
from prune_cli.io.manifests.selection import SELECTED, WEIGHT
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.stores.inside import BadFile, read_inside, resolve_inside

_BATCH_ROWS = 256
_LARGEST_PICTURE = 2**30


@dataclass(frozen=True)
class Sample:
    """One selected row.

    Args:
        label: as it is stored, and its class's code and name; None, -1 and None where it has none.
        weight: what the selection weighs it with, or None.
        image: its bytes, or None.
        embedding: (D,) or None.
        given_label: the label as it was before it was cleaned, where the data say so.
    """

    id: str | int
    label: Any
    code: int
    class_name: str | None
    weight: float | None = None
    image: bytes | None = None
    embedding: np.ndarray | None = None
    given_label: Any = None


class SelectedRows:
    """The rows of the data that a selection keeps, batch by batch, in the order of the data; nothing here holds them all.

    Args:
        selection: the file that says what is kept, and its weights.
        places: (M,) positions in the data of what it keeps, in its order.
    """

    def __init__(self, dataset: Dataset, selection: ParquetSource, places: np.ndarray, progress: Progress) -> None:
        self._dataset, self._rows, self._progress = dataset, np.sort(places), progress
        self._root = dataset.options.root if dataset.options.root is not None else dataset.source.folder
        self.labels: Labels = (
            dataset.labels
            if dataset.options.label_column in dataset.source.schema.names
            else Labels(np.full(len(dataset), -1, np.int64), (), None, pa.int64())
        )
        self.cleaned = GIVEN in dataset.source.schema.names
        self.weighed = WEIGHT in selection.schema.names
        self._weights = np.full(len(dataset), np.nan)
        if self.weighed:
            column = selection.read([WEIGHT]).column(0).combine_chunks()
            if SELECTED in selection.schema.names:
                column = column.filter(selection.read([SELECTED]).column(0).combine_chunks())
            self._weights[places] = column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)

    def schema(self) -> pa.Schema:
        """Return the columns of the data, and the weights where there are any."""
        schema = self._dataset.source.schema.remove_metadata()
        weighed = self.weighed and WEIGHT not in schema.names
        return schema.append(pa.field(WEIGHT, pa.float64())) if weighed else schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the selected rows with all their columns."""
        schema = self.schema()
        for positions, batch in self._parts(self._dataset.source.schema.names):
            columns = [batch.column(name) for name in batch.schema.names]
            if len(schema) > len(columns):
                columns.append(pa.array(self._weights[positions], pa.float64(), from_pandas=True))
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def ids(self) -> pa.Array:
        """Return the ids of the selected rows."""
        return self._dataset.ids.take(pa.array(self._rows))

    def samples(self, *, inputs: bool) -> Iterator[Sample]:
        """Yield the selected rows one by one, with pictures or vectors where wanted."""
        options = self._dataset.options
        kind = self._dataset.kind if inputs else None
        column = options.image_column if kind == "image" else options.embedding_column
        wanted = [*([column] if inputs else []), *([GIVEN] if self.cleaned else [])]
        class_names, values = self.labels.display_names(), self.labels.values()
        for positions, batch in self._parts(wanted):
            contents: list[Any] = batch.column(column).to_pylist() if inputs else [None] * len(positions)
            given: list[Any] = batch.column(GIVEN).to_pylist() if self.cleaned else [None] * len(positions)
            here = pa.array(positions)
            ids, labels = self._dataset.ids.take(here).to_pylist(), values.take(here).to_pylist()
            codes, weights = self.labels.codes_n[positions].tolist(), self._weights[positions].tolist()
            for row_id, label, code, weight, content, before in zip(ids, labels, codes, weights, contents, given, strict=True):
                yield Sample(
                    id=row_id,
                    label=label,
                    code=code,
                    class_name=class_names[code] if code >= 0 else None,
                    weight=None if math.isnan(weight) else weight,
                    image=self._image(content, row_id) if kind == "image" else None,
                    embedding=np.asarray(content, np.float32) if kind == "embedding" and content is not None else None,
                    given_label=before,
                )

    def paths(self) -> Iterator[str]:
        """Yield where the selected pictures are, in full.

        Raises:
            InputError: pictures that are in the Parquet file itself, or outside the root.
        """
        for positions, batch in self._parts([self._dataset.options.image_column]):
            for position, content in zip(positions.tolist(), batch.column(0).to_pylist(), strict=True):
                path = content["path"] if isinstance(content, dict) and not content.get("bytes") else content
                row_id = self._dataset.ids[position].as_py()
                if not isinstance(path, str):
                    raise InputError(
                        f"the picture of row '{row_id}' is in the Parquet file and has no path",
                        "make the manifest with --paths, or export --to folder",
                    )
                try:
                    yield str(resolve_inside(self._root, path))
                except BadFile as error:
                    raise InputError(f"row '{row_id}': {error}", "check --root") from None

    def _parts(self, columns: list[str]) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield positions and rows that are selected, with these columns."""
        if not columns:
            yield self._rows, pa.RecordBatch.from_pydict({"none": pa.nulls(len(self._rows))})
            return
        done = 0
        for positions, batch in self._dataset.batches(columns, self._rows, _BATCH_ROWS):
            yield positions, batch
            done += len(positions)
            self._progress("rows", done, len(self._rows), None)

    def _image(self, content: Any, row_id: object) -> bytes | None:
        data, path = (content.get("bytes"), content.get("path")) if isinstance(content, dict) else (content, content)
        if isinstance(data, bytes) and data:
            return data
        if not isinstance(path, str):
            return None
        try:
            return read_inside(self._root, path, _LARGEST_PICTURE)
        except BadFile as error:
            raise InputError(f"row '{row_id}': {error}", "check --root") from None
