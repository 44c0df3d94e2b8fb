"""The rows that can be kept, as the methods see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prune_cli.core.sorting import position_type
from prune_cli.io.manifests.features import FeatureFile, StreamedFeatures
from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Features
from prune_cli.stages.select.inputs import SelectionRows
from prune_cli.stages.select.key import other_columns


@dataclass(frozen=True)
class EligibleRows:
    """The rows that can be kept.

    Args:
        candidates: these rows as the methods see them, numbered from 0.
        positions: (M,) their positions, or None where they are all there are: then nothing is copied.
    """

    candidates: Candidates
    positions: np.ndarray | None

    @property
    def kept(self) -> int:
        """How many are kept already."""
        return int(np.count_nonzero(self.candidates.kept))

    @property
    def place(self) -> np.ndarray | slice:
        """Where they are in an array by position."""
        return slice(None) if self.positions is None else self.positions

    def rows_of(self, order_m: np.ndarray) -> np.ndarray:
        """Return the positions of some candidates."""
        return order_m if self.positions is None else self.positions[order_m]


def eligible_rows(rows: SelectionRows) -> EligibleRows:
    """Return the rows that can be kept."""
    eligible, order_n = rows.eligible, rows.scores.ids.order_n
    positions = None if eligible.all() else np.flatnonzero(eligible).astype(position_type(len(eligible)))
    if positions is not None:
        number = np.full(len(order_n), -1, order_n.dtype)
        number[positions] = np.arange(len(positions))
        order_n = number[order_n]
        order_n = order_n[order_n >= 0]
    at: np.ndarray | slice = slice(None) if positions is None else positions

    def streamed(file: FeatureFile | None) -> Features | None:
        if file is None:
            return None
        return StreamedFeatures(file, np.arange(len(order_n)) if positions is None else positions)

    labels, key, tie = rows.scores.labels, rows.key, rows.tie
    codes_n = labels.codes_n[at] if labels is not None else None
    if rows.features is not None:  # torch and faiss index by int64 alone
        order_n = order_n.astype(np.int64)
        codes_n = codes_n.astype(np.int64) if codes_n is not None else None
    terms = other_columns(rows.scores, key.name, rows.vectors.request.method.beside) if key is not None else {}
    candidates = Candidates(
        order_n,
        difficulty_n=key.difficulty()[at] if key is not None else None,
        tie_n=tie.difficulty()[at] if tie is not None else None,
        columns={name: values[at] for name, values in terms.items()},
        codes_n=codes_n,
        features=ArrayFeatures(rows.values_nd[at]) if rows.values_nd is not None else streamed(rows.features),
        kept_n=rows.wishes.keep[at] if rows.wishes.keep.any() else None,
        probabilities=streamed(rows.probabilities),
    )
    return EligibleRows(candidates, positions)
