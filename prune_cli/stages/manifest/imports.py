"""``prune manifest import``: what other tools say of the rows, as a score or selection manifest."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.foreign.readers import read_ids_file
from prune_cli.io.ids.columns import ID
from prune_cli.io.manifests.data import DataOptions
from prune_cli.io.manifests.selection import RANK, SELECTED, WEIGHT
from prune_cli.io.parquet.provenance import Provenance, hash_file, row_counts
from prune_cli.io.parquet.tables import write_table
from prune_cli.io.stores.atomic import check_output
from prune_cli.io.stores.locations import require_local
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.manifest import readers
from prune_cli.stages.manifest.readers import ImportOptions, KnownRows, rows_of_data
from prune_cli.stages.manifest.tables import ORIGINS

PROCESS_BYTES = 200 * 2**20
ROW_BYTES, FILE_FACTOR = 400, 4
"""Memory of Python with pyarrow, of each row with a string id, and of each byte of the file: measured upper bounds."""

_RESERVED = {ID, "label", SELECTED, RANK, WEIGHT, "reason", "true_label", "split"}


def import_file(options: ImportOptions) -> Outcome:
    """Make a manifest of a file of another tool: every row of the data once.

    Raises:
        InputError: a file that is not what it is said to be, or that speaks of other rows; nothing is written.
    """
    watch = Stopwatch()
    _check_options(options)
    for file in (options.file, options.ids):
        if file is not None:
            require_local(file, "what another tool wrote,")
    path = Path(options.file)
    if not path.is_file():
        raise InputError(f"{options.file} is no file", "check the path")
    rows = _known_rows(options)
    kind = "selection" if options.selection else ORIGINS[options.origin].makes
    output = options.output or f"{path.stem}.{kind}.parquet"
    if options.plan:
        figures = {
            "rows": len(rows.ids),
            "passes_over_data": 1,
            "algorithm": f"{options.origin} to {kind}",
            "peak_memory_bytes": PROCESS_BYTES + ROW_BYTES * len(rows.ids) + FILE_FACTOR * path.stat().st_size,
            "disk_bytes": 32 * len(rows.ids),
        }
        return plan_outcome("manifest import", figures)
    check_output(output, options.force)
    found: readers.ReadRows = getattr(readers, ORIGINS[options.origin].reader)(options, path, rows)
    columns: dict[str, pa.Array] = {ID: rows.ids}
    if rows.labels is not None:
        columns["label"] = rows.labels.values()
    table = pa.table(columns | found.columns)
    listed = (hash_file(Path(options.ids)),) if options.ids is not None else ()
    provenance = Provenance(
        "manifest import",
        options.origin,
        {
            "column": next(iter(found.directions), None),
            "selection": options.selection,
            "unordered": options.unordered,
            "split": options.data.split if options.data is not None else None,
        },
        inputs=(hash_file(path), *listed, *rows.inputs),
        packages=("numpy", "pyarrow"),
        score_direction=found.directions,
        rows=row_counts(len(rows.ids), len(rows.ids)),
    )
    write_table(output, table, provenance, rows.source)
    outcome = Outcome(outputs=[output], warnings=found.notes)
    if rows.made_up:
        outcome.warnings.append(f"{rows.location} has no column '{ID}': ids are the positions, row-00000000 and on")
    outcome.summary = watch.summary(provenance.command, **{"from": options.origin, "output": output, **found.figures}, **provenance.rows)
    return outcome


def _check_options(options: ImportOptions) -> None:
    if options.origin not in ORIGINS:
        raise InputError(f"unknown --from '{options.origin}'", f"use one of: {', '.join(ORIGINS)}")
    taken = ORIGINS[options.origin].options
    given = {
        "column": options.column is not None,
        "direction": bool(options.directions),
        "ids": options.ids is not None,
        "selection": options.selection,
        "unordered": options.unordered,
    }
    for name, there in given.items():
        if there and name not in taken:
            raise InputError(f"--{name} has no meaning with --from {options.origin}", "leave it out")
    _source_of_rows(options)
    if options.selection and options.column is not None:
        raise InputError("--column is of scores, and --selection writes none", "leave one out")
    if options.column in _RESERVED:
        raise InputError(f"--column {options.column} is the name of another column of manifests", "name it otherwise")


def _source_of_rows(options: ImportOptions) -> DataOptions | str:
    """Return what says which rows there are: the data, or a list of ids."""
    source = options.data if options.data is not None else options.ids
    if source is None:
        also = ", or their ids with --ids" if "ids" in ORIGINS[options.origin].options else ""
        raise InputError(f"--from {options.origin} needs to know the rows", f"name the data with --data{also}")
    return source


def _known_rows(options: ImportOptions) -> KnownRows:
    source = _source_of_rows(options)
    return KnownRows(read_ids_file(Path(source)), None, source, ()) if isinstance(source, str) else rows_of_data(source)
