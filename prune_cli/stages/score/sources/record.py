"""Where ``prune score`` takes its records and features from: a training, a network that exists, columns of the data."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress
from prune_cli.core.rng import stream_seed
from prune_cli.core.runtime import Runtime, format_size
from prune_cli.io.ids.columns import ID, Labels
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.dynamics import DYNAMICS, RecordFile, join_records
from prune_cli.io.parquet.provenance import InputFile, Provenance, hash_stream
from prune_cli.io.parquet.tables import ParquetSource, write_table
from prune_cli.io.runs.events import EventFolder
from prune_cli.io.runs.folder import RunBuilder, read_run, read_safetensors, run_files, same_settings
from prune_cli.methods.registry.method import Method
from prune_cli.methods.scores.record.dynamics import (
    Record,
    TrainingParams,
    early_epoch,
    epochs_needed,
)
from prune_cli.methods.scores.record.grand import gradient_norms, last_layer_gradient_norms
from prune_cli.methods.training.data.inputs import Inputs
from prune_cli.methods.training.loop.recording import RecordSink, Watch, record_bytes
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.methods.training.networks.predict import Look, Prediction, predict
from prune_cli.methods.training.networks.weights import pretrained_model, tensors_of_torch_file
from prune_cli.stages.train.observer import RunObserver
from prune_cli.stages.train.run import TrainingRun, run_data, train_run

NEED_TRAINING = ("forgetting", "aum", "dyn_unc", "dual", "tdds")
"""Scores that no single look at the samples can give."""

FROM_PROBABILITIES = ("el2n", "loss", "margin", "entropy", "confidence")
"""Scores that the probabilities of any model give."""

RecordFrom = Literal["file", "model", "training", "prob"]
FeaturesFrom = Literal["model", "training", "embedding", "kernel"]


@dataclass(frozen=True)
class TrainingSpec:
    """The training that scores share.

    Args:
        params: see `TrainingParams`.
        recipe: parameters of ``standard``.
        architecture: of the network.
        methods: scores of the record -> their parameters.
        save_dynamics: whether all of the record is wanted.
        full: whether to train to the end, whatever the scores need.
        runtime: with the seed of the first run.
        checkpoint_seconds: time between checkpoints.
        events: where the history also goes; of several runs, in a folder each below it.
    """

    params: TrainingParams
    recipe: Any
    architecture: str
    methods: Mapping[str, Any]
    save_dynamics: bool
    full: bool
    runtime: Runtime
    checkpoint_seconds: float
    events: EventFolder | None = None

    @property
    def stop_epoch(self) -> int:
        """Return the pass after which nothing that is wanted needs more training."""
        if self.full:
            return self.params.epochs
        return max(epochs_needed(m, p, self.params.epochs)[0] for m, p in self.methods.items())

    @property
    def prob_change(self) -> bool:
        """Return whether the record keeps how probabilities moved."""
        return "tdds" in self.methods or self.save_dynamics

    def looks(self) -> tuple[frozenset[int], bool]:
        """Return the passes after which un-augmented samples are looked at, and whether they are at the end."""
        needs = [epochs_needed(m, p, self.params.epochs) for m, p in self.methods.items()]
        looks = {epoch for _, epochs, _ in needs for epoch in epochs}
        if self.save_dynamics:
            looks.add(early_epoch(self.params.epochs))
        return frozenset(looks), self.save_dynamics or any(at_end for _, _, at_end in needs)

    def watch(self, sink: RecordSink) -> Watch:
        """Return what the training records."""
        looks, at_end = self.looks()
        grand = self.methods.get("grand")
        return Watch(
            sink,
            eval_epochs=looks,
            at_end=at_end,
            prob_change=self.prob_change,
            gradient_norms=None if grand is None else gradients_of(grand.variant),
            gradient_epochs=frozenset()
            if grand is None
            else frozenset(epochs_needed("grand", grand, self.params.epochs)[1]),
        )

    def events_of(self, run: int) -> EventFolder | None:
        """Return where the history of one run goes."""
        if self.events is None or self.params.runs == 1:
            return self.events
        return EventFolder(self.events.path / f"run-{run}")

    def settings(self, dataset: Dataset, n_rows: int) -> dict[str, Any]:
        """Return everything that decides the weights and the record of a run, but for its seed."""
        looks, at_end = self.looks()
        grand = self.methods.get("grand")
        return {
            "recipe": "standard",
            "architecture": self.architecture,
            "parameters": dataclasses.asdict(self.recipe),
            "budget": {"epochs": self.params.epochs, "steps": None},
            "stop_epoch": self.stop_epoch,
            "looks": [*sorted(looks), *(["end"] if at_end else [])],
            "prob_change": self.prob_change,
            "gradients": None if grand is None else dataclasses.asdict(grand),
            "data": dataset.options.identity(),
            "rows": n_rows,
            "batch_size": self.runtime.batch_size,
            "precision": self.runtime.precision,
            "inputs": [dataclasses.asdict(i) for i in dataset.source.inputs],
        }


def train_records(
    spec: TrainingSpec,
    dataset: Dataset,
    inputs: Inputs,
    rows: np.ndarray,
    folder: Path,
    provenance: Provenance,
    progress: Progress,
    note: Callable[[str], None],
) -> list[Path]:
    """Train as often as asked, each into a run folder of its own, and return those; whole ones are taken as they are.

    A training that was interrupted goes on from its checkpoint; one of other settings is done anew.

    Args:
        spec: see `TrainingSpec`.
        dataset: the whole data set.
        inputs, rows: of the good rows, and their positions.
        folder: where the run folders are.
        provenance: of the scores.
        progress: told of each step.
        note: told what the user should know.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = run_data(dataset, inputs, rows, dataset.labels)
    finals = []
    for number in range(spec.params.runs):
        seed = spec.runtime.seed if number == 0 else stream_seed(spec.runtime.seed, "run", number) >> 16
        settings = {**spec.settings(dataset, len(rows)), "seed": seed}
        final = folder / f"run-{number}"
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
            note(f"run {number + 1} goes on from its checkpoint")
        run = TrainingRun(
            recipe="standard",
            architecture=spec.architecture,
            params=spec.recipe,
            budget=Budget(epochs=spec.params.epochs),
            runtime=dataclasses.replace(spec.runtime, seed=seed),
            settings=settings,
            facts={"input": dataset.kind, "subset": None},
            provenance=provenance,
            stop_epoch=spec.stop_epoch,
            run=number,
            watch=spec.watch,
        )
        task = "training" if spec.params.runs == 1 else f"training {number + 1} of {spec.params.runs}"
        with builder.building_on():
            observer = RunObserver(
                builder,
                found,
                progress,
                checkpoint_seconds=spec.checkpoint_seconds,
                task=task,
                events=spec.events_of(number),
            )
            train_run(run, data, observer)
        for text in observer.notes:
            note(text)
    return finals


