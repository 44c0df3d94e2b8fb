"""Scores of what is in the data already: probabilities, and embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from prune_cli.methods.scores.record.records import record_of_probabilities
from prune_cli.stages.score.contract import Figures, Scored, Scoring, Source
from prune_cli.stages.score.plan import look_figures
from prune_cli.stages.score.reading import Column, Reading
from prune_cli.stages.score.sources.features import score_features
from prune_cli.stages.score.sources.record_scores import score_records

Columns: TypeAlias = tuple[Column[np.ndarray] | None, Column[np.ndarray] | None]
"""Probabilities and embeddings, each where scores go by them."""


@dataclass(frozen=True)
class ColumnSource(Source[Columns]):
    """The columns ``prob`` and that of embeddings."""

    def plan(self, figures: Figures) -> Figures:
        of_features = ", ".join(self.job.request.of("features"))
        of_prob = self.job.request.record == "prob"
        return look_figures(self.job, figures, "the column 'prob'" if of_prob else f"{of_features} of the embeddings")

    def load(self, reading: Reading) -> Columns:
        request = self.job.request
        probabilities = reading.probabilities() if request.record == "prob" else None
        return probabilities, reading.embeddings() if request.features == "embedding" else None

    def scores(self, loaded: Columns, scoring: Scoring) -> Scored:
        (probabilities, embeddings), scored = loaded, Scored()
        if probabilities is not None:
            record = record_of_probabilities(probabilities.values, scoring.labels.codes_n)
            scored.add(score_records(self.job.request, [record], "prob"))
        if embeddings is not None:
            scored.add(score_features(self.job, scoring, embeddings.values))
        return scored
