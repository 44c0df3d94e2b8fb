"""Scores of what is in files already: a dynamics record, the new labels of a run. Nothing is computed of the samples themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.dynamics import RecordFile
from prune_cli.io.manifests.relabels import RELABELS
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.stores.atomic import check_output
from prune_cli.methods.registry.lookup import find_method
from prune_cli.stages.evaluate.relabels import p_clean_of
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.score.contract import Figures, Origin, Scored
from prune_cli.stages.score.options import ScoreOptions
from prune_cli.stages.score.output import write_scores
from prune_cli.stages.score.request import Request
from prune_cli.stages.score.sources.record_scores import score_records


class FileSource(Protocol):
    """A file that says all there is to say."""

    @property
    def source(self) -> ParquetSource:
        """Return the file whose rows are scored."""

    def origin(self) -> Origin:
        """Return what provenance says of it."""

    def plan(self) -> Figures:
        """Return what scoring costs."""

    def samples(self) -> tuple[pa.Array, pa.Array | None]:
        """Return the ids and the labels."""

    def scores(self) -> Scored:
        """Return the scores, with what provenance says of each in whole."""


@dataclass(frozen=True)
class DynamicsSource:
    """A dynamics record."""

    request: Request
    source: ParquetSource

    @cached_property
    def file(self) -> RecordFile:
        """Return the record, read once."""
        return RecordFile(self.source)

    def origin(self) -> Origin:
        """Return the record."""
        return Origin(inputs=self.source.inputs, packages=("numpy", "pyarrow"))

    def plan(self) -> Figures:
        """Return what reading its columns costs."""
        rows, methods = len(self.file.ids), len(self.request.methods)
        return {
            "rows": rows,
            "passes_over_data": methods * self.file.runs,
            "algorithm": "one column of the record a score, an epoch at a time",
            "peak_memory_bytes": 400 * 2**20 + 200 * rows,
            "disk_bytes": rows * (32 + 8 * methods),
        }

    def samples(self) -> tuple[pa.Array, pa.Array | None]:
        """Return those of the record."""
        return self.file.ids, self.file.label_values()

    def scores(self) -> Scored:
        """Return the scores of all its runs."""
        records = [self.file.of_run(number) for number in range(self.file.runs)]
        scored = score_records(self.request, records, "file")
        for name, params in self.request.records.items():
            scored.stated[name] = {**dataclasses.asdict(params), **scored.stated[name]}  # type: ignore[call-overload]
        scored.facts = {"epochs": records[0].n_epochs, "runs": self.file.runs}
        return scored


@dataclass(frozen=True)
class RelabelsSource:
    """The new labels of a run."""

    dataset: Dataset
    location: str

    @property
    def source(self) -> ParquetSource:
        """Return the data."""
        return self.dataset.source

    def origin(self) -> Origin:
        """Return the data and the labels."""
        inputs = (*self.source.inputs, *ParquetSource(self.location).inputs)
        return Origin(inputs=inputs, packages=("pyarrow",))

    def plan(self) -> Figures:
        """Return what reading it costs."""
        return {"rows": len(self.dataset), "passes_over_data": 1, "algorithm": f"p_clean of {RELABELS}"}

    def samples(self) -> tuple[pa.Array, pa.Array | None]:
        """Return those of the data."""
        return self.dataset.ids, self.dataset.labels.values()

    def scores(self) -> Scored:
        """Return how likely each label is right."""
        p_clean_n, facts = p_clean_of(self.location, self.dataset.ids, self.dataset.options.location)
        return Scored(find_method("score", "p_clean").load()(p_clean_n), {"p_clean": dict(facts)})


def find_file_source(options: ScoreOptions, params: Mapping[str, Any]) -> FileSource | None:
    """Return the file that the scores are in, or None where they are to be computed.

    Raises:
        InputError: options that are for what is computed.
    """
    methods = {name: find_method("score", name) for name in options.methods}
    if options.from_dynamics is not None:
        if options.data is not None or options.model is not None or options.save_features or options.save_dynamics:
            raise InputError(
                "--from-dynamics takes all there is from the record",
                "leave out DATA, --model, --save-features and --save-dynamics, or leave out --from-dynamics",
            )
        for name, method in methods.items():
            if method.needs != "record":
                raise InputError(
                    f"{name} is not taken from a dynamics record",
                    f"score it from the data: prune score DATA --method {name}",
                )
        return DynamicsSource(Request(methods, params, "file", None), ParquetSource(options.from_dynamics))
    if not any(method.needs == "relabels" for method in methods.values()):
        return None
    if options.data is None or options.model is None or len(methods) > 1:
        raise InputError(
            "p_clean is read from the run of a re-labeling recipe, by itself",
            "train one, prune train DATA --recipe sop -o run, then: prune score DATA --method p_clean --model run",
        )
    location = Path(options.model) / RELABELS
    if not location.is_file():
        raise InputError(f"{options.model} has no {RELABELS}", "give the run of a re-labeling recipe, as --recipe sop")
    return RelabelsSource(Dataset(options.data), str(location))


def score_file(found: FileSource, options: ScoreOptions, watch: Stopwatch) -> Outcome:
    """Score what a file says: no images, no training."""
    outcome, output = Outcome(), options.output or f"{found.source.stem}.scores.parquet"
    if options.plan:
        return plan_outcome("score", found.plan())
    check_output(output, options.force)
    (ids, labels), scored, origin = found.samples(), found.scores(), found.origin()
    provenance = Provenance(
        command="score",
        method=",".join(options.methods),
        parameters=scored.stated,
        seed=options.runtime.seed,
        score_direction={c: d for name in options.methods for c, d in find_method("score", name).columns.items()},
        rows={"rows_in": len(ids), "rows_out": len(ids), "rows_bad": 0},
        inputs=origin.inputs,
        packages=origin.packages,
    )
    write_scores(output, ids, labels, scored.columns, provenance, found.source, outcome)
    outcome.outputs = [output]
    named = {"command": "score", "output": output, "method": provenance.method}
    outcome.summary = {**named, **provenance.rows, **scored.facts, **watch.figures()}
    return outcome
