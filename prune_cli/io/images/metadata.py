"""Metadata files in folders of images, as Hugging Face's ``imagefolder`` has them: CSV or JSON lines, one row an image."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prune_cli.core.errors import InputError
from prune_cli.io.stores.inside import trouble_of

METADATA = ("metadata.csv", "metadata.jsonl")


def metadata_file(folder: Path) -> Path:
    """Return the metadata file of a folder that has one.

    Raises:
        InputError: it has two.
    """
    there = [folder / name for name in METADATA if (folder / name).exists()]
    if len(there) > 1:
        raise InputError(f"{folder} has both {METADATA[0]} and {METADATA[1]}", "keep one of the two")
    return there[0]


def read_metadata(table: Path, label_column: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where the row stands, the row) for every row of a metadata file.

    Raises:
        InputError: it cannot be read, is damaged, or a row lacks its ``file_name`` or label.
    """
    rows = _csv_rows if table.suffix == ".csv" else _jsonl_rows
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            for number, row in rows(file, table):
                for column in ("file_name", label_column):
                    if column not in row:
                        found = ", ".join(map(str, row)) or "nothing"
                        cures = {"file_name": "name the column of the paths file_name", label_column: "give --label-column"}
                        raise InputError(f"{table} line {number} has no '{column}'; it has {found}", cures[column])
                yield f"{table} line {number}", row
    except UnicodeDecodeError as error:
        raise InputError(f"{table} is not UTF-8: {error.reason} at byte {error.start}", "save it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{table} is no comma-separated values: {error}", "write it anew") from None
    except OSError as error:
        raise InputError(f"{table} cannot be read: {trouble_of(error)}", "check its permissions") from None


def _csv_rows(file: Any, table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(file, strict=True)
    header = next(reader, [])
    if len(set(header)) < len(header):
        raise InputError(f"{table} has two columns of one name", "name each column once")
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            raise InputError(
                f"{table} line {reader.line_num} has {len(cells)} cells and the header {len(header)}", "quote cells that hold commas"
            )
        yield reader.line_num, dict(zip(header, cells, strict=True))


def _jsonl_rows(file: Any, table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{table} line {number} is not a JSON object", "write one object a line")
        yield number, row
