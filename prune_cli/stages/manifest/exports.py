"""``prune manifest export``: what a selection keeps, in the files that other training stacks read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.io.foreign.exports import SHARD_BYTES, TARGETS, FileTarget
from prune_cli.io.ids.columns import locate
from prune_cli.io.manifests.data import DataOptions, Dataset
from prune_cli.io.manifests.selected_rows import SelectedRows
from prune_cli.io.manifests.selection import selected_ids
from prune_cli.io.parquet.provenance import Provenance, row_counts, with_provenance
from prune_cli.io.parquet.tables import ParquetSource, open_output
from prune_cli.io.stores.atomic import atomic_folder, check_output
from prune_cli.io.stores.locations import require_local
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome

MARKER = ".prune.json"
"""File in an exported folder with its provenance: a folder without it is never replaced."""


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
    target = TARGETS[options.to]
    selection, dataset = ParquetSource(options.selection), Dataset(options.data)
    places = locate(selected_ids(selection), dataset.ids, options.selection, options.data.location)
    ending = target.suffix if isinstance(target, FileTarget) else f".{options.to}"
    output = options.output or f"{selection.stem}{ending}"
    if options.plan:
        figures = {
            "rows": len(places),
            "passes_over_data": 1,
            "algorithm": f"rows to {options.to}, as they come",
            "peak_memory_bytes": 300 * 2**20 + 100 * len(dataset),
            "disk_bytes": 40 * len(places) if isinstance(target, FileTarget) else round(dataset.source.nbytes * len(places) / len(dataset)),
        }
        return plan_outcome("manifest export", figures)
    rows = SelectedRows(dataset, selection, places, progress)
    shards = None
    if isinstance(target, FileTarget):
        check_output(output, options.force)
        with open_output(output) as file:
            target.write(file, rows)
    else:
        provenance = Provenance(
            "manifest export",
            options.to,
            {"data": options.data.identity()},
            inputs=(*selection.inputs, *dataset.source.inputs),
            packages=("pyarrow",),
            rows=row_counts(len(dataset), len(places)),
        )
        metadata = with_provenance(rows.schema(), provenance, dataset.source.schema.metadata).metadata
        require_local(output, f"the folder that --to {options.to} makes,")
        with atomic_folder(Path(output), MARKER, options.force) as building:
            (building / MARKER).write_text(provenance.to_json() + "\n")
            shards = target.write(building, rows, options.shard_bytes, metadata)
    counts = {"rows_in": len(dataset), "rows_out": len(places), **({"shards": shards} if shards is not None else {})}
    return Outcome([output], watch.summary("manifest export", output=output, to=options.to, **counts))
