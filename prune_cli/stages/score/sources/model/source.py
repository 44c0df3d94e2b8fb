"""Scores of a network that is trained already: it looks at the samples here, or in blocks on an engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from prune_cli.io.ids.columns import Labels
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.runs.finished import BlockFolder
from prune_cli.methods.registry.lookup import TRAINING
from prune_cli.methods.scores.record.grand import gradients_of
from prune_cli.methods.scores.record.needs import Variant
from prune_cli.methods.scores.record.records import record_of_logits
from prune_cli.methods.training.data.inputs import Inputs
from prune_cli.methods.training.networks.predict import Look, Prediction, predict
from prune_cli.stages.frame.engine import open_engine
from prune_cli.stages.score.contract import PACKAGES, Figures, Job, Scored, Scoring, Source, SourceFacts
from prune_cli.stages.score.output import look_figures
from prune_cli.stages.score.reading import InputColumn, Reading
from prune_cli.stages.score.sources.features import class_values, embed, features_of, is_augmented, keep_features, score_features
from prune_cli.stages.score.sources.files import score_records
from prune_cli.stages.score.sources.model.blocks import look_on_engine
from prune_cli.stages.score.sources.model.networks import Model, Network
from prune_cli.stages.score.sources.training.spec import wanted_gradients


@dataclass(frozen=True)
class Looked:
    """What a network said of the samples, on an engine."""

    model: Model
    prediction: Prediction


@dataclass(frozen=True)
class ModelSource(Source[InputColumn | Looked]):
    """A network that exists."""

    network: Network

    def plan(self, figures: Figures) -> Figures:
        return look_figures(self.job, figures, "one forward pass a sample")

    def origin(self) -> SourceFacts:
        options, request = self.job.options, self.job.request
        augmented = {TRAINING: {"augment": request.training.augment}} if request.features == "model" else {}
        name = str(options.model)
        return SourceFacts({**augmented, "model": name if options.weights else Path(name).name}, self.network.inputs)

    def load(self, reading: Reading) -> InputColumn | Looked:
        """Return the inputs to look at; or what it says of them, where an engine reads and looks."""
        if not looks_elsewhere(self.job):
            return reading.inputs()
        few = np.arange(min(len(self.job.dataset), 64))
        head = self.job.dataset.load_inputs(Ledger(), rows=few, channels=self.job.channels)
        model = self.network.fit(head.shape[1:])
        return Looked(model, _look_elsewhere(self.job, model, reading))

    def scores(self, loaded: InputColumn | Looked, scoring: Scoring) -> Scored:
        """Look, unless that is done, and return the scores."""
        job, scored = self.job, Scored()
        looked = loaded if isinstance(loaded, Looked) else self._look(loaded.values, scoring)
        model, prediction = looked.model, looked.prediction
        codes_n = _codes(job, model, scoring.labels)
        if codes_n is not None and job.request.records:
            record = record_of_logits(prediction.logits_nc, codes_n, prediction.gradient_norms_n)
            scored = score_records(job.request, [record], "model")
        if job.request.features != "model":
            return scored
        classes = class_values(job.dataset) if codes_n is not None else None
        if model.classes is not None:
            classes = pa.array(list(model.classes))
        found = None
        if is_augmented(job) and not isinstance(loaded, Looked):  # the record is of the pictures as they are
            found = embed(model.tensors, model.model, loaded.values, classes, job, scoring)
        found = found or features_of(prediction, classes)
        scored.add(score_features(job, scoring, found.embeddings_nd))
        scored.add(keep_features(job, scoring, found))
        return scored

    def _look(self, inputs: Inputs, scoring: Scoring) -> Looked:
        job, model, variant = self.job, self.network.fit(tuple(inputs.shape[1:])), _variant(self.job)
        prediction = predict(
            model.tensors,
            model.model,
            inputs,
            runtime=job.options.runtime,
            look=Look(
                embeddings=job.request.features == "model",
                gradient_norms=None if variant is None else gradients_of(variant),
                labels_n=_codes(job, model, scoring.labels),
                places_n=scoring.rows,
            ),
            progress=scoring.progress,
            note=scoring.note,
        )
        return Looked(model, prediction)


def looks_elsewhere(job: Job) -> bool:
    """Return whether the network looks at the samples on the engine: as they are, and nothing else needs them here."""
    request = job.request
    whole = request.kernels or request.of("features") or is_augmented(job)
    return job.options.runtime.engine != "local" and not whole


def _codes(job: Job, model: Model, labels: Labels) -> np.ndarray | None:
    return model.codes(labels, job.dataset.options.location, job.request.records)


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
            _codes(job, model, dataset.labels),
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
