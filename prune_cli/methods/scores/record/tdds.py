"""The temporal dual-depth score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prune_cli.core.params import param
from prune_cli.methods.scores.record.needs import RecordNeeds, RecordParams, within
from prune_cli.methods.scores.record.records import FloatArray, Record
from prune_cli.methods.scores.record.windows import first_epochs, sliding_windows, window_size

EPOCHS = 90
"""Passes that count where the training has them, as published."""


@dataclass(frozen=True)
class TddsParams(RecordParams):
    """Parameters of `tdds_scores`."""

    epochs: int | None = param(None, "passes that count, from the first; none: 90, or all there are", low=3)
    window: int | None = param(None, "changes in a window; none: a third of the passes, 2 to 10", low=2)
    decay: float = param(0.9, "weight of the newest window, each older one 1 - decay times less", low=1e-6, high=1.0)

    def needs(self, epochs: int) -> RecordNeeds:
        """Return the first passes of a training, and how the probabilities moved between them."""
        wanted = within("tdds", "epochs", self.epochs or min(epochs, EPOCHS), epochs)
        return RecordNeeds("train", wanted, prob_change=True)


def tdds_scores(record: Record, params: TddsParams = TddsParams()) -> dict[str, FloatArray]:
    r"""Return the temporal dual-depth score: how unevenly a sample's probabilities move while it is learned.

    With the change ``d_t = sum_c |p_{t+1} (log p_{t+1} - log p_t)|`` between two passes, each window of K changes has
    the norm ``R_t = sqrt(sum (d - mean d)^2)``, and the score is ``sum_t decay (1 - decay)^(last - t) R_t``.

    Args:
        record: needs ``prob_change`` in training.
        params: see `TddsParams`.
    Returns:
        ``tdds`` (N,) float64, 0 or more; higher is harder.
    Raises:
        InputError: fewer passes than asked for, or than a window and one.
    Cost:
        N T K, K arrays of N numbers.
    Source:
        Zhang et al., CVPR 2024, arXiv:2311.13613. The published passes and windows depend on the share kept (90 and 10
        for one of them); the decay is recalled, not confirmed against the paper's text.
    """
    epochs = first_epochs(record, params.epochs, EPOCHS, "tdds")
    window = window_size(epochs, params.window)
    score_n = np.zeros(record.n_samples)
    for changes_kn in sliding_windows(record, "tdds", "prob_change", epochs, window, first=1):
        norm_n = np.sqrt(((changes_kn - changes_kn.mean(axis=0)) ** 2).sum(axis=0))
        score_n = (1.0 - params.decay) * score_n + params.decay * norm_n
    return {"tdds": score_n}
