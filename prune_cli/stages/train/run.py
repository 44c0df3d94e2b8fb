"""One training run from loaded rows to a whole run folder: what ``train`` does, and ``score`` before it scores."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from prune_cli.core.launch import ALONE, Launch
from prune_cli.core.progress import Progress
from prune_cli.core.runtime import Runtime
from prune_cli.io.ids.columns import Labels
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.dynamics import DYNAMICS, RecordParts
from prune_cli.io.manifests.good_rows import drop_rows
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.manifests.relabels import RELABELS, write_relabels
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.runs.events import EventFolder, EventWriter
from prune_cli.io.runs.folder import RunBuilder
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.training.data.inputs import ImageSource, TrainingSet
from prune_cli.methods.training.loop.job import Tensors, TrainingJob
from prune_cli.methods.training.loop.observer import Checkpoint
from prune_cli.methods.training.loop.recording import RecordSink, Watch
from prune_cli.methods.training.loop.structure import StructureMaker
from prune_cli.methods.training.loop.timetable import Budget

_HISTORY = pa.schema(
    [
        ("epoch", pa.int64()),
        ("step", pa.int64()),
        ("samples", pa.int64()),
        ("lr", pa.float64()),
        ("train_loss", pa.float64()),
        ("train_accuracy", pa.float64()),
        ("seconds", pa.float64()),
        ("samples_per_second", pa.float64()),
    ]
)

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
class TrainingRun:
    """Everything that decides the bytes of one run folder, but for its data.

    Args:
        recipe, params: how to train.
        architecture, budget: see `TrainingJob`.
        runtime: with the seed of this run.
        settings: JSON values of all that decides the weights, for ``model.json``.
        stop_epoch: see there.
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
    stop_epoch: int | None = None
    run: int = 0
    watch: Callable[[RecordSink], Watch] | None = None
    initial: Sequence[Tensors] = ()
    structure: StructureMaker | None = None
    exports: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], bytes]] = field(default_factory=dict)
    launch: Launch = ALONE


def train_run(
    run: TrainingRun,
    builder: RunBuilder,
    found: tuple[dict[str, np.ndarray], dict[str, Any]] | None,
    data: TrainingSet,
    ids: pa.Array,
    labels: Labels,
    facts: Mapping[str, Any],
    provenance: Provenance,
    progress: Progress,
    *,
    checkpoint_seconds: float,
    task: str = "training",
    events: EventFolder | None = None,
) -> tuple[dict[str, Any], RunObserver]:
    """Train, record if wanted, and put the run folder in place.

    Args:
        run: see `TrainingRun`.
        builder: of the folder, opened.
        found: the checkpoint that opening it gave, or None.
        data: what is trained on.
        ids, labels: of its samples.
        facts: more values for ``model.json``.
        provenance: how it is made.
        progress, task: told of each step under that name.
        checkpoint_seconds: time between checkpoints.
        events: where the history also goes, row by row; nowhere if None.
    Returns:
        ``model.json`` and the observer of the run.
    Raises:
        InterruptedRun: stopped by the user; the checkpoint stays.
    """
    history = found[1]["history"] if found else []
    observer = RunObserver(builder, progress, checkpoint_seconds, history, task)
    checkpoint = Checkpoint(found[0], found[1]["loop"]) if found else None
    parts = RecordParts(builder.building / "dynamics", ids, labels, run.run)
    with observer.listening(), observer.reporting(events):
        job = TrainingJob(
            data,
            run.architecture,
            run.budget,
            runtime=run.runtime,
            observer=observer,
            resume=checkpoint,
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
        "classes": list(labels.classes),
        "class_names": list(labels.names) if labels.names is not None else None,
        "recipe": run.recipe,
        "seed": run.runtime.seed,
        "settings": run.settings,
        "metrics": {k: last[k] for k in ("epoch", "step", "samples", "train_loss", "train_accuracy")},
        **facts,
    }
    if run.watch is not None:
        parts.write(str(builder.building / DYNAMICS), provenance)
    if trained.relabels is not None:
        new = trained.relabels
        stated = dataclasses.replace(provenance, score_direction={"p_clean": "easier", "confidence": "easier"})
        path = str(builder.building / RELABELS)
        write_relabels(path, ids, labels, new.codes_m, new.p_clean_m, new.confidence_m, stated)
    schema = _HISTORY if run.structure is None else _SHRINKING_HISTORY
    more = {f"model.{name}": export(trained.tensors, model) for name, export in run.exports.items()}
    builder.finish(model, trained.tensors, pa.Table.from_pylist(observer.history, schema), provenance, more)
    return model, observer


