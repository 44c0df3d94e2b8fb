"""``prune train``: a data manifest and a selection in, a run folder out."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.params import build_params, split_assignments
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import Runtime
from prune_cli.io.columns import locate
from prune_cli.io.ledger import Ledger, ledger_path, settle
from prune_cli.io.manifest import DataOptions, Dataset, drop_rows
from prune_cli.io.provenance import InputFile, Provenance
from prune_cli.io.run_folder import RunBuilder, check_run_output, read_run, same_settings
from prune_cli.io.selection import selected_ids
from prune_cli.io.tables import STDIN, ParquetSource
from prune_cli.methods.devices import device_name, resolve_device
from prune_cli.methods.registry import find_method, preset_params
from prune_cli.methods.training.inputs import ImageSource, TrainingSet
from prune_cli.methods.training.loop import Budget, Checkpoint
from prune_cli.methods.training.plan import default_architecture, training_cost
from prune_cli.stages.outcome import Outcome, Stopwatch, plan_outcome

PACKAGES = ("numpy", "torch", "torchvision", "pyarrow", "pillow")
DEFAULT_EPOCHS = 20

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


@dataclass(frozen=True)
class TrainOptions:
    """The options of ``prune train``; see docs/commands.md."""

    data: DataOptions
    subset: str | None = None
    recipe: str = "standard"
    architecture: str | None = None
    epochs: int | None = None
    steps: int | None = None
    resume: bool = False
    checkpoint_seconds: float = 60.0
    params: tuple[str, ...] = ()
    preset: str | None = None
    output: str | None = None
    work_dir: Path | None = None
    force: bool = False
    plan: bool = False
    runtime: Runtime = dataclasses.field(default_factory=Runtime)


def train(options: TrainOptions, progress: Progress = silent) -> Outcome:
    """Train a network on the selected rows.

    Returns:
        Outcome whose output is a run folder: ``model.safetensors``, ``model.json``, ``history.parquet``.
    Raises:
        InputError: bad input or options; nothing is written.
        BadRowsError: more bad rows than allowed; the ledger alone is written.
        InterruptedRun: stopped by the user; the checkpoint stays for ``--resume``.
    """
    watch = Stopwatch()
    outcome = Outcome()
    recipe = find_method("recipe", options.recipe)
    assignments = split_assignments(options.params, (options.recipe,))[options.recipe]
    params: Any = build_params(
        recipe.params_class(), {**preset_params(options.preset, options.recipe), **assignments}, options.recipe
    )
    budget = _budget(options)
    if options.subset == STDIN and options.data.location == STDIN:
        raise InputError(
            "the data and the selection cannot both come from standard input", "name a file for one of them"
        )
    dataset = Dataset(options.data)
    final = _output(options, dataset)
    if not options.plan:
        check_run_output(final, force=options.force, resume=options.resume)
    if dataset.ids_made_up:
        outcome.warnings.append(f"no column '{options.data.id_column}': ids are the positions, row-00000000 and on")
    labels = dataset.labels
    rows, subset_inputs = _selected_rows(options, dataset)
    ledger = Ledger()
    ledger.add_all(rows[labels.codes_n[rows] < 0], "missing label")

    first = dataset.load_inputs(Ledger(), rows=rows[:64], as_float32=True)
    architecture = options.architecture or default_architecture(first.shape[1:])
    row_bytes = int(np.prod(first.shape[1:])) * first.itemsize
    streamed = dataset.kind == "image" and row_bytes * len(rows) > options.runtime.memory_budget() // 2
    if options.plan:
        cost = training_cost(architecture, first.shape[1:], len(labels.classes), budget, len(rows), options.runtime)
        cost["input_bytes"] = 0 if streamed else row_bytes * len(rows)
        cost["peak_memory_bytes"] += cost["input_bytes"]
        cost["algorithm"] = (
            f"{options.recipe}, {architecture}, images {'streamed from disk' if streamed else 'in memory'}"
        )
        return plan_outcome("train", cost)

    settings = {
        "recipe": options.recipe,
        "architecture": architecture,
        "parameters": dataclasses.asdict(params),
        "budget": dataclasses.asdict(budget),
        "data": options.data.identity(),
        "batch_size": options.runtime.batch_size,
        "precision": options.runtime.precision,
        "seed": options.runtime.seed,
        "inputs": [dataclasses.asdict(i) for i in [*dataset.source.inputs, *subset_inputs]],
    }
    if options.resume and final.exists() and not options.force:
        if not same_settings(read_run(final), settings):
            raise InputError(
                f"output {final} exists already, made with other settings",
                "pass --force to replace it, or name another with -o",
            )
        outcome.warnings.append(f"{final} is whole already; nothing to resume")
        outcome.outputs = [str(final)]
        outcome.summary = {"command": "train", "output": str(final), "rows_in": len(dataset), **watch.figures()}
        return outcome
    resolve_device(options.runtime.device)
    builder = RunBuilder(final, force=options.force, resume=options.resume, settings=settings)
    found = builder.open()
    if options.resume:
        outcome.warnings.append(
            "no checkpoint to resume from: started at the beginning" if found is None else "resumed from the checkpoint"
        )
    with builder.building_on():
        inputs, rows = _load(
            dataset, rows, ledger, builder.spool_folder() if streamed else None, options.runtime, progress
        )
        provenance = Provenance(
            command="train",
            method=options.recipe,
            parameters={k: v for k, v in settings.items() if k not in {"inputs", "seed"}},
            seed=options.runtime.seed,
            inputs=[*dataset.source.inputs, *subset_inputs],
            device=device_name(options.runtime.device),
            packages=PACKAGES,
            rows={"rows_in": len(dataset), "rows_out": len(rows), "rows_bad": len(ledger)},
        )
        errors = ledger_path(str(final), "")
        settle(ledger, dataset.ids, options.data.max_errors, errors, provenance)
        if len(ledger):
            outcome.warnings.append(f"{len(ledger)} bad row(s) left out, listed in {errors}")
        rank_n = np.empty(len(dataset), np.int64)
        rank_n[dataset.order_n] = np.arange(len(dataset))
        data = TrainingSet(
            inputs=inputs,
            labels_m=labels.codes_n[rows],
            ranks_m=rank_n[rows],
            n_ranks=len(dataset),
            n_classes=len(labels.classes),
        )
        observer = _Observer(builder, progress, options.checkpoint_seconds, found[1]["history"] if found else [])
        checkpoint = Checkpoint(found[0], found[1]["loop"]) if found else None
        with observer.listening():
            trained = recipe.load()(
                data, architecture, params, budget, runtime=options.runtime, observer=observer, resume=checkpoint
            )
        last = observer.history[-1]
        model = {
            **trained.model,
            "classes": list(labels.classes),
            "class_names": list(labels.names) if labels.names is not None else None,
            "input": dataset.kind,
            "recipe": options.recipe,
            "seed": options.runtime.seed,
            "subset": None if options.subset is None else Path(options.subset).name,
            "settings": settings,
            "metrics": {k: last[k] for k in ("epoch", "step", "samples", "train_loss", "train_accuracy")},
        }
        builder.finish(model, trained.tensors, pa.Table.from_pylist(observer.history, _HISTORY), provenance)
    _report(outcome, final, options, model, provenance.rows, observer.rate(), watch)
    return outcome


def _report(
    outcome: Outcome,
    final: Path,
    options: TrainOptions,
    model: dict[str, Any],
    rows: Mapping[str, int],
    rate: float,
    watch: Stopwatch,
) -> None:
    figures = model["metrics"]
    outcome.outputs = [str(final)]
    outcome.summary = {
        "command": "train",
        "output": str(final),
        "architecture": model["architecture"],
        "recipe": options.recipe,
        **rows,
        **figures,
        "samples_per_second": round(rate, 1),
        "parameters": model["parameters"],
        "flops": model["flops"],
        "device": device_name(options.runtime.device),
        **watch.figures(),
    }
    outcome.tables["trained"] = [
        ["architecture", "parameters", "rows", "steps", "train loss", "train accuracy", "samples/s"],
        [
            model["architecture"],
            f"{model['parameters']:,}",
            f"{rows['rows_out']:,}",
            f"{figures['step']:,}",
            f"{figures['train_loss']:.4f}",
            f"{figures['train_accuracy']:.4f}",
            f"{rate:,.0f}",
        ],
    ]


class _Observer:
    """Watches a training run: bars, history, checkpoints by the clock, and the user's wish to stop."""

    def __init__(
        self, builder: RunBuilder, progress: Progress, checkpoint_seconds: float, history: list[dict[str, Any]]
    ) -> None:
        self.history: list[dict[str, Any]] = list(history)
        self._builder, self._progress, self._checkpoint_seconds = builder, progress, checkpoint_seconds
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
        self._progress("training", step, steps, {**facts, "samples/s": self.rate()})

    def on_pass(self, row: Mapping[str, float | int]) -> None:
        """Keep one row of the history."""
        now = time.perf_counter()
        seconds = now - self._pass_started
        passed = int(row["samples"]) - self._pass_samples
        self._pass_started, self._pass_samples = now, int(row["samples"])
        self.history.append({**row, "seconds": seconds, "samples_per_second": passed / seconds if seconds > 0 else 0.0})

    def should_checkpoint(self) -> bool:
        """Return whether the time between checkpoints is over."""
        return time.perf_counter() - self._saved >= self._checkpoint_seconds

    def save_checkpoint(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Write the checkpoint."""
        self._builder.save_checkpoint(tensors, {"loop": state, "history": self.history})
        self._saved = time.perf_counter()

    def should_stop(self) -> bool:
        """Return whether the user asked to stop."""
        return self._stop

    def rate(self) -> float:
        """Return samples per second since the first step."""
        seconds = time.perf_counter() - self._started
        return self._samples / seconds if seconds > 0 else 0.0

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


def _budget(options: TrainOptions) -> Budget:
    if options.epochs is not None and options.steps is not None:
        raise InputError(
            "--epochs and --steps are both given", "give one: --steps makes selections of different sizes comparable"
        )
    epochs = DEFAULT_EPOCHS if options.epochs is None and options.steps is None else options.epochs
    return Budget(epochs=epochs, steps=options.steps)


def _output(options: TrainOptions, dataset: Dataset) -> Path:
    if options.output == STDIN:
        raise InputError("a run folder cannot go to standard output", "name a folder with -o")
    return Path(options.output or f"{dataset.source.stem}.train")


def _selected_rows(options: TrainOptions, dataset: Dataset) -> tuple[np.ndarray, tuple[InputFile, ...]]:
    if options.subset is None:
        return np.arange(len(dataset)), ()
    selection = ParquetSource(options.subset)
    ids = selected_ids(selection)
    return np.sort(locate(ids, dataset.ids, options.subset, options.data.location)), selection.inputs


def _load(
    dataset: Dataset, rows: np.ndarray, ledger: Ledger, spool: Path | None, runtime: Runtime, progress: Progress
) -> tuple[np.ndarray | ImageSource, np.ndarray]:
    workers = runtime.worker_count()
    inputs: np.ndarray | ImageSource
    if spool is not None:
        inputs = dataset.spool_inputs(ledger, spool, rows=rows, workers=workers, progress=progress)
        return inputs, rows[ledger.good(len(dataset))[rows]]
    inputs = dataset.load_inputs(ledger, rows=rows, workers=workers, as_float32=True, progress=progress)
    good = ledger.good(len(dataset))[rows]
    return drop_rows(inputs, good), rows[good]
