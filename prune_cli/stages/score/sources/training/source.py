"""Scores of trainings that are done for them, each in a run folder of its own."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.rng import stream_seed
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.dynamics import DYNAMICS, RecordFile, join_records
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.runs.folder import RunBuilder, read_run, same_settings
from prune_cli.methods.registry.lookup import TRAINING
from prune_cli.methods.training.data.inputs import Inputs
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.methods.training.networks.architectures import default_architecture
from prune_cli.stages.score.contract import Figures, Job, Scored, Scoring, Source, SourceFacts
from prune_cli.stages.score.reading import InputColumn, Reading
from prune_cli.stages.score.request import RECIPE
from prune_cli.stages.score.sources.features import class_values, embed, keep_features, score_features
from prune_cli.stages.score.sources.files import score_records
from prune_cli.stages.score.sources.training.spec import TrainingSpec
from prune_cli.stages.train.observer import RunObserver
from prune_cli.stages.train.run import TrainingRun, run_data, train_run


def train_runs(spec: TrainingSpec, dataset: Dataset, inputs: Inputs, scoring: Scoring) -> list[Path]:
    """Train as often as asked, each into a run folder of its own, and return those; whole ones are taken as they are.

    A training that was interrupted goes on from its checkpoint; one of other settings is done anew.

    Args:
        scoring: these rows; the run folders are in its folder.
    """
    scoring.folder.mkdir(parents=True, exist_ok=True)
    data = run_data(dataset, inputs, scoring.rows, dataset.labels)
    finals = []
    for number in range(spec.params.runs):
        seed = spec.runtime.seed if number == 0 else stream_seed(spec.runtime.seed, "run", number) >> 16
        settings = {**spec.settings(dataset, len(scoring.rows)), "seed": seed}
        final = scoring.folder / f"run-{number}"
        finals.append(final)
        if final.is_dir() and same_settings(read_run(final), settings):
            continue
        builder = RunBuilder(final, force=True, resume=True, settings=settings)
        try:
            found = builder.open()
        except InputError:
            shutil.rmtree(builder.building)
            found = builder.open()
        if found is not None:
            scoring.note(f"run {number + 1} goes on from its checkpoint")
        run = TrainingRun(
            recipe="standard",
            architecture=spec.architecture,
            params=spec.recipe,
            budget=Budget(epochs=spec.params.epochs),
            runtime=dataclasses.replace(spec.runtime, seed=seed),
            settings=settings,
            facts={"input": dataset.kind, "subset": None},
            provenance=scoring.provenance,
            stop_epoch=spec.stop_epoch,
            run=number,
            watch=spec.watch,
        )
        task = "training" if spec.params.runs == 1 else f"training {number + 1} of {spec.params.runs}"
        with builder.building_on():
            observer = RunObserver(
                builder, found, scoring.progress, checkpoint_seconds=spec.checkpoint_seconds, task=task, events=spec.events_of(number)
            )
            train_run(run, data, observer)
        for text in observer.notes:
            scoring.note(text)
    return finals


@dataclass(frozen=True)
class TrainingSource(Source[InputColumn]):
    """Trainings of a network on the data."""

    spec: TrainingSpec
    input_shape: tuple[int, ...]
    input_bytes: int

    def plan(self, figures: Figures) -> Figures:
        dataset, params = self.job.dataset, self.spec.params
        training = self.spec.figures(self.input_shape, len(dataset), len(dataset.labels.classes))
        training["peak_memory_bytes"] += len(dataset) * self.input_bytes
        both = {**figures, **training}
        for name in ("flops", "disk_bytes"):
            both[name] = figures.get(name, 0) + training[name]
        both["peak_memory_bytes"] = max(figures.get("peak_memory_bytes", 0), training["peak_memory_bytes"])
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
        files = [final / DYNAMICS for final in finals]
        records = [RecordFile(ParquetSource(str(file))).of_run(0) for file in files]
        scored = score_records(job.request, records, "training")
        scored.facts = {"epochs": self.spec.stop_epoch, "runs": self.spec.params.runs}
        if (output := job.options.save_dynamics) is not None:
            scored.files.append(lambda provenance: join_records(files, output, provenance))
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
