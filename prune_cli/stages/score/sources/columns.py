"""Scores of what is in the data already: probabilities, and embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prune_cli.methods.scores.record.records import record_of_probabilities
from prune_cli.stages.score.contract import Figures, Job, Loaded, Origin, Scored, Scoring
from prune_cli.stages.score.plan import look_figures
from prune_cli.stages.score.reading import Column, Reading
from prune_cli.stages.score.sources.features import score_features
from prune_cli.stages.score.sources.record_scores import score_records


@dataclass(frozen=True)
class Probabilities:
    """The probabilities that were read."""

    job: Job
    column: Column[np.ndarray]

    def scores(self, scoring: Scoring) -> Scored:
        """Return the scores of the record of one look that they make."""
        record = record_of_probabilities(self.column.values, scoring.labels.codes_n)
        return score_records(self.job.request, [record], "prob")


@dataclass(frozen=True)
class Embeddings:
    """The embeddings that were read."""

    job: Job
    column: Column[np.ndarray]

    def scores(self, scoring: Scoring) -> Scored:
        """Return the scores that go by features."""
        return score_features(self.job, scoring, self.column.values)


@dataclass(frozen=True)
class ColumnsRead:
    """The columns that were read."""

    parts: tuple[Loaded, ...]

    def scores(self, scoring: Scoring) -> Scored:
        """Return the scores of each."""
        scored = Scored()
        for part in self.parts:
            scored.add(part.scores(scoring))
        return scored


@dataclass(frozen=True)
class ColumnSource:
    """The columns ``prob`` and that of embeddings."""

    job: Job

    def plan(self, figures: Figures) -> Figures:
        """Return what reading them costs, where nothing costs more."""
        of_features = ", ".join(self.job.request.of("features"))
        of_prob = self.job.request.record == "prob"
        return look_figures(self.job, figures, "the column 'prob'" if of_prob else f"{of_features} of the embeddings")

    def require_room(self, figures: Figures) -> None:
        """Do nothing: columns that take much are mapped from a file."""

    def origin(self) -> Origin:
        """Return nothing beside the data."""
        return Origin()

    def load(self, reading: Reading) -> ColumnsRead:
        """Return those that are wanted."""
        parts: list[Loaded] = []
        if self.job.request.record == "prob":
            parts.append(Probabilities(self.job, reading.probabilities()))
        if self.job.request.features == "embedding":
            parts.append(Embeddings(self.job, reading.embeddings()))
        return ColumnsRead(tuple(parts))
