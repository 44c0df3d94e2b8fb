"""``prune score``: a data manifest in, a score manifest out."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.engines.pool import Pool
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.ledger import Ledger, ledger_path, settle
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.runs.events import EventFolder
from prune_cli.io.stores.atomic import check_output
from prune_cli.io.stores.locations import STDIN, local_twin, require_local
from prune_cli.methods.devices import device_name, resolve_device
from prune_cli.methods.training.networks.predict import BATCH_SIZE
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.score.contract import PACKAGES, Figures, Job, Scored, Scoring, Source
from prune_cli.stages.score.output import open_work_folder, score_output, work_path, write_scores
from prune_cli.stages.score.reading import Channels, Reading
from prune_cli.stages.score.request import ScoreOptions, parameters_of, request_of
from prune_cli.stages.score.shards import require_divisible, rows_of_shard, write_row_shard
from prune_cli.stages.score.sources.files import ColumnSource, score_files
from prune_cli.stages.score.sources.kernel.plan import kernel_precision
from prune_cli.stages.score.sources.kernel.source import kernel_source
from prune_cli.stages.score.sources.model.networks import read_network
from prune_cli.stages.score.sources.model.source import ModelSource
from prune_cli.stages.score.sources.training.source import training_source
from prune_cli.stages.train.observer import event_folder


def open_job(options: ScoreOptions, params: Mapping[str, Any], note: Callable[[str], None]) -> tuple[Job, list[Source[Any]]]:
    """Return what is scored, and from where: kernels first, then what gives records and features.

    Args:
        note: told what the user should know.
    Raises:
        InputError: bad input, or options that do not go together.
    """
    if options.data is None:
        raise InputError("DATA is missing", "name a Parquet file, or a record with --from-dynamics")
    network = read_network(options.model, options.weights) if options.model is not None else None
    if options.weights is not None and network is None:
        raise InputError("--weights is given without --model", "say which network: --model torchvision:resnet18")
    channels: Channels = "auto"
    data = options.data
    if network is not None:
        data, channels = network.reads(data)
    dataset = Dataset(data)
    request = request_of(options, params, dataset)
    require_divisible(options, request)
    output = score_output(options, dataset.source.stem)
    if not options.plan:
        for path in (output, options.save_dynamics, options.save_features, options.save_kernel):
            if path is not None:
                check_output(path, options.force)
    trains = request.record == "training"
    _check_classes(dataset, trains or bool(request.kernels), note)
    events = _events(options, output, dataset.source.stem) if trains else None
    job = Job(options, request, dataset, output, channels, events)
    of_record = [training_source(job)] if trains else []
    if options.report_to is not None and not trains:
        raise InputError("--report-to is given and nothing here trains", "leave it out")
    sources: list[Source[Any]] = [*([kernel_source(job)] if request.kernels else []), *of_record]
    if network is not None:
        sources.append(ModelSource(job, network))
    if request.record == "prob" or request.features == "embedding":
        sources.append(ColumnSource(job))
    return job, sources


def _check_classes(dataset: Dataset, compares: bool, note: Callable[[str], None]) -> None:
    """Tell of ids that are made up and classes without a row; raise where classes are compared and there is one."""
    if dataset.ids_made_up:
        note(f"no column '{dataset.options.id_column}': ids are the positions, row-00000000 and on")
    labels = dataset.labels
    for doubt in labels.doubts():
        note(doubt)
    counts = np.bincount(labels.codes_n[labels.codes_n >= 0], minlength=len(labels.classes))
    empty = [name for name, count in zip(labels.display_names(), counts, strict=True) if count == 0]
    if empty:
        note(f"{len(empty)} class(es) have no row here: {', '.join(empty[:5])}")
    if compares and (there := len(labels.classes) - len(empty)) < 2:
        raise InputError(
            f"scores compare each class with the others, and the data has samples of {there} class(es)",
            "give data of two classes or more, or check --label-column",
        )


def _events(options: ScoreOptions, output: str, stem: str) -> EventFolder | None:
    """Return where events go, once it is sure that they may; a training that is gone on from has some already."""
    beside = output if output != STDIN else f"{stem}.scores.parquet"
    events = event_folder(options.report_to, local_twin(beside))
    if events is not None and not options.plan:
        events.check(replace=options.force or work_path(options, output).is_dir())
    return events


def score(options: ScoreOptions, progress: Progress = silent) -> Outcome:
    """Score every row of a data manifest, or of a dynamics record.

    Returns:
        Outcome whose output is a score manifest: ``id``, ``label``, one float64 column per score.
    Raises:
        InputError: bad input or options; nothing is written.
        BadRowsError: more bad rows than allowed; the ledger alone is written.
        InterruptedRun: stopped by the user; finished work is kept.
    """
    watch, outcome = Stopwatch(), Outcome()
    if options.model is not None:
        require_local(options.model, "--model")
    params = parameters_of(options)
    if (of_files := score_files(options, params, watch)) is not None:
        return of_files
    job, sources = open_job(options, params, outcome.warnings.append)
    classes = len(job.dataset.labels.classes)
    figures: Figures = {"rows": len(job.dataset), "classes": classes, "passes_over_data": 1}
    for source in sources:
        figures = source.plan(figures)
    if options.plan:
        return plan_outcome("score", figures)
    for source in sources:
        source.require_room(figures)
    with contextlib.ExitStack() as ahead, open_work_folder(options, job.output) as folder:
        ready = [ahead.enter_context(source.workers_ahead(figures)) for source in sources]
        started = next((pool for pool in ready if pool is not None), None)
        resolve_device(options.runtime.device)  # which loads torch, as the processes do meanwhile
        scoring, scored = _score_rows(job, sources, folder, started, outcome, progress)
        provenance = dataclasses.replace(scoring.provenance, parameters=scored.told(scoring.provenance.parameters))
        for write in scored.files:
            write(provenance)
        if options.shard is None:
            values = scoring.labels.values()
            write_scores(job.output, scoring.ids, values, scored.columns, provenance, job.dataset.source, outcome)
        elif not job.request.kernels:  # whose parts are blocks, and written
            write_row_shard(job, options.shard, scored.columns, scoring.rows, provenance)
    outcome.outputs = [job.output]
    extra = {"features": options.save_features, "dynamics": options.save_dynamics, "kernel": options.save_kernel}
    outcome.summary = watch.summary(
        "score",
        output=job.output,
        **{name: str(path) for name, path in extra.items() if path is not None},
        method=provenance.method,
        **provenance.rows,
        **scored.facts,
        **({"shard": list(options.shard)} if options.shard is not None else {}),
        **({"flops": float(figures["flops"])} if "flops" in figures else {}),
        **({"events": str(job.events.path)} if job.events is not None else {}),
        device=provenance.device,
    )
    return outcome


def _score_rows(
    job: Job, sources: Sequence[Source[Any]], folder: Path, started: Pool | None, outcome: Outcome, progress: Progress
) -> tuple[Scoring, Scored]:
    """Read the rows, leave out the bad ones, and score the others."""
    dataset, options = job.dataset, job.options
    within, ledger = _rows_meant(job), Ledger()
    ledger.add_all(within[dataset.labels.codes_n[within] < 0], "missing label")
    reading = Reading(
        dataset, within, ledger, folder, options.runtime, progress, channels=job.channels, as_stored=bool(job.request.kernels)
    )
    loaded = [source.load(reading) for source in reversed(sources)]  # columns are read first
    reading.settle()
    rows = reading.rows
    counts = {"rows_in": len(within), "rows_out": len(rows), "rows_bad": len(ledger)}
    provenance = _provenance(job, sources, counts)
    errors = ledger_path(job.output, f"{dataset.source.stem}.scores")
    settle(ledger, dataset.ids, dataset.options.max_errors, errors, provenance)
    if len(ledger):
        outcome.warnings.append(f"{len(ledger)} bad row(s) left out, listed in {errors}")
    ids, labels = dataset.ids.take(pa.array(rows)), dataset.labels.take(rows)
    note = outcome.warnings.append
    scoring, scored = Scoring(rows, ids, labels, folder, provenance, started, note, progress), Scored()
    for source, found in zip(sources, reversed(loaded), strict=True):
        scored.add(of_source := source.scores(found, scoring))
        outcome.warnings += of_source.warnings
    return scoring, scored


def _provenance(job: Job, sources: Sequence[Source[Any]], rows: Mapping[str, int]) -> Provenance:
    """Return what is known before anything is computed."""
    request, options = job.request, job.options
    origins = [source.origin() for source in reversed(sources)]  # files of a network before those of a kernel
    stated: dict[str, Any] = {name: dataclasses.asdict(request.params[name]) for name in request.methods}
    stated["data"] = job.dataset.options.identity()
    stated["precision"] = kernel_precision(options.runtime) if request.record is None else options.runtime.precision
    for origin in origins:
        stated |= origin.parameters
    directions: dict[str, str] = {}
    for name, method in request.methods.items():
        terms = getattr(request.params[name], "terms", True)
        directions |= {c: d for c, d in method.columns.items() if c == name or terms}
    return Provenance(
        command="score",
        method=",".join(options.methods),
        parameters=stated,
        seed=options.runtime.seed,
        inputs=(*job.dataset.source.inputs, *(file for origin in origins for file in origin.inputs)),
        device=device_name(options.runtime.device),
        packages=(*PACKAGES, *(name for origin in origins for name in origin.packages)),
        score_direction=directions,
        rows=rows,
    )


def _rows_meant(job: Job) -> np.ndarray:
    """Return (M,) int64, the rows that are scored: all, or those of a part; parts of kernels are blocks of all rows."""
    options, n_rows = job.options, len(job.dataset)
    if options.shard is None or job.request.kernels:
        return np.arange(n_rows)
    return rows_of_shard(options.shard, n_rows, options.runtime.batch_size or BATCH_SIZE)
