"""``prune train``: a data manifest and a selection in, a run folder out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.launch import ALONE, Launch
from prune_cli.core.params import build_params, split_assignments
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import Runtime
from prune_cli.io.ids.columns import locate
from prune_cli.io.manifests.data import DataOptions, Dataset
from prune_cli.io.manifests.ledger import Ledger, ledger_path, settle
from prune_cli.io.manifests.selection import selected_ids
from prune_cli.io.parquet.provenance import InputFile, Provenance
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.runs.folder import (
    FollowingBuilder,
    Run,
    RunBuilder,
    check_run_output,
    read_run,
    run_files,
    same_settings,
)
from prune_cli.io.stores.locations import STDIN, name_of, require_local
from prune_cli.methods.devices import device_name
from prune_cli.methods.registry.lookup import find_exporter, find_method, preset_params
from prune_cli.methods.scores.record.needs import early_epoch
from prune_cli.methods.training.loop.estimate import training_cost
from prune_cli.methods.training.loop.recording import RecordSink, Watch
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.methods.training.networks.architectures import default_architecture
from prune_cli.methods.training.recipes.sharing import require_shareable
from prune_cli.stages.evaluate.command import as_trained
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.train.observer import RunObserver
from prune_cli.stages.train.reporting import event_folder
from prune_cli.stages.train.run import TrainingRun, load_inputs, run_data, train_run
from prune_cli.stages.train.several_processes import on_own_device, share_of_machine

PACKAGES = ("numpy", "torch", "torchvision", "pyarrow", "pillow")
DEFAULT_EPOCHS = 20


@dataclass(frozen=True)
class TrainOptions:
    """The options of ``prune train``; see docs/commands.md."""

    data: DataOptions
    subset: str | None = None
    recipe: str = "standard"
    structure: str | None = None
    export: tuple[str, ...] = ()
    architecture: str | None = None
    epochs: int | None = None
    steps: int | None = None
    resume: bool = False
    checkpoint_seconds: float = 60.0
    report_to: str | None = None
    save_dynamics: bool = False
    params: tuple[str, ...] = ()
    preset: str | None = None
    init: tuple[Path, ...] = ()
    output: str | None = None
    work_dir: Path | None = None
    force: bool = False
    plan: bool = False
    runtime: Runtime = dataclasses.field(default_factory=Runtime)
    launch: Launch = ALONE


def train(options: TrainOptions, progress: Progress = silent) -> Outcome:
    """Train a network on the selected rows: in this process, or in this one and others that share every batch.

    Returns:
        Outcome whose output is a run folder: ``model.safetensors``, ``model.json``, ``history.parquet``.
    Raises:
        InputError: bad input or options; nothing is written.
        BadRowsError: more bad rows than allowed; the ledger alone is written.
        InterruptedRun: stopped by the user; the checkpoint stays for ``--resume``.
    """
    watch = Stopwatch()
    outcome = Outcome()
    launch = options.launch
    require_shareable(options.recipe, options.structure is not None, launch.size)
    if launch.size > 1:
        options = dataclasses.replace(options, runtime=share_of_machine(options.runtime, launch))
    if options.output is not None:
        require_local(options.output, "the run folder")
    params, structure_params = training_params(options)
    budget = _budget(options)
    exports = {name: find_exporter(name) for name in options.export}
    if options.subset == STDIN and options.data.location == STDIN:
        raise InputError(
            "the data and the selection cannot both come from standard input", "name a file for one of them"
        )
    begun = [read_run(path) for path in options.init]
    data = options.data
    channels: Literal["auto", 1, 3] = "auto"
    if begun:
        data, channels = as_trained(options.data, begun[0])
    dataset = Dataset(data)
    final = _output(options, dataset)
    events = event_folder(options.report_to, final)
    if not options.plan:
        check_run_output(final, force=options.force, resume=options.resume)
        if events is not None and launch.leads:
            events.check(replace=options.force or options.resume)
    if dataset.ids_made_up:
        outcome.warnings.append(f"no column '{options.data.id_column}': ids are the positions, row-00000000 and on")
    labels = dataset.labels
    if begun:
        labels = labels.recoded(begun[0].model["classes"], begun[0].model["class_names"], data.location)
    rows, subset_inputs = _selected_rows(options, dataset)
    ledger = Ledger()
    ledger.add_all(rows[labels.codes_n[rows] < 0], "missing label")

    first = dataset.load_inputs(Ledger(), rows=rows[:64], channels=channels, as_float32=True)
    named = begun[0].model["architecture"] if begun else default_architecture(first.shape[1:])
    architecture = options.architecture or named
    for run in begun:
        _check_initial(run, architecture, first.shape[1:], labels.classes)
    row_bytes = int(np.prod(first.shape[1:])) * first.itemsize
    streamed = dataset.kind == "image" and row_bytes * len(rows) > options.runtime.memory_budget() // 2
    if options.plan:
        cost = training_cost(architecture, first.shape[1:], len(labels.classes), budget, len(rows), options.runtime)
        cost["input_bytes"] = 0 if streamed else row_bytes * len(rows)
        cost["peak_memory_bytes"] += cost["input_bytes"]
        shrinking = (
            "" if options.structure is None else f", shrinking by {options.structure} (figures are of the whole)"
        )
        where = "streamed from disk" if streamed else "in memory"
        cost["algorithm"] = f"{options.recipe}, {architecture}{shrinking}, images {where}"
        return plan_outcome("train", cost)

    files = [*dataset.source.inputs, *subset_inputs, *(file for run in begun for file in run_files(run))]
    settings = {
        "recipe": options.recipe,
        "architecture": architecture,
        "parameters": dataclasses.asdict(params),
        "structure": None
        if options.structure is None
        else {"method": options.structure, **dataclasses.asdict(structure_params)},
        "budget": dataclasses.asdict(budget),
        "data": options.data.identity(),
        "batch_size": options.runtime.batch_size,
        "precision": options.runtime.precision,
        "seed": options.runtime.seed,
        "save_dynamics": options.save_dynamics,
        "export": list(options.export),
        "inputs": [dataclasses.asdict(i) for i in files],
    }
    if launch.size > 1:
        settings["processes"] = launch.size
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
    runtime = on_own_device(options.runtime, launch)
    builder = (
        RunBuilder(final, force=options.force, resume=options.resume, settings=settings)
        if launch.leads
        else FollowingBuilder(final, launch.rank, resume=options.resume, settings=settings)
    )
    found = builder.open()
    if options.resume:
        outcome.warnings.append(
            "no checkpoint to resume from: started at the beginning" if found is None else "resumed from the checkpoint"
        )
    with builder.building_on():
        inputs, rows = load_inputs(
            dataset, rows, ledger, builder.spool_folder() if streamed else None, runtime, progress, channels
        )
        provenance = Provenance(
            command="train",
            method=options.recipe,
            parameters={k: v for k, v in settings.items() if k not in {"inputs", "seed"}},
            seed=runtime.seed,
            inputs=files,
            device=device_name(runtime.device),
            packages=PACKAGES,
            rows={"rows_in": len(dataset), "rows_out": len(rows), "rows_bad": len(ledger)},
        )
        errors = ledger_path(str(final if launch.leads else builder.building), "")
        settle(ledger, dataset.ids, options.data.max_errors, errors, provenance)
        if len(ledger):
            outcome.warnings.append(f"{len(ledger)} bad row(s) left out, listed in {errors}")
        asked = TrainingRun(
            recipe=options.recipe,
            architecture=architecture,
            params=params,
            budget=budget,
            runtime=runtime,
            settings=settings,
            facts={"input": dataset.kind, "subset": None if options.subset is None else name_of(options.subset)},
            provenance=provenance,
            watch=_watch(budget) if options.save_dynamics and launch.leads else None,
            initial=[run.tensors for run in begun],
            exports=exports if launch.leads else {},
            launch=launch,
            structure=None
            if options.structure is None
            else find_method("structure", options.structure).load()(structure_params),
        )
        observer = RunObserver(
            builder,
            found,
            progress,
            checkpoint_seconds=options.checkpoint_seconds if launch.leads else math.inf,
            events=events if launch.leads else None,
        )
        model = train_run(asked, run_data(dataset, inputs, rows, labels), observer)
    outcome.warnings += observer.notes
    _report(outcome, final, options, model, provenance.rows, observer.rate(), watch)
    if events is not None:
        outcome.summary["events"] = str(events.path)
    return outcome


def training_params(options: TrainOptions) -> tuple[Any, Any]:
    """Return the parameters of the recipe, and those of the structure (None where the network stays whole).

    Raises:
        InputError: a value that is not allowed, or a plain name that both have.
    """
    classes = {options.recipe: find_method("recipe", options.recipe).params_class()}
    if options.structure is not None:
        classes[options.structure] = find_method("structure", options.structure).params_class()
        for text in options.params:
            name = text.partition("=")[0].strip()
            owners = [o for o, c in classes.items() if any(f.name == name for f in dataclasses.fields(c))]
            if len(owners) > 1:
                said = " or ".join(f"-p {owner}.{text}" for owner in owners)
                raise InputError(f"-p {text!r}: {' and '.join(owners)} both have it", f"say whose: {said}")
    given = split_assignments(options.params, classes if len(classes) > 1 else tuple(classes))
    presets = preset_params(options.preset, "recipe", [options.recipe])
    built: list[Any] = [
        build_params(c, {**presets.get(owner, {}), **given[owner]}, owner) for owner, c in classes.items()
    ]
    return built[0], built[1] if len(built) > 1 else None


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
        **({"flops_left": model["flops"] / model["structure"]["whole"]["flops"]} if "structure" in model else {}),
        "device": device_name(options.runtime.device),
        **watch.figures(),
    }
    if "structure" in model:
        whole, units = model["structure"]["whole"], model["structure"]["units"]
        outcome.tables["network"] = [
            ["", "whole", "left"],
            ["FLOPs", f"{whole['flops']:,}", f"{model['flops']:,} ({model['flops'] / whole['flops']:.0%})"],
            [
                "parameters",
                f"{whole['parameters']:,}",
                f"{model['parameters']:,} ({model['parameters'] / whole['parameters']:.0%})",
            ],
            ["units", f"{sum(n for _, n in units.values()):,}", f"{sum(n for n, _ in units.values()):,}"],
            ["residual branches gone", "", ", ".join(model["structure"]["removed"]) or "none"],
        ]
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


def _check_initial(run: Run, architecture: str, input_shape: tuple[int, ...], classes: Sequence[Any]) -> None:
    """Raise where a network cannot go on from a run.

    Raises:
        InputError: another architecture, input size or list of classes.
    """
    for what, theirs, ours in (
        ("structure", "shrunk" if "structure" in run.model else "whole", "whole"),
        ("architecture", run.model["architecture"], architecture),
        ("input size", list(run.model["input_size"]), list(input_shape)),
        ("classes", list(run.model["classes"]), list(classes)),
    ):
        if theirs != ours:
            raise InputError(
                f"--init {run.path} has another {what}: {theirs}, and here it is {ours}",
                "begin from a run with the same network and classes, or leave out --init",
            )


def _watch(budget: Budget) -> Callable[[RecordSink], Watch]:
    looks = frozenset([early_epoch(budget.epochs)] if budget.epochs is not None else [])
    return lambda sink: Watch(sink, eval_epochs=looks, prob_change=True)


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
