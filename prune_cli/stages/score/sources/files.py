"""Scores of what is there already: columns of the data, a dynamics record, the new labels of a run. Nothing is computed of the samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.dynamics import RecordFile
from prune_cli.io.manifests.relabels import RELABELS
from prune_cli.io.parquet.provenance import Provenance, row_counts
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.stores.atomic import check_output
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.scores.record.needs import RecordParams
from prune_cli.methods.scores.record.records import Record, record_of_probabilities
from prune_cli.methods.selection.capabilities import ByAngle
from prune_cli.stages.evaluate.relabels import p_clean_of
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.score.contract import Figures, Scored, Scoring, Source, SourceFacts
from prune_cli.stages.score.output import look_figures, write_scores
from prune_cli.stages.score.reading import Column, Reading
from prune_cli.stages.score.request import RecordFrom, Request, ScoreOptions
from prune_cli.stages.score.sources.features import score_features


def score_records(request: Request, records: Sequence[Record], source: RecordFrom) -> Scored:
    """Return the scores of the records, averaged over the runs that made them."""
    scored = Scored()
    for name, params in request.records.items():
        found = [request.methods[name].load()(record, params) for record in records]
        scored.columns |= {column: np.mean([columns[column] for columns in found], axis=0) for column in found[0]}
        scored.stated[name] = _facts(params, records, source)
    return scored


def _facts(params: RecordParams, records: Sequence[Record], source: RecordFrom) -> dict[str, Any]:
    """Return what provenance says of a score beside its parameters: which passes, how many runs, which mode, whence."""
    record = records[0]
    needs = params.needs(record.n_epochs)
    if needs.watches:
        epochs = [1, needs.epochs]
    elif needs.looks and record.n_epochs:
        epochs = list(needs.looks)
    else:
        epochs = list(record.eval_epochs[-1:])
    return {"epochs_used": epochs, "runs": len(records), "mode": needs.mode, "source": source}


Columns: TypeAlias = tuple[Column[np.ndarray] | None, Column[np.ndarray] | None]
"""Probabilities and embeddings, each where scores go by them."""


@dataclass(frozen=True)
class ColumnSource(Source[Columns]):
    """The columns ``prob`` and that of embeddings."""

    def plan(self, figures: Figures) -> Figures:
        of_features = ", ".join(self.job.request.of("features"))
        of_prob = self.job.request.record == "prob"
        return look_figures(self.job, figures, "the column 'prob'" if of_prob else f"{of_features} of the embeddings")

    def load(self, reading: Reading) -> Columns:
        request = self.job.request
        probabilities = reading.probabilities() if request.record == "prob" else None
        embeddings = reading.embeddings() if request.features == "embedding" else None
        if embeddings is not None and any(isinstance(p, ByAngle) and p.by_angle() for p in request.of("features").values()):
            reading.check(lambda: (~np.any(embeddings.values, axis=1), "zero vector"))
        return probabilities, embeddings

    def scores(self, loaded: Columns, scoring: Scoring) -> Scored:
        (probabilities, embeddings), scored = loaded, Scored()
        if probabilities is not None:
            record = record_of_probabilities(probabilities.values, scoring.labels.codes_n)
            scored.add(score_records(self.job.request, [record], "prob"))
        if embeddings is not None:
            scored.add(score_features(self.job, scoring, embeddings.values))
        return scored


@dataclass(frozen=True)
class FileRows:
    """The rows of a file that says all there is to say.

    Args:
        plan: what scoring them costs.
        origin: the files that are read, and what reads them.
        scores: returns the scores, with all that provenance says of each.
    """

    ids: pa.Array
    labels: pa.Array | None
    plan: Figures
    origin: SourceFacts
    scores: Callable[[], Scored]


def score_files(options: ScoreOptions, params: Mapping[str, Any], watch: Stopwatch) -> Outcome | None:
    """Score what files say, without images or a training; return None where the scores are to be computed.

    Raises:
        InputError: options that are for what is computed; nothing is written.
    """
    if options.from_dynamics is not None:
        request = _record_request(options, params)
        source = ParquetSource(options.from_dynamics)
        read = partial(_dynamics, request, source)
    elif any(find_method("score", name).needs == "relabels" for name in options.methods):
        dataset, location = _relabels_of(options)
        source, read = dataset.source, partial(_relabels, dataset, location)
    else:
        return None
    output = options.output or f"{source.stem}.scores.parquet"
    if not options.plan:
        check_output(output, options.force)
    rows = read()
    if options.plan:
        return plan_outcome("score", rows.plan)
    scored, outcome = rows.scores(), Outcome()
    provenance = Provenance(
        command="score",
        method=",".join(options.methods),
        parameters=scored.stated,
        seed=options.runtime.seed,
        inputs=rows.origin.inputs,
        packages=rows.origin.packages,
        score_direction={c: d for name in options.methods for c, d in find_method("score", name).columns.items()},
        rows=row_counts(len(rows.ids), len(rows.ids)),
    )
    write_scores(output, rows.ids, rows.labels, scored.columns, provenance, source, outcome)
    outcome.outputs = [output]
    outcome.summary = watch.summary("score", output=output, method=provenance.method, **provenance.rows, **scored.facts)
    return outcome


def _record_request(options: ScoreOptions, params: Mapping[str, Any]) -> Request:
    if options.data is not None or options.model is not None or options.save_features or options.save_dynamics:
        raise InputError(
            "--from-dynamics takes all there is from the record",
            "leave out DATA, --model, --save-features and --save-dynamics, or leave out --from-dynamics",
        )
    methods = {name: find_method("score", name) for name in options.methods}
    for name, method in methods.items():
        if method.needs != "record":
            raise InputError(f"{name} is not taken from a dynamics record", f"score it from the data: prune score DATA --method {name}")
    return Request(methods, params, "file", None)


def _dynamics(request: Request, source: ParquetSource) -> FileRows:
    file = RecordFile(source)

    def scores() -> Scored:
        records = [file.of_run(number) for number in range(file.runs)]
        scored = score_records(request, records, "file")
        for name, more in scored.stated.items():
            scored.stated[name] = {**dataclasses.asdict(request.params[name]), **more}
        scored.facts = {"epochs": records[0].n_epochs, "runs": file.runs}
        return scored

    plan = {
        "rows": len(file.ids),
        "passes_over_data": len(request.methods) * file.runs,
        "algorithm": "one column of the record a score, an epoch at a time",
        "peak_memory_bytes": 400 * 2**20 + 200 * len(file.ids),
        "disk_bytes": len(file.ids) * (32 + 8 * len(request.methods)),
    }
    origin = SourceFacts(inputs=tuple(source.inputs), packages=("numpy", "pyarrow"))
    return FileRows(file.ids, file.label_values(), plan, origin, scores)


def _relabels_of(options: ScoreOptions) -> tuple[Dataset, str]:
    if options.data is None or options.model is None or len(options.methods) > 1:
        raise InputError(
            "p_clean is read from the run of a re-labeling recipe, by itself",
            "train one, prune train DATA --recipe sop -o run, then: prune score DATA --method p_clean --model run",
        )
    location = Path(options.model) / RELABELS
    if not location.is_file():
        raise InputError(f"{options.model} has no {RELABELS}", "give the run of a re-labeling recipe, as --recipe sop")
    return Dataset(options.data), str(location)


def _relabels(dataset: Dataset, location: str) -> FileRows:
    def scores() -> Scored:
        p_clean_n, facts = p_clean_of(location, dataset.ids, dataset.options.location)
        return Scored(find_method("score", "p_clean").load()(p_clean_n), {"p_clean": dict(facts)})

    plan = {"rows": len(dataset), "passes_over_data": 1, "algorithm": f"p_clean of {RELABELS}"}
    origin = SourceFacts(inputs=(*dataset.source.inputs, *ParquetSource(location).inputs), packages=("pyarrow",))
    return FileRows(dataset.ids, dataset.labels.values(), plan, origin, scores)
