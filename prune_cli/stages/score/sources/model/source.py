"""Scores of a network that is trained already: it looks at the samples here, or in blocks on an engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.runs.finished import BlockFolder
from prune_cli.methods.registry.lookup import TRAINING
from prune_cli.methods.scores.record.grand import gradients_of
from prune_cli.methods.scores.record.needs import Variant
from prune_cli.methods.scores.record.records import record_of_logits
from prune_cli.methods.training.networks.predict import Look, Prediction, predict
from prune_cli.stages.frame.engine import open_engine
from prune_cli.stages.score.contract import PACKAGES, Figures, Job, Loaded, Origin, Scored, Scoring
from prune_cli.stages.score.plan import look_figures
from prune_cli.stages.score.reading import InputColumn, Reading
from prune_cli.stages.score.sources.features import (
    Features,
    class_values,
    embed,
    features_of,
    is_augmented,
    keep_features,
    score_features,
)
from prune_cli.stages.score.sources.model.blocks import look_on_engine
from prune_cli.stages.score.sources.model.networks import Model, Network
from prune_cli.stages.score.sources.record_scores import score_records
from prune_cli.stages.score.sources.training.spec import wanted_gradients


@dataclass(frozen=True)
class ModelSource:
    """A network that exists.

    Args:
        job: what is scored.
        network: it.
    """

    job: Job
    network: Network

    def plan(self, figures: Figures) -> Figures:
        """Return what a look costs, where nothing costs more."""
        return look_figures(self.job, figures, "one forward pass a sample")

    def require_room(self, figures: Figures) -> None:
        """Do nothing: batches are small."""

    def origin(self) -> Origin:
        """Return the network, and what its features are taken of."""
        options, stated = self.job.options, {}
        if self.job.request.features == "model":
            stated[TRAINING] = {"augment": self.job.request.training.augment}
        name = str(options.model)
        return Origin({**stated, "model": name if options.weights else Path(name).name}, self.network.inputs)

    def load(self, reading: Reading) -> Loaded:
        """Return the inputs to look at; or what it says of them, where an engine reads and looks."""
        if not looks_elsewhere(self.job):
            return ModelInputs(self.job, self.network, reading.inputs())
        head = self.job.dataset.load_inputs(
            Ledger(), rows=np.arange(min(len(self.job.dataset), 64)), channels=self.job.channels
        )
        model = self.network.fit(head.shape[1:])
        return Looked(self.job, model, _look_elsewhere(self.job, model, reading))


@dataclass(frozen=True)
class ModelInputs:
    """What a network looks at."""

    job: Job
    network: Network
    column: InputColumn

    def scores(self, scoring: Scoring) -> Scored:
        """Look, and return the scores."""
        job, inputs = self.job, self.column.values
        model = self.network.fit(tuple(inputs.shape[1:]))
        variant = _variant(job)
        prediction = predict(
            model.tensors,
            model.model,
            inputs,
            runtime=job.options.runtime,
            look=Look(
                embeddings=job.request.features == "model",
                gradient_norms=None if variant is None else gradients_of(variant),
                labels_n=model.codes(scoring.labels, job.dataset.options.location, job.request.records),
                places_n=scoring.rows,
            ),
            progress=scoring.progress,
            note=scoring.note,
        )
        features = None
        if job.request.features == "model" and is_augmented(job):  # the record is of the pictures as they are
            classes = _classes(job, model, scoring)
            features = embed(model.tensors, model.model, inputs, classes, job, scoring)
        return _scored(job, model, prediction, scoring, features)


@dataclass(frozen=True)
class Looked:
    """What a network said of the samples."""

    job: Job
    model: Model
    prediction: Prediction

    def scores(self, scoring: Scoring) -> Scored:
        """Return the scores."""
        return _scored(self.job, self.model, self.prediction, scoring)


def looks_elsewhere(job: Job) -> bool:
    """Return whether the network looks at the samples on the engine: as they are, and nothing else needs them here."""
    request = job.request
    whole = request.kernels or request.of("features") or is_augmented(job)
    return job.options.runtime.engine != "local" and not whole


def _scored(
    job: Job, model: Model, prediction: Prediction, scoring: Scoring, features: Features | None = None
) -> Scored:
    scored = Scored()
    codes_n = model.codes(scoring.labels, job.dataset.options.location, job.request.records)
    if codes_n is not None and job.request.records:
        record = record_of_logits(prediction.logits_nc, codes_n, prediction.gradient_norms_n)
        scored = score_records(job.request, [record], "model")
    if job.request.features == "model":
        found = features or features_of(prediction, _classes(job, model, scoring))
        scored.add(score_features(job, scoring, found.embeddings_nd))
        scored.add(keep_features(job, scoring, found))
    return scored


def _classes(job: Job, model: Model, scoring: Scoring) -> pa.Array | None:
    """Return the values of the classes that the network tells apart, where they are known."""
    if model.classes is not None:
        return pa.array(list(model.classes))
    known = model.codes(scoring.labels, job.dataset.options.location, {}) is not None
    return class_values(job.dataset) if known else None


def _variant(job: Job) -> Variant | None:
    gradients = wanted_gradients({name: params.needs(0) for name, params in job.request.records.items()})
    return gradients.variant if gradients is not None else None


def _look_elsewhere(job: Job, model: Model, reading: Reading) -> Prediction:
    dataset, runtime = job.dataset, job.options.runtime
    embeddings, variant = job.request.features == "model", _variant(job)
    identity = {
        "inputs": [i.sha256 for i in (*dataset.source.inputs, *model.inputs)],
        "versions": Provenance("score", "", {}, 0, (), packages=PACKAGES).to_dict()["versions"],
        "data": dataset.options.identity(),
        "precision": runtime.precision,
        "looks": [embeddings, variant],
    }
    with open_engine(runtime) as engine:
        rows, prediction = look_on_engine(
            dataset,
            model,
            model.codes(dataset.labels, dataset.options.location, job.request.records),
            reading.within,
            reading.ledger,
            engine,
            BlockFolder(reading.folder, identity),
            runtime,
            embeddings=embeddings,
            gradients=variant,
            progress=reading.progress,
        )
    reading.looked_at(rows)
    return prediction
