"""``prune manifest``: a folder of images in, a data manifest out; whether a manifest is sound; several joined to one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from prune_cli.core.combinations import JOIN, SET_OPERATIONS
from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import Runtime
from prune_cli.io.images.folders import FolderListing, discover_folder
from prune_cli.io.manifests.data import DataOptions, Dataset
from prune_cli.io.manifests.joined import Joined
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.manifests.selection import SELECTED
from prune_cli.io.manifests.shards import is_shard
from prune_cli.io.parquet.provenance import InputFile, Provenance, hash_stream
from prune_cli.io.parquet.tables import STDIN, ParquetSource, write_batches
from prune_cli.io.stores.atomic import check_output
from prune_cli.stages.frame.memory import RowMemory
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.score.merge import merge_shards

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
        [
            ("id", pa.string()),
            ("image", IMAGE),
            ("label", pa.int64()),
            *([("split", pa.string())] if listing.splits is not None else []),
        ],
        metadata=_features(listing),
    )
    provenance = Provenance(
        command="manifest create",
        method="folder",
        parameters={"paths": options.paths},
        seed=0,
        inputs=_listing_files(options.folder, listing),
        packages=("pyarrow",),
        rows={"rows_in": rows, "rows_out": rows, "rows_bad": 0},
    )
    write_batches(
        output,
        schema,
        _batches(options, listing, schema, progress),
        provenance,
        schema.metadata,
        row_group_rows=_BATCH_ROWS,
    )
    outcome.outputs = [output]
    counts = Counter(listing.labels)
    outcome.summary = {
        "command": "manifest create",
        "output": output,
        "classes": len(listing.class_names),
        **provenance.rows,
        **watch.figures(),
    }
    outcome.tables["classes"] = [
        ["class", "images"],
        *([n, f"{counts[i]:,}"] for i, n in enumerate(listing.class_names)),
    ][:51]
    return outcome


def check(options: DataOptions, workers: int, progress: Progress = silent) -> Outcome:
    """Read every row of a data manifest and say what is wrong; nothing is written.

    Returns:
        Outcome with a negative verdict where a row is bad.
    Raises:
        InputError: the file cannot be used at all (missing, truncated, duplicate ids, no inputs).
    """
    from prune_cli.core.runtime import Runtime

    watch = Stopwatch()
    outcome = Outcome()
    dataset = Dataset(options)
    ledger = Ledger()
    rows = len(dataset)
    facts: list[list[str]] = [["what", "found"], ["rows", f"{rows:,}"], ["input", dataset.kind]]
    if dataset.ids_made_up:
        outcome.warnings.append(
            f"no column '{options.id_column}': commands would use the positions, row-00000000 and on"
        )
    if options.label_column in dataset.source.schema.names:
        labels = dataset.labels
        ledger.add_all(np.flatnonzero(labels.codes_n < 0), "missing label")
        sizes = np.bincount(labels.codes_n[labels.codes_n >= 0], minlength=len(labels.classes))
        facts.append(["classes", f"{len(labels.classes):,}"])
        if len(sizes):
            smallest, largest = int(sizes.argmin()), int(sizes.argmax())
            names = labels.display_names()
            facts.append(["smallest class", f"{names[smallest]}: {sizes[smallest]:,}"])
            facts.append(["largest class", f"{names[largest]}: {sizes[largest]:,}"])
    else:
        outcome.warnings.append(f"no column '{options.label_column}': score and train need labels (--label-column)")
    shape = dataset.verify_inputs(ledger, workers=Runtime(workers=workers).worker_count(), progress=progress)
    facts.append(["shape of an input", " x ".join(str(s) for s in shape) if shape else "differs: pass --image-size"])
    facts.append(["bad rows", f"{len(ledger):,}"])
    outcome.tables[f"manifest {options.location}"] = facts
    listed = ledger.table(dataset.ids).slice(0, 20).to_pylist()
    if listed:
        heading = "bad rows" if len(ledger) <= 20 else f"bad rows, the first 20 of {len(ledger):,}"
        outcome.tables[heading] = [
            ["id", "path", "reason"],
            *([str(r["id"]), r["path"] or "", r["reason"]] for r in listed),
        ]
    outcome.verdict = not len(ledger)
    outcome.summary = {
        "command": "manifest check",
        "sound": outcome.verdict,
        "rows_in": rows,
        "rows_bad": len(ledger),
        "input": dataset.kind,
        "input_shape": list(shape) if shape else None,
        "bad": [
            {"id": r["id"], "path": r["path"], "reason": r["reason"]} for r in ledger.table(dataset.ids).to_pylist()
        ],
        **watch.figures(),
    }
    return outcome


@dataclass(frozen=True)
class MergeOptions:
    """The options of ``prune manifest merge``; see docs/commands.md."""

    files: tuple[str, ...]
    id_column: str = "id"
    label_column: str = "label"
    runtime: Runtime = field(default_factory=Runtime)
    output: str | None = None
    force: bool = False
    plan: bool = False


def merge(options: MergeOptions) -> Outcome:
    """Join score manifests of the same rows by id: the rows of the first, in its order, with the columns of all.

    Raises:
        InputError: ids, columns or labels that do not go together; nothing is written.
    """
    watch = Stopwatch()
    sources = [ParquetSource(f) for f in options.files if f != STDIN]
    parts = [source for source in sources if is_shard(source)]
    if parts and len(parts) == len(options.files):
        return merge_shards(parts, options.output, force=options.force, plan=options.plan)
    if parts:
        raise InputError(
            f"{parts[0].location} is a part of a score, and not all files are parts",
            "join the parts first: prune manifest merge PART...",
        )
    if len(options.files) < 2:
        raise InputError("merge joins files, and one is given", "name two or more")
    selections = [source.location for source in sources if SELECTED in source.schema.names]
    if len(selections) > 1:
        raise InputError(
            f"{' and '.join(selections)} are selections, and --how {JOIN} joins scores",
            f"say what is kept: --how {', '.join(SET_OPERATIONS)}",
        )
    joined = Joined(options.files, id_column=options.id_column, label_column=options.label_column)
    output = options.output or f"{joined.stem}.merged.parquet"
    rows = len(joined.ids)
    # Labels, the order of the first file, its rows in the others, and their columns, for a moment twice.
    row_bytes = 9 + 5 * (len(joined.sources) - 1) + 2 * joined.other_bytes()
    memory = RowMemory(rows, row_bytes, options.runtime.memory_budget())
    if options.plan:
        size = sum(source.nbytes for source in joined.sources)
        return plan_outcome(
            "manifest merge",
            {
                "rows": rows,
                "columns": len(joined.fields),
                "passes_over_data": 1,
                "algorithm": "columns of all, by id",
                "ids": memory.sorting(),
                "peak_memory_bytes": memory.peak,
                "disk_bytes": size,
            },
        )
    memory.check()
    joined.match(memory.for_sorting)
    _ = joined.labels
    check_output(output, options.force)
    provenance = Provenance(
        command="manifest merge",
        method="join by id",
        parameters={},
        seed=0,
        inputs=joined.inputs,
        packages=("pyarrow",),
        score_direction=joined.directions,
        rows={"rows_in": rows, "rows_out": rows, "rows_bad": 0},
    )
    write_batches(output, joined.schema(), joined.batches(), provenance, joined.sources[0].schema.metadata)
    outcome = Outcome(outputs=[output])
    outcome.tables["columns"] = [
        ["column", "direction"],
        *([name, joined.directions.get(name, "")] for name in joined.fields),
    ]
    outcome.summary = {
        "command": "manifest merge",
        "output": output,
        "columns": list(joined.fields),
        **provenance.rows,
        **watch.figures(),
    }
    return outcome


def _batches(
    options: CreateOptions, listing: FolderListing, schema: pa.Schema, progress: Progress
) -> Iterator[pa.RecordBatch]:
    start, size, images = 0, 0, []
    for position, path in enumerate(listing.paths):
        content = None if options.paths else _read(options.folder / path)
        size += len(content or b"")
        images.append({"bytes": content, "path": path})
        if len(images) == _BATCH_ROWS or size >= _BATCH_BYTES or position == len(listing.paths) - 1:
            part = slice(start, position + 1)
            columns = [
                pa.array(listing.ids[part], pa.string()),
                pa.array(images, IMAGE),
                pa.array(listing.labels[part], pa.int64()),
            ]
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
    import json

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