def records_of_runs(finals: Sequence[Path]) -> list[Record]:
    """Return the record of each run folder."""
    return [RecordFile(ParquetSource(str(final / DYNAMICS))).of_run(0) for final in finals]


def save_dynamics(finals: Sequence[Path], output: str, provenance: Provenance) -> None:
    """Write the records of all runs as one file."""
    join_records([final / DYNAMICS for final in finals], output, provenance)


def remove_runs(folder: Path) -> None:
    """Remove the run folders, whole or not, and the folder unless something else is in it."""
    for path in folder.glob("run-*"):
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


@dataclass(frozen=True)
class Model:
    """A network that exists already: weights by name, what `predict` must know of it, its classes where they are known."""

    tensors: Mapping[str, np.ndarray]
    model: Mapping[str, Any]
    classes: tuple[Any, ...] | None
    names: tuple[str, ...] | None
    inputs: tuple[InputFile, ...]


def read_model(name: str, weights: Path | None) -> Model | tuple[str, dict[str, np.ndarray], InputFile]:
    """Return a run folder's network; or, of torchvision's, its name, its weights and their file.

    Raises:
        InputError: no such folder or file, damaged, or a pickle.
    """
    if weights is None:
        if not Path(name).is_dir() and name.startswith("torchvision:"):
            raise InputError(f"--model {name} has no weights", "name their file: --weights resnet18.safetensors")
        run = read_run(Path(name))
        names = run.model["class_names"]
        return Model(
            run.tensors, run.model, tuple(run.model["classes"]), tuple(names) if names else None, run_files(run)
        )
    if not weights.is_file():
        raise InputError(f"--weights {weights} does not exist", "check the path")
    with weights.open("rb") as handle:
        file = InputFile(weights.name, hash_stream(handle))
    if weights.suffix == ".safetensors":
        return name, read_safetensors(weights), file
    return name, tensors_of_torch_file(weights.read_bytes(), weights.name), file


def fit_model(found: Model | tuple[str, dict[str, np.ndarray], InputFile], input_shape: tuple[int, ...]) -> Model:
    """Return the network for inputs of that shape: torchvision's take pictures of many sizes."""
    if isinstance(found, Model):
        return found
    name, tensors, file = found
    tensors, model = pretrained_model(name, tensors, input_shape)
    return Model(tensors, model, None, None, (file,))


def codes_seen(model: Model, labels: Labels, where: str, methods: Mapping[str, Any]) -> np.ndarray | None:
    """Return (N,) classes as a network counts them, or None where its classes are not those of the data.

    Raises:
        InputError: scores of the record are wanted, and the network tells other classes apart.
    """
    n_classes = int(model.model["n_classes"])
    codes_n: np.ndarray | None = labels.codes_n
    if model.classes is not None:
        codes_n = labels.recoded(model.classes, model.names, where).codes_n
    elif n_classes != len(labels.classes):
        codes_n = None
    if codes_n is None and methods:
        raise InputError(
            f"the network tells {n_classes} classes apart and the data has {len(labels.classes)}: "
            f"{', '.join(methods)} cannot be taken from it",
            "its features can: --save-features FILE, or --method moderate; or train: leave out --model",
        )
    return codes_n


