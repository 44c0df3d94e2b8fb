"""``prune manifest export``: what a selection keeps, in the files that other training stacks read."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.targets import FOLDERS, ONE_FILE, TARGETS
from prune_cli.io.foreign.exports import (
    SHARD_BYTES,
    Sample,
    write_csv,
    write_ids,
    write_image_folder,
    write_paths,
    write_shards,
    write_uids,
    write_webdataset,
)
from prune_cli.io.ids.columns import Labels, locate
from prune_cli.io.manifests.data import DataOptions, Dataset
from prune_cli.io.manifests.selection import SELECTED, selected_ids
from prune_cli.io.parquet.provenance import Provenance, with_provenance
from prune_cli.io.parquet.tables import ParquetSource, open_output
from prune_cli.io.stores.atomic import check_output, publish_folder
from prune_cli.io.stores.inside import BadFile, read_inside, resolve_inside
from prune_cli.io.stores.locations import require_local
from prune_cli.stages.evaluate.relabels import GIVEN
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome

WEIGHT = "weight"
MARKER = ".prune.json"
"""File in an exported folder with its provenance: a folder without it is never replaced."""

_BATCH_ROWS = 256
_LARGEST_PICTURE = 2**30


@dataclass(frozen=True)
class ExportOptions:
    """The options of ``prune manifest export``; see docs/commands.md."""

    selection: str
    data: DataOptions
    to: str
    output: str | None = None
    shard_bytes: int = SHARD_BYTES
    force: bool = False
    plan: bool = False


def export(options: ExportOptions, progress: Progress = silent) -> Outcome:
    """Write the rows that a selection keeps, in the order of the data.

    Raises:
        InputError: an unknown target, ids that are not in the data, or rows that have not what the target needs; nothing is written.
    """
    watch = Stopwatch()
    if options.to not in TARGETS:
        raise InputError(f"unknown target '{options.to}'", f"use --to {', '.join(TARGETS)}")
    selection, dataset = ParquetSource(options.selection), Dataset(options.data)
    kept_ids = selected_ids(selection)
    rows = np.sort(locate(kept_ids, dataset.ids, options.selection, options.data.location))
    suffix = ONE_FILE.get(options.to, f".{options.to}")
    output = options.output or f"{selection.stem}{suffix}"
    if options.plan:
        size = dataset.source.nbytes if options.to in FOLDERS else 40 * len(rows)
        figures = {
            "rows": len(rows),
            "passes_over_data": 1,
            "algorithm": f"rows to {options.to}, as they come",
            "peak_memory_bytes": 300 * 2**20 + 100 * len(dataset),
            "disk_bytes": round(size * len(rows) / len(dataset)) if options.to in FOLDERS else size,
        }
        return plan_outcome("manifest export", figures)
    stream = _Stream(dataset, selection, kept_ids, rows, progress)
    shards = None
    if options.to in ONE_FILE:
        check_output(output, options.force)
        with open_output(output) as file:
            if options.to == "ids":
                write_ids(file, stream.ids())
            elif options.to == "csv":
                write_csv(file, stream.samples(inputs=False), GIVEN in dataset.source.schema.names, stream.weighed)
            elif options.to == "uids":
                write_uids(file, stream.samples(inputs=False))
            else:
                write_paths(file, stream.paths())
    else:
        provenance = Provenance(
            command="manifest export",
            method=options.to,
            parameters={"data": options.data.identity()},
            seed=0,
            inputs=(*selection.inputs, *dataset.source.inputs),
            packages=("pyarrow",),
            rows={"rows_in": len(dataset), "rows_out": len(rows), "rows_bad": 0},
        )
        require_local(output, f"the folder that --to {options.to} makes,")
        with _folder(Path(output), options.force) as building:
            (building / MARKER).write_text(provenance.to_json() + "\n")
            if options.to == "folder":
                write_image_folder(building, stream.samples(inputs=True), stream.labels.display_names())
            elif options.to == "webdataset":
                shards = write_webdataset(building, stream.samples(inputs=True), options.shard_bytes)
            else:
                schema = with_provenance(stream.schema(), provenance, dataset.source.schema.metadata)
                shards = write_shards(building, schema, stream.batches(), options.shard_bytes)
    outcome = Outcome(outputs=[output])
    outcome.summary = {
        "command": "manifest export",
        "output": output,
        "to": options.to,
        "rows_in": len(dataset),
        "rows_out": len(rows),
        **({"shards": shards} if shards is not None else {}),
        **watch.figures(),
    }
    return outcome


class _Stream:
    """The selected rows, batch by batch."""

    def __init__(
        self, dataset: Dataset, selection: ParquetSource, kept_ids: pa.Array, rows: np.ndarray, progress: Progress
    ) -> None:
        self._dataset, self._rows, self._progress = dataset, rows, progress
        self._root = dataset.options.root if dataset.options.root is not None else dataset.source.folder
        self.labels: Labels = (
            dataset.labels
            if dataset.options.label_column in dataset.source.schema.names
            else Labels(np.full(len(dataset), -1, np.int64), (), None, pa.int64())
        )
        self.weighed = WEIGHT in selection.schema.names
        self._weights = np.full(len(dataset), np.nan)
        if self.weighed:
            column = selection.read([WEIGHT]).column(0).combine_chunks()
            if SELECTED in selection.schema.names:
                column = column.filter(selection.read([SELECTED]).column(0).combine_chunks())
            places = locate(kept_ids, dataset.ids, selection.location, dataset.options.location)
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
        options, names = self._dataset.options, self._dataset.source.schema.names
        kind = self._dataset.kind if inputs else None
        column = options.image_column if kind == "image" else options.embedding_column
        wanted = [*([column] if inputs else []), *([GIVEN] if GIVEN in names else [])]
        class_names, values = self.labels.display_names(), self.labels.values()
        for positions, batch in self._parts(wanted):
            contents: list[Any] = batch.column(column).to_pylist() if inputs else [None] * len(positions)
            given: list[Any] = batch.column(GIVEN).to_pylist() if GIVEN in names else [None] * len(positions)
            here = pa.array(positions)
            ids, labels = self._dataset.ids.take(here).to_pylist(), values.take(here).to_pylist()
            codes, weights = self.labels.codes_n[positions].tolist(), self._weights[positions].tolist()
            for row_id, label, code, weight, content, before in zip(
                ids, labels, codes, weights, contents, given, strict=True
            ):
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
        in_file = self._dataset.rows_in_file()[self._rows]
        if not columns:
            yield self._rows, pa.RecordBatch.from_pydict({"none": pa.nulls(len(self._rows))})
            return
        source, start, done = self._dataset.source, 0, 0
        with contextlib.closing(source.batches(columns, _BATCH_ROWS)) as batches:
            for batch in batches:
                until = int(np.searchsorted(in_file, start + len(batch)))
                if until > done:
                    yield self._rows[done:until], batch.take(pa.array(in_file[done:until] - start))
                    self._progress("rows", until, len(self._rows), None)
                start, done = start + len(batch), until
                if done == len(in_file):
                    return

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


@contextlib.contextmanager
def _folder(final: Path, force: bool) -> Iterator[Path]:
    """Yield a folder that becomes ``final`` when the block ends well, and vanishes when it does not."""
    if final.exists() and not force:
        raise InputError(f"output {final} exists already", "pass --force to replace it, or name another with -o")
    if final.exists() and not (final / MARKER).is_file():
        raise InputError(f"{final} is no export (it has no {MARKER}), and is not replaced", "name another with -o")
    if not final.parent.is_dir():
        raise InputError(f"the folder of output {final} does not exist", f"make it: mkdir -p {final.parent}")
    building = final.with_name(f"{final.name}.incomplete")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir()
        yield building
        publish_folder(building, final)
    except OSError as error:
        raise InputError(f"cannot write {final}: {error.strerror or error}", "free disk space") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
