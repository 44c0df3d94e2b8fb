"""Which labels are known to be wrong, where the data say what is true: for evaluation alone."""

from __future__ import annotations

import numpy as np

from prune_cli.io.ids.columns import Labels
from prune_cli.stages.evaluate.relabels import label_names


def wrong_labels(labels: Labels, true: Labels | None) -> np.ndarray | None:
    """Return (N,) float64: 1 where a label is wrong, 0 where it is right, NaN where it or the truth is missing.

    None where nothing says what is true.
    """
    if true is None:
        return None
    wrong: np.ndarray = (label_names(labels) != label_names(true)).astype(np.float64)
    wrong[(labels.codes_n < 0) | (true.codes_n < 0)] = np.nan
    return wrong


def noise_share(wrong_n: np.ndarray | None, rows: np.ndarray | None = None) -> float | None:
    """Return the share of wrong labels among those that are known, of some rows (a mask or positions) or of all.

    None where none is known.

    >>> noise_share(np.array([1.0, 0.0, np.nan])), noise_share(np.array([1.0, np.nan]), np.array([1])), noise_share(None)
    (0.5, None, None)
    """
    if wrong_n is None:
        return None
    wrong = wrong_n if rows is None else wrong_n[rows]
    wrong = wrong[np.isfinite(wrong)]
    return float(wrong.mean()) if len(wrong) else None
