"""Selection manifests and lists of ids, read: which ids they name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.columns import ID, locate, read_ids
from prune_cli.io.tables import ParquetSource

SELECTED = "selected"


def selected_ids(source: ParquetSource) -> pa.Array:
    """Return the ids a selection manifest keeps; every id where there is no ``selected`` column.

    Raises:
        InputError: no id column, or nothing selected.
    """
    source.require(ID)
    ids, _ = read_ids(source)
    if SELECTED in source.schema.names:
        ids = ids.filter(source.read([SELECTED]).column(0).combine_chunks())
    if not len(ids):
        raise InputError(f"{source.location} selects no row", "select with a larger budget")
    return ids


def read_listed(file: str | None, ids: pa.Array, ids_in: str) -> np.ndarray:
    """Return (N,) bool: which ids a file lists, one a line, or the selected rows of a Parquet file; None lists none.

    Args:
        file: the file, or None.
        ids: all ids.
        ids_in: where these are, for messages.
    Raises:
        InputError: no such file, no ids in it, or an id that is not among them.
    """
    listed = np.zeros(len(ids), bool)
    if file is None:
        return listed
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{file} does not exist", "check the path")
    with path.open("rb") as handle:
        is_parquet = handle.read(4) == b"PAR1"
    if is_parquet:
        wanted = selected_ids(ParquetSource(file))
    else:
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except UnicodeDecodeError:
            raise InputError(
                f"{file} is neither Parquet nor text", "give a Parquet file with ids, or one id a line"
            ) from None
        wanted = pa.array([line for line in lines if line], pa.string())
    if len(wanted):
        listed[locate(wanted, ids, file, ids_in)] = True
    return listed