def training_set(dataset: Dataset, inputs: np.ndarray | ImageSource, rows: np.ndarray, labels: Labels) -> TrainingSet:
    """Return the rows of a data set as what is trained on, each with its place in the order of the ids.

    Args:
        dataset: the whole data set.
        inputs: of the rows.
        rows: (M,) int64 positions.
        labels: of the whole data set.
    """
    rank_n = np.empty(len(dataset), np.int64)
    rank_n[dataset.order_n] = np.arange(len(dataset))
    return TrainingSet(
        inputs=inputs,
        labels_m=labels.codes_n[rows],
        ranks_m=rank_n[rows],
        n_ranks=len(dataset),
        n_classes=len(labels.classes),
    )


class RunObserver:
    """Watches a training run: bars, history, checkpoints by the clock, and the user's wish to stop."""

    def __init__(
        self,
        builder: RunBuilder,
        progress: Progress,
        checkpoint_seconds: float,
        history: list[dict[str, Any]],
        task: str = "training",
    ) -> None:
        self.history: list[dict[str, Any]] = list(history)
        self._builder, self._progress, self._checkpoint_seconds = builder, progress, checkpoint_seconds
        self._task = task
        self.notes: list[str] = []
        self._events: EventWriter | None = None
        self._stop = False
        self._started = self._pass_started = self._saved = time.perf_counter()
        self._samples = self._seen = 0
        self._pass_samples = self.history[-1]["samples"] if self.history else 0

    def on_step(self, step: int, steps: int, samples: int, facts: Mapping[str, float]) -> None:
        """Show how far the run is."""
        if self._seen == 0:
            self._started = time.perf_counter()
            self._first = samples
        self._seen = samples
        self._samples = samples - self._first
        self._progress(self._task, step, steps, {**facts, "samples/s": self.rate()})

    def on_pass(self, row: Mapping[str, float | int]) -> None:
        """Keep one row of the history."""
        now = time.perf_counter()
        seconds = now - self._pass_started
        passed = int(row["samples"]) - self._pass_samples
        self._pass_started, self._pass_samples = now, int(row["samples"])
        self.history.append({**row, "seconds": seconds, "samples_per_second": passed / seconds if seconds > 0 else 0.0})
        if self._events is not None:
            try:
                self._events.add(self.history[-1])
            except OSError as error:
                self._events = None
                self.notes.append(f"events are not written any more: {error.strerror or error}")

    def should_checkpoint(self) -> bool:
        """Return whether the time between checkpoints is over."""
        return time.perf_counter() - self._saved >= self._checkpoint_seconds

    def save_checkpoint(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Write the checkpoint."""
        self._builder.save_checkpoint(tensors, {"loop": state, "history": self.history})
        self._saved = time.perf_counter()

    def on_note(self, note: str) -> None:
        """Keep what the user is told when the run is over."""
        self.notes.append(note)

    def should_stop(self) -> bool:
        """Return whether the user asked to stop."""
        return self._stop

    def rate(self) -> float:
        """Return samples per second since the first step."""
        seconds = time.perf_counter() - self._started
        return self._samples / seconds if seconds > 0 else 0.0

    @contextlib.contextmanager
    def reporting(self, folder: EventFolder | None) -> Iterator[None]:
        """Write each row of the history to event files too, after those of the training that this one goes on from."""
        if folder is None:
            yield
            return
        with folder.writing(self.history) as self._events:
            yield

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM as the wish to stop after this step; a second Ctrl-C stops at once."""

        def wish(number: int, frame: FrameType | None) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = True

        old = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(ValueError):  # not the main thread: a library caller keeps its own handlers
                    old[number] = signal.signal(number, wish)
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


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
    inputs = dataset.load_inputs(
        ledger, rows=rows, workers=workers, channels=channels, as_float32=True, progress=progress
    )
    good = ledger.good(len(dataset))[rows]
    return drop_rows(inputs, good), rows[good]
