"""One training run from loaded rows to a whole run folder: what ``train`` does, and ``score`` before it scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.launch import ALONE, Launch
from prune_cli.core.progress import Progress
from prune_cli.core.runtime import Runtime
from prune_cli.io.ids.columns import Labels
from prune_cli.io.images.spool import drop_rows
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.dynamics import DYNAMICS, RecordParts
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.manifests.relabels import RELABELS, write_relabels
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.training.data.inputs import ImageSource, TrainingSet
from prune_cli.methods.training.loop.contract import StructureMaker
from prune_cli.methods.training.loop.recording import RecordSink, Watch
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.methods.training.recipes.job import Tensors, TrainingJob
from prune_cli.stages.train.observer import RunObserver


def share_of_machine(runtime: Runtime, launch: Launch) -> Runtime:
    """Return the settings of a run with this process's share of the machine's memory and cores."""
    memory = runtime.memory_budget() // launch.local_size
    workers = max(1, runtime.worker_count() // launch.local_size)
    return dataclasses.replace(runtime, memory_limit=memory, workers=workers)


def on_own_device(runtime: Runtime, launch: Launch) -> Runtime:
    """Return the settings of a run with its device checked: of several processes each takes a CUDA device of its own.

    Raises:
        InputError: one CUDA device is named for several processes.
        UnavailableError: a CUDA device that is not there.
    """
    device = resolve_device(runtime.device)
    if launch.size == 1 or device.type == "cpu":
        return runtime
    if device.index is not None and launch.local_size > 1:
        raise InputError(
            f"--device {runtime.device} for {launch.local_size} processes of this machine",
            "leave out the number: each takes a device of its own",
        )
    name = runtime.device if device.index is not None else f"cuda:{launch.local_rank}"
    resolve_device(name)
    return dataclasses.replace(runtime, device=name)


_NUMBERS = ("lr", "train_loss", "train_accuracy", "seconds", "samples_per_second")
_HISTORY = pa.schema({**dict.fromkeys(("epoch", "step", "samples"), pa.int64()), **dict.fromkeys(_NUMBERS, pa.float64())})

_SHRINKING_HISTORY = pa.schema(
    [
        *_HISTORY,
        ("flops", pa.int64()),
        ("parameters", pa.int64()),
        ("units", pa.list_(pa.int64())),
        ("layers", pa.list_(pa.int64())),
        ("expected_flops", pa.float64()),
        ("theta", pa.list_(pa.int64())),
        ("strength", pa.float64()),
    ]
)
"""Of a network that shrinks: size at the end of the pass, live units by layer, which residual branches are there, keep probabilities."""


@dataclass(frozen=True)
class RunData:
    """What a run is trained on."""

    samples: TrainingSet
    ids: pa.Array
    labels: Labels


@dataclass(frozen=True)
class TrainingRun:
    """Everything that decides the bytes of one run folder, but for its data.

    Args:
        architecture, budget: see `TrainingJob`.
        runtime: with the seed of this run.
        settings: JSON values of all that decides the weights, for ``model.json``.
        facts: more values for ``model.json``.
        run: number of the run, for its record.
        watch: sink -> what is recorded of every sample; None for nothing.
        initial, structure, launch: see `TrainingJob`.
        exports: ending of a file -> what makes it of the tensors and the model.
    """

    recipe: str
    architecture: str
    params: Any
    budget: Budget
    runtime: Runtime
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    provenance: Provenance
    stop_epoch: int | None = None
    run: int = 0
    watch: Callable[[RecordSink], Watch] | None = None
    initial: Sequence[Tensors] = ()
    structure: StructureMaker | None = None
    exports: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], bytes]] = field(default_factory=dict)
    launch: Launch = ALONE


def train_run(run: TrainingRun, data: RunData, observer: RunObserver) -> dict[str, Any]:
    """Train, record if wanted, and put the run folder in place.

    Args:
        observer: who watches, and has the folder's builder and the checkpoint to go on from.
    Returns:
        What ``model.json`` says.
    Raises:
        InterruptedRun: stopped by the user; the checkpoint stays.
    """
    folder = observer.builder.building
    parts = RecordParts(folder / "dynamics", data.ids, data.labels, run.run)
    with observer.listening(), observer.reporting():
        job = TrainingJob(
            data.samples,
            run.architecture,
            run.budget,
            runtime=run.runtime,
            observer=observer,
            resume=observer.resume,
            watch=run.watch(parts) if run.watch is not None else None,
            stop_epoch=run.stop_epoch,
            initial=run.initial,
            structure=run.structure,
            launch=run.launch,
        )
        trained = find_method("recipe", run.recipe).load()(job, run.params)
    last = observer.history[-1]
    model = {
        **trained.model,
        "classes": list(data.labels.classes),
        "class_names": list(data.labels.names) if data.labels.names is not None else None,
        "recipe": run.recipe,
        "seed": run.runtime.seed,
        "settings": run.settings,
        "metrics": {k: last[k] for k in ("epoch", "step", "samples", "train_loss", "train_accuracy")},
        **run.facts,
    }
    if run.watch is not None:
        parts.write(str(folder / DYNAMICS), run.provenance)
    if trained.relabels is not None:
        new = trained.relabels
        stated = dataclasses.replace(run.provenance, score_direction={"p_clean": "easier", "confidence": "easier"})
        path = str(folder / RELABELS)
        write_relabels(path, data.ids, data.labels, new.codes_m, new.p_clean_m, new.confidence_m, stated)
    history = pa.Table.from_pylist(observer.history, _HISTORY if run.structure is None else _SHRINKING_HISTORY)
    more = {f"model.{name}": export(trained.tensors, model) for name, export in run.exports.items()}
    observer.builder.finish(model, trained.tensors, history, run.provenance, more)
    return model


def run_data(dataset: Dataset, inputs: np.ndarray | ImageSource, rows: np.ndarray, labels: Labels) -> RunData:
    """Return the rows of a data set as what is trained on, each with its place in the order of the ids.

    Args:
        rows: (M,) int64 positions.
    """
    rank_n = np.empty(len(dataset), np.int64)
    rank_n[dataset.order_n] = np.arange(len(dataset))
    samples = TrainingSet(
        inputs=inputs, labels_m=labels.codes_n[rows], ranks_m=rank_n[rows], n_ranks=len(dataset), n_classes=len(labels.classes)
    )
    return RunData(samples, dataset.ids.take(pa.array(rows)), labels.take(rows))


def load_inputs(
    dataset: Dataset,
    rows: np.ndarray,
    ledger: Ledger,
    spool: Path | None,
    runtime: Runtime,
    progress: Progress,
    channels: Literal["auto", 1, 3] = "auto",
) -> tuple[np.ndarray | ImageSource, np.ndarray]:
    """Return the inputs of the rows, in memory or (with a folder to spool to) streamed, and the rows that are good."""
    workers = runtime.worker_count()
    inputs: np.ndarray | ImageSource
    if spool is not None:
        inputs = dataset.spool_inputs(ledger, spool, rows=rows, workers=workers, channels=channels, progress=progress)
        return inputs, rows[ledger.good(len(dataset))[rows]]
    inputs = dataset.load_inputs(ledger, rows=rows, workers=workers, channels=channels, as_float32=True, progress=progress)
    good = ledger.good(len(dataset))[rows]
    return drop_rows(inputs, good), rows[good]
