"""Dual: difficulty times uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prune_cli.core.params import param
from prune_cli.methods.scores.record.needs import RecordNeeds, RecordParams, within
from prune_cli.methods.scores.record.records import FloatArray, Record
from prune_cli.methods.scores.record.windows import first_epochs, mean_of_windows, window_size

EPOCHS = 30
"""Passes that count where the training has them, as published."""


@dataclass(frozen=True)
class DualParams(RecordParams):
    """Parameters of `dual_scores`."""

    epochs: int | None = param(None, "passes that count, from the first; none: 30, or all there are", low=2)
    window: int | None = param(None, "passes in a window; none: a third of them, 2 to 10", low=2)
    terms: bool = param(False, "also return the mean probability of the label, which the selection dual draws by")

    def needs(self, epochs: int) -> RecordNeeds:
        """Return the first passes of a training."""
        return RecordNeeds("train", within("dual", "epochs", self.epochs or min(epochs, EPOCHS), epochs))


def dual_scores(record: Record, params: DualParams = DualParams()) -> dict[str, FloatArray]:
    """Return difficulty times uncertainty: the mean over windows of ``std(p_y) (1 - mean(p_y))``, early in training.

    Args:
        record: needs ``p_label`` in training.
        params: see `DualParams`.
    Returns:
        ``dual`` (N,) float64, 0 to 1/2; higher is harder. With ``terms`` also ``dual_mean`` (N,) float64, 0 to 1, the mean
        over these epochs of the label's probability; higher is easier.
    Raises:
        InputError: fewer passes than asked for, or than a window.
    Cost:
        N T J, J arrays of N numbers.
    Source:
        Cho et al., ICML 2025, arXiv:2502.06905: T = 30, J = 10. The deviation is divided by J, which scales all alike.
    """
    epochs = first_epochs(record, params.epochs, EPOCHS, "dual")
    window = window_size(epochs, params.window)

    def product(p_jn: FloatArray) -> FloatArray:
        return np.asarray(p_jn.std(axis=0) * (1.0 - p_jn.mean(axis=0)))

    found = {"dual": mean_of_windows(record, "dual", epochs, window, product)}
    if params.terms:
        mean_of_one = mean_of_windows(record, "dual", epochs, 1, lambda p_1n: np.asarray(p_1n[0]))
        found["dual_mean"] = mean_of_one
    return found
