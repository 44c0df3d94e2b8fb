"""The area under the margin."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from prune_cli.core.params import param
from prune_cli.methods.scores.record.needs import RecordNeeds, RecordParams, within
from prune_cli.methods.scores.record.records import FloatArray, Record, require_training


@dataclass(frozen=True)
class AumParams(RecordParams):
    """Parameters of `aum_scores`."""

    epochs: int | None = param(None, "passes that count, from the first; none: all", low=1)

    def needs(self, epochs: int) -> RecordNeeds:
        """Return the first passes of a training."""
        return RecordNeeds("train", within("aum", "epochs", self.epochs or epochs, epochs))


def aum_scores(record: Record, params: AumParams = AumParams()) -> dict[str, FloatArray]:
    """Return the area under the margin: the mean over the passes of ``z_y - max_{j != y} z_j``, of logits.

    Args:
        record: needs ``margin_logit`` in training.
        params: see `AumParams`.
    Returns:
        ``aum`` (N,) float64, any sign; higher is easier.
    Raises:
        InputError: the record has no training, or fewer passes than asked for.
    Cost:
        N T.
    Source:
        Pleiss et al., NeurIPS 2020, arXiv:2001.10528. The mean, not the sum. Deviation: the authors stop before the learning rate is
        dropped for the first time, while a network has not yet learned wrong labels by heart; here the rate falls along a cosine and
        there is no such moment, so that all passes count unless ``epochs`` says how many.
    """
    epochs = record.n_epochs if params.epochs is None else params.epochs
    require_training(record, "aum", epochs)
    total_n = np.zeros(record.n_samples)
    for margin_n in itertools.islice(record.training("margin_logit"), epochs):
        total_n += margin_n
    return {"aum": total_n / epochs}
