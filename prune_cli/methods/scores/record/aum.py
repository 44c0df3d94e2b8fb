"""The area under the margin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prune_cli.methods.scores.record.needs import RecordNeeds, RecordParams
from prune_cli.methods.scores.record.records import FloatArray, Record, require_training


@dataclass(frozen=True)
class AumParams(RecordParams):
    """Parameters of `aum_scores`: none."""

    def needs(self, epochs: int) -> RecordNeeds:
        """Return all of a training."""
        return RecordNeeds("train", epochs)


def aum_scores(record: Record, params: AumParams = AumParams()) -> dict[str, FloatArray]:
    """Return the area under the margin: the mean over the passes of ``z_y - max_{j != y} z_j``, of logits.

    Args:
        record: needs ``margin_logit`` in training.
    Returns:
        ``aum`` (N,) float64, any sign; higher is easier.
    Raises:
        InputError: the record has no training.
    Cost:
        N T.
    Source:
        Pleiss et al., NeurIPS 2020, arXiv:2001.10528. The mean, not the sum.
    """
    require_training(record, "aum", 1)
    total_n = np.zeros(record.n_samples)
    for margin_n in record.training("margin_logit"):
        total_n += margin_n
    return {"aum": total_n / record.n_epochs}
