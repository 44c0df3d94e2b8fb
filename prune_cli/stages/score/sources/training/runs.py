"""The trainings that scores share, each in a run folder of its own."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from prune_cli.core.errors import InputError
from prune_cli.core.rng import stream_seed
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.dynamics import DYNAMICS, RecordFile, join_records
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.runs.folder import RunBuilder, read_run, same_settings
from prune_cli.methods.scores.record.records import Record
from prune_cli.methods.training.data.inputs import Inputs
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.stages.score.contract import Scoring
from prune_cli.stages.score.sources.training.spec import TrainingSpec
from prune_cli.stages.train.observer import RunObserver
from prune_cli.stages.train.run import TrainingRun, run_data, train_run


def train_runs(spec: TrainingSpec, dataset: Dataset, inputs: Inputs, scoring: Scoring) -> list[Path]:
    """Train as often as asked, each into a run folder of its own, and return those; whole ones are taken as they are.

    A training that was interrupted goes on from its checkpoint; one of other settings is done anew.

    Args:
        spec: see `TrainingSpec`.
        dataset: the whole data set.
        inputs: of the good rows.
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
                builder,
                found,
                scoring.progress,
                checkpoint_seconds=spec.checkpoint_seconds,
                task=task,
                events=spec.events_of(number),
            )
            train_run(run, data, observer)
        for text in observer.notes:
            scoring.note(text)
    return finals


def records_of_runs(finals: Sequence[Path]) -> list[Record]:
    """Return the record of each run folder."""
    return [RecordFile(ParquetSource(str(final / DYNAMICS))).of_run(0) for final in finals]


def save_dynamics(finals: Sequence[Path], output: str, provenance: Provenance) -> None:
    """Write the records of all runs as one file."""
    join_records([final / DYNAMICS for final in finals], output, provenance)
