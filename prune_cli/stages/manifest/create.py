"""``prune manifest create``: a folder of images in, a data manifest out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.io.images.folders import FolderListing, discover_folder
from prune_cli.io.parquet.provenance import InputFile, Provenance, hash_stream, row_counts
from prune_cli.io.parquet.tables import write_batches
from prune_cli.io.stores.atomic import check_output
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_BATCH_BYTES = 32 * 2**20
_BATCH_ROWS = 1024


@dataclass(frozen=True)
class CreateOptions:
    """The options of ``prune manifest create``; see docs/commands.md."""

    folder: Path
    paths: bool = False
    output: str | None = None
    force: bool = False
    plan: bool = False


def create(options: CreateOptions, progress: Progress = silent) -> Outcome:
    """Make a data manifest of a folder of images: ``id`` (the path in the folder), ``image``, ``label``, ``split``.

    Images are copied as the bytes they are, undecoded; with ``paths`` their paths alone are kept.

    Raises:
        InputError: no such folder, no images, or a listing that does not fit it; nothing is written.
    """
    watch = Stopwatch()
    outcome = Outcome()
    listing = discover_folder(options.folder)
    output = options.output or f"{options.folder.resolve().name}.parquet"
    rows = len(listing.paths)
    outcome.warnings = list(listing.notes)
    if listing.skipped:
        outcome.warnings.append(f"passed over: {', '.join(f'{count:,} {kind}' for kind, count in listing.skipped.items())}")
    if options.plan:
        size = 0 if options.paths else sum((options.folder / p).stat().st_size for p in listing.paths)
        plan = {
            "rows": rows,
            "classes": len(listing.class_names),
            "passes_over_data": 1,
            "algorithm": "paths alone" if options.paths else "files copied as they are, undecoded",
            "peak_memory_bytes": 150 * 2**20 + 4 * _BATCH_BYTES,
            "disk_bytes": size + 100 * rows,
        }
        return plan_outcome("manifest create", plan)
    check_output(output, options.force)
    schema = pa.schema(
        [("id", pa.string()), ("image", IMAGE), ("label", pa.int64()), *([("split", pa.string())] if listing.splits is not None else [])],
        metadata=_features(listing),
    )
    provenance = Provenance(
        "manifest create",
        "folder",
        {"paths": options.paths},
        inputs=_listing_files(options.folder, listing),
        packages=("pyarrow",),
        rows=row_counts(rows, rows),
    )
    batches = _batches(options, listing, schema, progress)
    write_batches(output, schema, batches, provenance, schema.metadata, row_group_rows=_BATCH_ROWS)
    outcome.outputs = [output]
    counts = Counter(listing.labels)
    told = {"classes": len(listing.class_names), "skipped": listing.skipped}
    outcome.summary = watch.summary(provenance.command, output=output, **told, **provenance.rows)
    outcome.tables["classes"] = [["class", "images"], *([n, f"{counts[i]:,}"] for i, n in enumerate(listing.class_names))][:51]
    return outcome


def _batches(options: CreateOptions, listing: FolderListing, schema: pa.Schema, progress: Progress) -> Iterator[pa.RecordBatch]:
    start, size, images = 0, 0, []
    for position, path in enumerate(listing.paths):
        content = None if options.paths else _read(options.folder / path)
        size += len(content or b"")
        images.append({"bytes": content, "path": path})
        if len(images) == _BATCH_ROWS or size >= _BATCH_BYTES or position == len(listing.paths) - 1:
            part = slice(start, position + 1)
            columns = [pa.array(listing.ids[part], pa.string()), pa.array(images, IMAGE), pa.array(listing.labels[part], pa.int64())]
            if listing.splits is not None:
                columns.append(pa.array(listing.splits[part], pa.string()))
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
            progress("reading images", position + 1, len(listing.paths))
            start, size, images = position + 1, 0, []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the folder and its permissions") from error


def _features(listing: FolderListing) -> dict[bytes, bytes]:
    features: dict[str, object] = {
        "id": {"dtype": "string", "_type": "Value"},
        "image": {"_type": "Image"},
        "label": {"names": list(listing.class_names), "_type": "ClassLabel"},
    }
    if listing.splits is not None:
        features["split"] = {"dtype": "string", "_type": "Value"}
    return {b"huggingface": json.dumps({"info": {"features": features}}, sort_keys=True).encode()}


def _listing_files(folder: Path, listing: FolderListing) -> list[InputFile]:
    found = []
    for name in listing.metadata_files:
        with (folder / name).open("rb") as file:
            found.append(InputFile(name, hash_stream(file)))
    return found