def look_with(
    model: Model,
    inputs: Inputs,
    codes_n: np.ndarray | None,
    methods: Mapping[str, Any],
    runtime: Runtime,
    progress: Progress,
    note: Callable[[str], None],
    *,
    places_n: np.ndarray,
    embeddings: bool,
) -> Prediction:
    """Return what a network says of the samples.

    Args:
        codes_n: (N,) their classes as it counts them, or None; see `codes_seen`.
        methods: of the record.
        places_n: (N,) where each sample stands in the data set; see `predict`.
        embeddings: whether these are wanted.
    """
    grand = methods.get("grand")
    return predict(
        model.tensors,
        model.model,
        inputs,
        runtime=runtime,
        look=Look(
            embeddings=embeddings,
            gradient_norms=None if grand is None else gradients_of(grand.variant),
            labels_n=codes_n,
            places_n=places_n,
        ),
        progress=progress,
        note=note,
    )


def write_features(
    output: str,
    ids: pa.Array,
    embeddings_nd: np.ndarray,
    probs_nc: np.ndarray,
    classes: pa.Array | None,
    provenance: Provenance,
) -> None:
    """Write ``id``, ``embedding``, ``prob`` and ``prediction``: a label, or the number of a class the data has no name for."""
    predicted_n = pa.array(probs_nc.argmax(axis=1))
    table = pa.table(
        {
            ID: ids,
            "embedding": _vectors(embeddings_nd),
            "prob": _vectors(probs_nc),
            "prediction": classes.take(predicted_n) if classes is not None else predicted_n,
        }
    )
    write_table(output, table, provenance, row_group_rows=8192)


def average_scores(method: Method, params: Any, records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Return the columns of one score, averaged over the runs."""
    found = [method.load()(record, params) for record in records]
    return {name: np.mean([columns[name] for columns in found], axis=0) for name in found[0]}


def record_facts(method: str, params: Any, records: Sequence[Record], source: RecordFrom) -> dict[str, Any]:
    """Return what provenance says of a score beside its parameters: which passes, how many runs, which mode, whence."""
    record = records[0]
    in_training = method in NEED_TRAINING
    if in_training:
        epochs = [1, epochs_needed(method, params, record.n_epochs)[0]]
    elif method in {"el2n", "grand"} and record.n_epochs:
        epochs = [params.epoch or early_epoch(record.n_epochs)]
    else:
        epochs = list(record.eval_epochs[-1:])
    return {"epochs_used": epochs, "runs": len(records), "mode": "train" if in_training else "eval", "source": source}


def training_estimate(spec: TrainingSpec, input_shape: tuple[int, ...], n_rows: int, n_classes: int) -> dict[str, Any]:
    """Return the figures of ``--plan`` for the trainings."""
    from prune_cli.methods.training.loop.estimate import training_cost

    budget = Budget(epochs=spec.stop_epoch)
    cost = training_cost(spec.architecture, input_shape, n_classes, budget, n_rows, spec.runtime)
    looks, at_end = spec.looks()
    held, disk = record_bytes(n_rows, n_classes, spec.stop_epoch, spec.prob_change)
    forward = cost["flops"] / (3 * cost["passes_over_data"])
    extra = len(looks) + at_end + (3 if "grand" in spec.methods else 0)
    return {
        "trainings": spec.params.runs,
        "epochs": spec.stop_epoch,
        "epochs_of_schedule": spec.params.epochs,
        "flops": spec.params.runs * (cost["flops"] + extra * forward),
        "peak_memory_bytes": cost["peak_memory_bytes"] + held,
        "disk_bytes": spec.params.runs * (cost["disk_bytes"] + 2 * disk),
    }


def require_record_memory(spec: TrainingSpec, n_rows: int, n_classes: int) -> None:
    """Raise where how probabilities move takes more than half of the memory that may be used."""
    held, _ = record_bytes(n_rows, n_classes, spec.stop_epoch, spec.prob_change)
    if held > spec.runtime.memory_budget() // 2:
        raise InputError(
            f"recording {n_rows:,} samples of {n_classes:,} classes would hold {format_size(held)}",
            "leave out tdds and --save-dynamics, which need the probabilities of the pass before; or raise --memory-limit",
        )


def gradients_of(variant: str) -> Callable[..., Any]:
    """Return what computes the norms of a variant of `grand`."""
    return gradient_norms if variant == "full" else last_layer_gradient_norms


def _vectors(values_nd: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values_nd, dtype=np.float32).ravel(), pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, values_nd.shape[1])
