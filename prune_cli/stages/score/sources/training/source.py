"""Scores of trainings that are done for them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.runs.folder import read_run
from prune_cli.methods.registry.lookup import TRAINING
from prune_cli.methods.training.networks.architectures import default_architecture
from prune_cli.stages.score.contract import Figures, Job, Scored, Scoring, Source, SourceFacts
from prune_cli.stages.score.reading import InputColumn, Reading
from prune_cli.stages.score.request import RECIPE
from prune_cli.stages.score.sources.features import class_values, embed, keep_features, score_features
from prune_cli.stages.score.sources.record_scores import score_records
from prune_cli.stages.score.sources.training.runs import records_of_runs, save_dynamics, train_runs
from prune_cli.stages.score.sources.training.spec import TrainingSpec


@dataclass(frozen=True)
class TrainingSource(Source[InputColumn]):
    """Trainings of a network on the data.

    Args:
        job: what is scored.
        spec: the training.
        input_shape: of a sample.
        input_bytes: of a sample.
    """

    spec: TrainingSpec
    input_shape: tuple[int, ...]
    input_bytes: int

    def plan(self, figures: Figures) -> Figures:
        dataset, params = self.job.dataset, self.spec.params
        training = self.spec.figures(self.input_shape, len(dataset), len(dataset.labels.classes))
        training["peak_memory_bytes"] += len(dataset) * self.input_bytes
        both = _added(figures, training)
        both["passes_over_data"] = params.runs * self.spec.stop_epoch
        how = f"{params.runs} training(s) of {self.spec.architecture}"
        both["algorithm"] = f"{figures['algorithm']}; {how}" if "algorithm" in figures else how
        return both

    def require_room(self, figures: Figures) -> None:
        self.spec.require_memory(len(self.job.dataset), len(self.job.dataset.labels.classes))

    def origin(self) -> SourceFacts:
        spec = self.spec
        stated = {
            **dataclasses.asdict(spec.params),
            "stop_epoch": spec.stop_epoch,
            "architecture": spec.architecture,
            "batch_size": spec.runtime.batch_size,
            RECIPE: dataclasses.asdict(spec.recipe),
        }
        return SourceFacts({TRAINING: stated})

    def load(self, reading: Reading) -> InputColumn:
        return reading.inputs()

    def scores(self, loaded: InputColumn, scoring: Scoring) -> Scored:
        """Train, and return the scores of the records; of the first run's features where they are wanted."""
        inputs, job = loaded.values, self.job
        if isinstance(inputs, np.ndarray) and inputs.dtype == np.float64:
            inputs = inputs.astype(np.float32)
        finals = train_runs(self.spec, job.dataset, inputs, scoring)
        scored = score_records(job.request, records_of_runs(finals), "training")
        scored.facts = {"epochs": self.spec.stop_epoch, "runs": self.spec.params.runs}
        if (output := job.options.save_dynamics) is not None:
            scored.files.append(lambda provenance: save_dynamics(finals, output, provenance))
        if job.request.features == "training":
            run = read_run(finals[0])
            found = embed(run.tensors, run.model, inputs, class_values(job.dataset), job, scoring)
            scored.add(score_features(job, scoring, found.embeddings_nd))
            scored.add(keep_features(job, scoring, found))
        return scored


def training_source(job: Job) -> TrainingSource:
    """Return the training that the scores of a job share."""
    options, request = job.options, job.request
    few = np.arange(min(len(job.dataset), 64))
    head = job.dataset.load_inputs(Ledger(), rows=few, as_float32=True)
    spec = TrainingSpec(
        params=request.training,
        recipe=request.params[RECIPE],
        architecture=options.architecture or default_architecture(head.shape[1:]),
        methods=request.records,
        save_dynamics=options.save_dynamics is not None,
        full=options.save_dynamics is not None or not request.records,
        runtime=options.runtime,
        checkpoint_seconds=options.checkpoint_seconds,
        events=job.events,
    )
    return TrainingSource(job, spec, head.shape[1:], head[0].nbytes)


def _added(ours: Figures, theirs: Figures) -> dict[str, Any]:
    both = {**ours, **theirs}
    for name in ("flops", "disk_bytes"):
        both[name] = ours.get(name, 0) + theirs.get(name, 0)
    both["peak_memory_bytes"] = max(ours.get("peak_memory_bytes", 0), theirs.get("peak_memory_bytes", 0))
    return both
