"""``prune score``: a data manifest in, a score manifest out."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.progress import Progress, silent
from prune_cli.engines.pool import Pool
from prune_cli.io.manifests.ledger import Ledger, ledger_path, settle
from prune_cli.io.stores.locations import require_local
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.training.networks.predict import BATCH_SIZE
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.score.contract import Job, Scored, Scoring, Source
from prune_cli.stages.score.job import open_job
from prune_cli.stages.score.options import ScoreOptions
from prune_cli.stages.score.output import open_work_folder, write_scores
from prune_cli.stages.score.plan import score_estimate
from prune_cli.stages.score.reading import Reading
from prune_cli.stages.score.request import parameters_of
from prune_cli.stages.score.shards import rows_of_shard, write_row_shard
from prune_cli.stages.score.sources.files import score_files
from prune_cli.stages.score.stated import provenance_of, with_stated


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
    figures = score_estimate(job, sources)
    if options.plan:
        return plan_outcome("score", figures)
    for source in sources:
        source.require_room(figures)
    with contextlib.ExitStack() as ahead, open_work_folder(options, job.output) as folder:
        ready = [ahead.enter_context(source.workers_ahead(figures)) for source in sources]
        started = next((pool for pool in ready if pool is not None), None)
        resolve_device(options.runtime.device)  # which loads torch, as the processes do meanwhile
        scoring, scored = _score_rows(job, sources, folder, started, outcome, progress)
        provenance = dataclasses.replace(
            scoring.provenance, parameters=with_stated(scoring.provenance.parameters, scored.stated)
        )
        for write in scored.files:
            write(provenance)
        if options.shard is None:
            values = scoring.labels.values()
            write_scores(job.output, scoring.ids, values, scored.columns, provenance, job.dataset.source, outcome)
        elif not job.request.kernels:  # whose parts are blocks, and written
            write_row_shard(job, options.shard, scored.columns, scoring.rows, provenance)
    outcome.outputs = [job.output]
    extra = {"features": options.save_features, "dynamics": options.save_dynamics, "kernel": options.save_kernel}
    outcome.summary = {
        "command": "score",
        "output": job.output,
        **{name: str(path) for name, path in extra.items() if path is not None},
        "method": provenance.method,
        **provenance.rows,
        **scored.facts,
        **({"shard": list(options.shard)} if options.shard is not None else {}),
        **({"flops": float(figures["flops"])} if "flops" in figures else {}),
        **({"events": str(job.events.path)} if job.events is not None else {}),
        "device": provenance.device,
        **watch.figures(),
    }
    return outcome


def _score_rows(
    job: Job,
    sources: Sequence[Source[Any]],
    folder: Path,
    started: Pool | None,
    outcome: Outcome,
    progress: Progress,
) -> tuple[Scoring, Scored]:
    """Read the rows, leave out the bad ones, and score the others."""
    dataset, options = job.dataset, job.options
    within, ledger = _rows_meant(job), Ledger()
    ledger.add_all(within[dataset.labels.codes_n[within] < 0], "missing label")
    reading = Reading(
        dataset,
        within,
        ledger,
        folder,
        options.runtime,
        progress,
        channels=job.channels,
        as_stored=bool(job.request.kernels),
    )
    loaded = [source.load(reading) for source in reversed(sources)]  # columns are read first
    reading.settle()
    rows = reading.rows
    counts = {"rows_in": len(within), "rows_out": len(rows), "rows_bad": len(ledger)}
    provenance = provenance_of(job, sources, counts)
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


def _rows_meant(job: Job) -> np.ndarray:
    """Return (M,) int64, the rows that are scored: all, or those of a part; parts of kernels are blocks of all rows."""
    options, n_rows = job.options, len(job.dataset)
    if options.shard is None or job.request.kernels:
        return np.arange(n_rows)
    return rows_of_shard(options.shard, n_rows, options.runtime.batch_size or BATCH_SIZE)
