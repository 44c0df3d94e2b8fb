"""Scores of what is in files already: a dynamics record, the new labels of a run. Nothing is computed of the samples themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import ID
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.dynamics import RecordFile
from prune_cli.io.manifests.relabels import RELABELS
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import ParquetSource, write_table
from prune_cli.io.stores.atomic import check_output
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.scores.record.dynamics import Record
from prune_cli.stages.evaluate.relabels import p_clean_of
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.score.options import ScoreOptions
from prune_cli.stages.score.sources.record import (
    average_scores,
    record_facts,
)


def score_relabels(options: ScoreOptions, outcome: Outcome, watch: Stopwatch) -> Outcome:
    """Score by the new labels of a run: no images, no training."""
    if options.data is None or options.model is None or len(options.methods) > 1:
        raise InputError(
            "p_clean is read from the run of a re-labeling recipe, by itself",
            "train one, prune train DATA --recipe sop -o run, then: prune score DATA --method p_clean --model run",
        )
    location = Path(options.model) / RELABELS
    if not location.is_file():
        raise InputError(f"{options.model} has no {RELABELS}", "give the run of a re-labeling recipe, as --recipe sop")
    dataset = Dataset(options.data)
    output = options.output or f"{dataset.source.stem}.scores.parquet"
    if options.plan:
        return plan_outcome(
            "score", {"rows": len(dataset), "passes_over_data": 1, "algorithm": f"p_clean of {RELABELS}"}
        )
    check_output(output, options.force)
    p_clean_n, facts = p_clean_of(str(location), dataset.ids, options.data.location)
    method = find_method("score", "p_clean")
    provenance = Provenance(
        command="score",
        method="p_clean",
        parameters={"p_clean": facts},
        seed=options.runtime.seed,
        inputs=(*dataset.source.inputs, *ParquetSource(str(location)).inputs),
        packages=("pyarrow",),
        score_direction=dict(method.columns),
        rows={"rows_in": len(dataset), "rows_out": len(dataset), "rows_bad": 0},
    )
    columns = method.load()(p_clean_n)
    write_scores(output, dataset.ids, dataset.labels.values(), columns, provenance, dataset.source, outcome)
    outcome.outputs = [output]
    outcome.summary = {"command": "score", "output": output, "method": "p_clean", **provenance.rows, **watch.figures()}
    return outcome


def score_record(options: ScoreOptions, params: Mapping[str, Any], outcome: Outcome, watch: Stopwatch) -> Outcome:
    """Score what a dynamics record says: no images, no training."""
    if options.data is not None or options.model is not None or options.save_features or options.save_dynamics:
        raise InputError(
            "--from-dynamics takes all there is from the record",
            "leave out DATA, --model, --save-features and --save-dynamics, or leave out --from-dynamics",
        )
    methods = {name: find_method("score", name) for name in options.methods}
    for name, method in methods.items():
        if method.needs != "record":
            raise InputError(
                f"{name} is not taken from a dynamics record",
                f"score it from the data: prune score DATA --method {name}",
            )
    source = ParquetSource(str(options.from_dynamics))
    output = options.output or f"{source.stem}.scores.parquet"
    if not options.plan:
        check_output(output, options.force)
    file = RecordFile(source)
    if options.plan:
        figures = {
            "rows": len(file.ids),
            "passes_over_data": len(methods) * file.runs,
            "algorithm": "one column of the record a score, an epoch at a time",
            "peak_memory_bytes": 400 * 2**20 + 200 * len(file.ids),
            "disk_bytes": len(file.ids) * (32 + 8 * len(methods)),
        }
        return plan_outcome("score", figures)
    records: list[Record] = [file.of_run(number) for number in range(file.runs)]
    stated: dict[str, Any] = {}
    columns: dict[str, np.ndarray] = {}
    for name, method in methods.items():
        columns |= average_scores(method, params[name], records)
        stated[name] = {**dataclasses.asdict(params[name]), **record_facts(name, params[name], records, "file")}
    provenance = Provenance(
        command="score",
        method=",".join(options.methods),
        parameters=stated,
        seed=options.runtime.seed,
        inputs=source.inputs,
        packages=("numpy", "pyarrow"),
        score_direction={c: d for m in methods.values() for c, d in m.columns.items()},
        rows={"rows_in": len(file.ids), "rows_out": len(file.ids), "rows_bad": 0},
    )
    write_scores(output, file.ids, file.label_values(), columns, provenance, source, outcome)
    outcome.outputs = [output]
    outcome.summary = {
        "command": "score",
        "output": output,
        "method": provenance.method,
        **provenance.rows,
        "epochs": records[0].n_epochs,
        "runs": file.runs,
        **watch.figures(),
    }
    return outcome


def write_scores(
    output: str,
    ids: pa.Array,
    labels: pa.Array | None,
    columns: Mapping[str, np.ndarray],
    provenance: Provenance,
    source: ParquetSource,
    outcome: Outcome,
) -> None:
    """Write the score manifest and tell what is in it."""
    table = pa.table(
        {
            ID: ids,
            **({"label": labels} if labels is not None else {}),
            **{name: pa.array(column, pa.float64()) for name, column in columns.items()},
        }
    )
    write_table(output, table, provenance, source)
    rows = [["score", "direction", "lowest", "median", "highest"]]
    for name, column in columns.items():
        quantiles = (f"{v:.6g}" for v in np.quantile(column, [0, 0.5, 1]))
        rows.append([name, f"{provenance.score_direction[name]} when high", *quantiles])
    outcome.tables["scores"] = rows
