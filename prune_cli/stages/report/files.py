"""The files of a report, told apart by what they say of themselves and by their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.manifests.ledger import LEDGER_COLUMNS
from prune_cli.io.parquet.provenance import InputFile, read_provenance
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.runs.folder import HISTORY, MODEL, FinishedRun, read_run, run_files
from prune_cli.io.stores.locations import is_remote, name_of

FileKind = Literal[
    "data",
    "scores",
    "features",
    "selection",
    "curve",
    "dynamics",
    "run",
    "evaluation",
    "comparison",
    "ledger",
    "relabels",
]


@dataclass(frozen=True)
class ReportFile:
    """One file or run folder of a report.

    Args:
        name: without its folder.
        kind: what it is.
        source: the Parquet file; of a run folder, its history.
        inputs: the file itself: name and hash of each part.
        stated: its provenance, empty where it has none.
        run: the run folder, or None.
    """

    name: str
    kind: FileKind
    source: ParquetSource
    inputs: tuple[InputFile, ...]
    stated: dict[str, Any]
    run: FinishedRun | None = None


def read_file(location: str) -> ReportFile:
    """Return a file with its kind.

    Raises:
        InputError: it is neither a run folder nor a Parquet file of ours, nor a data manifest.
    """
    path = Path(location)
    if (path / MODEL).is_file():
        run = read_run(path)
        history = ParquetSource(str(path / HISTORY))
        return ReportFile(
            path.resolve().name, "run", history, run_files(run), read_provenance(history.schema) or {}, run
        )
    source = ParquetSource(location)
    stated = read_provenance(source.schema) or {}
    kind = _kind(source.schema, stated)
    if kind is None:
        raise InputError(
            f"{location} is no file of prune: it has {', '.join(source.schema.names[:12])}",
            "give manifests, selections, reports, curves or run folders that prune wrote, or a data manifest",
        )
    name = (
        source.names[0] if len(source.names) == 1 else name_of(location) if is_remote(location) else path.resolve().name
    )
    return ReportFile(name, kind, source, source.inputs, stated)


def of_kind(files: Sequence[ReportFile], *kinds: FileKind) -> list[ReportFile]:
    """Return the files of some kinds."""
    return [file for file in files if file.kind in kinds]


def _kind(schema: pa.Schema, stated: dict[str, Any]) -> FileKind | None:
    columns = set(schema.names)
    if {"metric", "value"} <= columns:
        return "comparison" if "against" in columns else "evaluation"
    if "selected" in columns and "id" in columns:
        return "selection"
    if {"proxy_accuracy", "start"} <= columns:
        return "curve"
    if columns == set(LEDGER_COLUMNS):
        return "ledger"
    if {"p_clean", "new_label"} <= columns:
        return "relabels"
    if {"epoch", "p_label"} <= columns:
        return "dynamics"
    if stated.get("score_direction") and set(stated["score_direction"]) & columns:
        return "scores"
    if stated.get("command") == "score" and "embedding" in columns:
        return "features"
    if {"image", "embedding"} & columns:
        return "data"
    if "id" in columns and score_columns(schema):
        return "scores"
    return None


def score_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that hold a number a row and are no labels."""
    names = {"id", "label", "true_label", "split", "rank", "weight", "gain", "fold"}
    return [f.name for f in schema if f.name not in names and pa.types.is_floating(f.type)]
