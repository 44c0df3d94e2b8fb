"""Selection manifests, read: which ids they keep."""

from __future__ import annotations

import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.columns import ID, read_ids
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
