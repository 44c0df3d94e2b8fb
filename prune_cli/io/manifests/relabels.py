"""Files of new labels: what a re-labeling run says of every row it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import ID, Labels, read_ids, read_labels
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import ParquetSource, write_table

RELABELS = "relabels.parquet"
"""Name of the file in a run folder."""

GIVEN = "given_label"
"""Column of a cleaned data manifest with the labels as they were."""


def write_relabels(
    path: str, ids: pa.Array, labels: Labels, codes_m: np.ndarray, p_clean_m: np.ndarray, confidence_m: np.ndarray, provenance: Provenance
) -> None:
    """Write ``id``, ``label`` as given, ``new_label``, ``p_clean`` and ``confidence``.

    Args:
        path: where.
        codes_m: (M,) int64 classes of the new labels.
        p_clean_m, confidence_m: (M,) float64, 0 to 1.
    """
    new = Labels(codes_m, labels.classes, labels.names, labels.type)
    table = pa.table(
        {
            ID: ids,
            "label": labels.values(),
            "new_label": new.values(),
            "p_clean": pa.array(p_clean_m, pa.float64()),
            "confidence": pa.array(confidence_m, pa.float64()),
        }
    )
    write_table(path, table, provenance)


@dataclass(frozen=True)
class RelabelFile:
    """A file of new labels.

    Args:
        ids: (M,) ids, in its order.
        given, new: labels as codes, each of its own classes.
        p_clean: (M,) float64.
    """

    source: ParquetSource
    ids: pa.Array
    given: Labels
    new: Labels
    p_clean: np.ndarray


def read_relabels(location: str) -> RelabelFile:
    """Return a file of new labels.

    Raises:
        InputError: a column is missing, or a label or a probability.
    """
    source = ParquetSource(location)
    for name in (ID, "label", "new_label", "p_clean"):
        if name not in source.schema.names:
            raise InputError(
                f"{location} has no column '{name}': it is not a file of new labels",
                "give relabels.parquet of a run that re-labels (prune train --recipe sop)",
            )
    ids, _ = read_ids(source, ID)
    given, new = read_labels(source, "label"), read_labels(source, "new_label")
    column = source.read(["p_clean"]).column(0).combine_chunks().cast(pa.float64())
    p_clean = column.to_numpy(zero_copy_only=False)
    if (new.codes_n < 0).any() or not np.isfinite(p_clean).all():
        raise InputError(f"{location}: a row has no new label, or no p_clean", "make the file again")
    return RelabelFile(source, ids, given, new, p_clean)
