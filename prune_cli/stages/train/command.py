"""``prune train``: a data manifest and a selection in, a run folder out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.ledger import Ledger, ledger_path, settle
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.runs.events import EventFolder
from prune_cli.io.runs.folder import FollowingBuilder, RunBuilder, check_run_output, read_run, same_settings
from prune_cli.io.stores.locations import name_of
from prune_cli.methods.devices import device_name
from prune_cli.methods.registry.lookup import find_exporter, find_method
from prune_cli.methods.scores.record.needs import early_epoch
from prune_cli.methods.training.loop.recording import RecordSink, Watch
from prune_cli.methods.training.loop.timetable import Budget, training_cost
from prune_cli.methods.training.recipes.job import require_shareable
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.train.inputs import TrainInputs, open_data, read_inputs
from prune_cli.stages.train.observer import RunObserver, event_folder
from prune_cli.stages.train.options import TrainOptions, check_options, tables, training_budget, training_params
from prune_cli.stages.train.run import TrainingRun, load_inputs, on_own_device, run_data, share_of_machine, train_run

PACKAGES = ("numpy", "torch", "torchvision", "pyarrow", "pillow")


@dataclass(frozen=True)
class Asked:
    """What is asked for, its texts read.

    Args:
        options: of the command, with this process's share of the machine.
        exports: ending of a file -> what makes it.
    """

    options: TrainOptions
    params: Any
    structure_params: Any
    budget: Budget
    exports: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], bytes]]


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
    asked = _read_options(options)
    options = asked.options
    opened = open_data(options)
    final = Path(options.output or f"{opened.dataset.source.stem}.train")
    events = event_folder(options.report_to, final)
    if not options.plan:
        check_run_output(final, force=options.force, resume=options.resume)
        if events is not None and options.launch.leads:
            events.check(replace=options.force or options.resume)
    if opened.dataset.ids_made_up:
        outcome.warnings.append(f"no column '{options.data.id_column}': ids are the positions, row-00000000 and on")
    inputs = read_inputs(options, opened)
    outcome.warnings += inputs.labels.doubts()
    if options.plan:
        return plan_outcome("train", _plan(asked, inputs))
    settings = _settings(asked, inputs)
    if options.resume and final.exists() and not options.force:
        if not same_settings(read_run(final), settings):
            cure = "pass --force to replace it, or name another with -o"
            raise InputError(f"output {final} exists already, made with other settings", cure)
        outcome.warnings.append(f"{final} is whole already; nothing to resume")
        outcome.outputs = [str(final)]
        outcome.summary = watch.summary("train", output=str(final), rows_in=len(opened.dataset))
        return outcome
    _train_into(final, asked, inputs, settings, events, outcome, progress)
    outcome.summary |= watch.figures()
    if events is not None:
        outcome.summary["events"] = str(events.path)
    return outcome


def _read_options(options: TrainOptions) -> Asked:
    """Return what is asked for, checked as far as that goes without a file."""
    launch = options.launch
    require_shareable(options.recipe, options.structure is not None, launch.size)
    if launch.size > 1:
        options = dataclasses.replace(options, runtime=share_of_machine(options.runtime, launch))
    check_options(options)
    params, structure_params = training_params(options)
    exports = {name: find_exporter(name) for name in options.export}
    return Asked(options, params, structure_params, training_budget(options), exports)


def _plan(asked: Asked, inputs: TrainInputs) -> dict[str, Any]:
    """Return the figures of ``--plan``."""
    options, sizes = asked.options, inputs.sizes
    cost = training_cost(
        sizes.architecture, sizes.input_shape, len(inputs.labels.classes), asked.budget, len(inputs.rows), options.runtime
    )  # fmt: skip
    cost["input_bytes"] = 0 if inputs.streamed else sizes.row_bytes * len(inputs.rows)
    cost["peak_memory_bytes"] += cost["input_bytes"]
    shrinking = "" if options.structure is None else f", shrinking by {options.structure} (figures are of the whole)"
    where = "streamed from disk" if inputs.streamed else "in memory"
    cost["algorithm"] = f"{options.recipe}, {sizes.architecture}{shrinking}, images {where}"
    return cost


def _settings(asked: Asked, inputs: TrainInputs) -> dict[str, Any]:
    """Return JSON values of all that decides the weights."""
    options = asked.options
    settings = {
        "recipe": options.recipe,
        "architecture": inputs.sizes.architecture,
        "parameters": dataclasses.asdict(asked.params),
        "structure": None if options.structure is None else {"method": options.structure, **dataclasses.asdict(asked.structure_params)},
        "budget": dataclasses.asdict(asked.budget),
        "data": options.data.identity(),
        "batch_size": options.runtime.batch_size,
        "precision": options.runtime.precision,
        "seed": options.runtime.seed,
        "save_dynamics": options.save_dynamics,
        "export": list(options.export),
        "inputs": [dataclasses.asdict(i) for i in inputs.files],
    }
    if options.launch.size > 1:
        settings["processes"] = options.launch.size
    return settings


def _train_into(
    final: Path,
    asked: Asked,
    inputs: TrainInputs,
    settings: Mapping[str, Any],
    events: EventFolder | None,
    outcome: Outcome,
    progress: Progress,
) -> None:
    """Train, put the run folder in place, and tell the outcome of it."""
    options, dataset, labels = asked.options, inputs.opened.dataset, inputs.labels
    launch = options.launch
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
    ledger = Ledger()
    ledger.add_all(inputs.rows[labels.codes_n[inputs.rows] < 0], "missing label")
    with builder.building_on():
        spool = builder.spool_folder() if inputs.streamed else None
        samples, rows = load_inputs(dataset, inputs.rows, ledger, spool, runtime, progress, inputs.opened.channels)
        counts = {"rows_in": len(dataset), "rows_out": len(rows), "rows_bad": len(ledger)}
        provenance = _provenance(asked, inputs, settings, runtime, counts)
        errors = ledger_path(str(final if launch.leads else builder.building), "")
        settle(ledger, dataset.ids, options.data.max_errors, errors, provenance)
        if len(ledger):
            outcome.warnings.append(f"{len(ledger)} bad row(s) left out, listed in {errors}")
        observer = RunObserver(
            builder,
            found,
            progress,
            checkpoint_seconds=options.checkpoint_seconds if launch.leads else math.inf,
            events=events if launch.leads else None,
        )
        run = _training_run(asked, inputs, settings, runtime, provenance)
        model = train_run(run, run_data(dataset, samples, rows, labels), observer)
    rate = observer.rate()
    outcome.warnings += observer.notes
    outcome.outputs = [str(final)]
    outcome.summary = _summary(final, options, model, counts, rate)
    outcome.tables = tables(model, len(rows), rate)


def _training_run(asked: Asked, inputs: TrainInputs, settings: Mapping[str, Any], runtime: Runtime, provenance: Provenance) -> TrainingRun:
    """Return the run of this process: of several, the first one alone records and exports."""
    options = asked.options
    leads = options.launch.leads
    return TrainingRun(
        recipe=options.recipe,
        architecture=inputs.sizes.architecture,
        params=asked.params,
        budget=asked.budget,
        runtime=runtime,
        settings=settings,
        facts={"input": inputs.opened.dataset.kind, "subset": None if options.subset is None else name_of(options.subset)},
        provenance=provenance,
        watch=_watch(asked.budget) if options.save_dynamics and leads else None,
        initial=[run.tensors for run in inputs.opened.begun],
        exports=asked.exports if leads else {},
        launch=options.launch,
        structure=None if options.structure is None else find_method("structure", options.structure).load()(asked.structure_params),
    )


def _watch(budget: Budget) -> Callable[[RecordSink], Watch]:
    looks = frozenset([early_epoch(budget.epochs)] if budget.epochs is not None else [])
    return lambda sink: Watch(sink, eval_epochs=looks, prob_change=True)


def _provenance(asked: Asked, inputs: TrainInputs, settings: Mapping[str, Any], runtime: Runtime, counts: Mapping[str, int]) -> Provenance:
    return Provenance(
        command="train",
        method=asked.options.recipe,
        parameters={k: v for k, v in settings.items() if k not in {"inputs", "seed"}},
        seed=runtime.seed,
        inputs=inputs.files,
        device=device_name(runtime.device),
        packages=PACKAGES,
        rows=counts,
    )


def _summary(final: Path, options: TrainOptions, model: Mapping[str, Any], counts: Mapping[str, int], rate: float) -> dict[str, Any]:
    """Return the figures of ``--json``."""
    return {
        "command": "train",
        "output": str(final),
        "architecture": model["architecture"],
        "recipe": options.recipe,
        **counts,
        **model["metrics"],
        "samples_per_second": round(rate, 1),
        "parameters": model["parameters"],
        "flops": model["flops"],
        **({"flops_left": model["flops"] / model["structure"]["whole"]["flops"]} if "structure" in model else {}),
        "device": device_name(options.runtime.device),
    }
