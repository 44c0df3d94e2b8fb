"""Forgetting: how often right became wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prune_cli.methods.scores.record.needs import RecordNeeds, RecordParams
from prune_cli.methods.scores.record.records import FloatArray, Record, require_training


@dataclass(frozen=True)
class ForgettingParams(RecordParams):
    """Parameters of `forgetting_scores`: none."""

    def needs(self, epochs: int) -> RecordNeeds:
        """Return all of a training."""
        return RecordNeeds("train", epochs)


def forgetting_scores(record: Record, params: ForgettingParams = ForgettingParams()) -> dict[str, FloatArray]:
    """Return how often each sample was right when presented and wrong the next time.

    A sample that was never right counts as the number of passes, T, which is more than any other can reach.

    Args:
        record: needs ``correct`` in training.
    Returns:
        ``forgetting`` (N,) float64, whole numbers from 0 to T; higher is harder. Many are equal.
    Raises:
        InputError: the record has no training.
    Cost:
        N T.
    Source:
        Toneva et al., ICLR 2019, arXiv:1812.05159.
    Example:
        Right, wrong, right, wrong: forgotten twice. Never right in four passes: 4.

        >>> from prune_cli.methods.scores.record.records import ArrayRecord
        >>> record = ArrayRecord({"correct": np.array([[1, 0], [0, 0], [1, 0], [0, 0]])}, {})
        >>> forgetting_scores(record)["forgetting"].tolist()
        [2.0, 4.0]
    """
    require_training(record, "forgetting", 2)
    forgotten_n = np.zeros(record.n_samples)
    before_n = np.zeros(record.n_samples, bool)
    learned_n = before_n.copy()
    for correct in record.training("correct"):
        correct_n = np.asarray(correct) > 0.5
        forgotten_n += before_n & ~correct_n
        learned_n |= correct_n
        before_n = correct_n
    forgotten_n[~learned_n] = record.n_epochs
    return {"forgetting": forgotten_n}
