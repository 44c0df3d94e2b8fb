"""``prune evaluate``: a run folder and a test set in, a report manifest out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import Runtime
from prune_cli.io.ids.columns import Labels, locate
from prune_cli.io.images.spool import drop_rows
from prune_cli.io.manifests.data import DataOptions, Dataset
from prune_cli.io.manifests.ledger import Ledger, ledger_path, settle
from prune_cli.io.manifests.report import REPORT, ReportRows
from prune_cli.io.manifests.selection import selected_ids
from prune_cli.io.parquet.provenance import InputFile, Provenance
from prune_cli.io.parquet.tables import ParquetSource, write_table
from prune_cli.io.runs.folder import FinishedRun, read_run, run_files
from prune_cli.io.stores.atomic import check_output
from prune_cli.methods.devices import device_name, resolve_device
from prune_cli.methods.metrics import classification_metrics
from prune_cli.methods.training.networks.predict import predict
from prune_cli.stages.evaluate.relabels import label_names, noise_share, relabeling_figures, wrong_labels
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome

PACKAGES = ("numpy", "torch", "torchvision", "torchmetrics", "pyarrow", "pillow")

PROCESS_BYTES = 1500 * 2**20
"""Resident size of Python with torch and torchmetrics, and a batch on its way through the network."""


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of ``prune evaluate``; see docs/commands.md."""

    run: Path
    data: DataOptions
    trained_on: str | None = None
    subset: str | None = None
    relabels: str | None = None
    output: str | None = None
    force: bool = False
    plan: bool = False
    runtime: Runtime = dataclasses.field(default_factory=Runtime)


def evaluate(options: EvaluateOptions, progress: Progress = silent) -> Outcome:
    """Measure a trained run on a test set.

    Returns:
        Outcome whose output is a report manifest, one row a number; a share is 0 to 1.
    Raises:
        InputError: bad input or options, a class the model does not know; nothing is written.
        BadRowsError: more bad rows than allowed; the ledger alone is written.
    """
    watch = Stopwatch()
    outcome = Outcome()
    run = read_run(options.run)
    data, channels = as_trained(options.data, run)
    dataset = Dataset(data)
    output = options.output or f"{options.run.resolve().name}.evaluate.parquet"
    if not options.plan:
        check_output(output, options.force)
    if dataset.ids_made_up:
        outcome.warnings.append(f"no column '{data.id_column}': ids are the positions, row-00000000 and on")
    labels = _recoded(dataset.labels, run, data)
    if options.plan:
        return plan_outcome("evaluate", _plan(run, dataset))
    resolve_device(options.runtime.device)
    ledger = Ledger()
    ledger.add_all(np.flatnonzero(labels.codes_n < 0), "missing label")
    inputs = dataset.load_inputs(ledger, workers=options.runtime.worker_count(), channels=channels, as_float32=True, progress=progress)
    if list(inputs.shape[1:]) != list(run.model["input_size"]):
        has = f"{options.data.location} has inputs of shape {list(inputs.shape[1:])}"
        raise InputError(f"{has}, {options.run} was trained on {run.model['input_size']}", "test on data of the same shape")
    good = ledger.good(len(dataset))
    kept = np.flatnonzero(good)
    inputs = drop_rows(inputs, good)
    noise, noise_inputs = _label_noise(options, outcome)
    relabeled, relabel_inputs = _relabeling(options, dataset)
    counts = {"rows_in": len(dataset), "rows_out": len(kept), "rows_bad": len(ledger)}
    sources = [*run_files(run), *dataset.source.inputs, *noise_inputs, *relabel_inputs]
    provenance = _provenance(options, run, data, sources, counts)
    errors = ledger_path(output, f"{options.run.name}.evaluate")
    settle(ledger, dataset.ids, data.max_errors, errors, provenance)
    if len(ledger):
        outcome.warnings.append(f"{len(ledger)} bad row(s) left out, listed in {errors}")
    logits_nc = predict(run.tensors, run.model, inputs, runtime=options.runtime, progress=progress).logits_nc
    report = ReportRows(REPORT, seed=run.model["seed"], split=data.split, subset=run.model["subset"])
    headline = _measure(report, logits_nc, labels.codes_n[kept], _shown_names(run), "")
    if dataset.true_labels is not None:
        true_k = _recoded(dataset.true_labels, run, data).codes_n[kept]
        known = true_k >= 0
        if known.any():
            headline |= _measure(report, logits_nc[known], true_k[known], _shown_names(run), "true_label_", False)
    for metric, value in (noise | relabeled).items():
        report.add(metric, value, "share")
        headline[metric] = value
    write_table(output, report.table(), provenance)
    outcome.outputs = [output]
    outcome.summary = watch.summary("evaluate", output=output, run=str(options.run), **counts, **headline)
    outcome.tables = _tables(report, headline, _shown_names(run))
    return outcome


def _recoded(labels: Labels, run: FinishedRun, data: DataOptions) -> Labels:
    """Return labels by the codes that the run has for the classes."""
    return labels.recoded(run.model["classes"], run.model["class_names"], data.location)


def _shown_names(run: FinishedRun) -> list[str]:
    return list(run.model["class_names"]) if run.model["class_names"] else [str(c) for c in run.model["classes"]]


def _plan(run: FinishedRun, dataset: Dataset) -> dict[str, Any]:
    """Return the figures of ``--plan``."""
    input_bytes = len(dataset) * int(np.prod(run.model["input_size"])) * (1 if dataset.kind == "image" else 4)
    return {
        "rows": len(dataset),
        "passes_over_data": 1,
        "algorithm": f"{run.model['architecture']} in batches",
        "flops": run.model["flops"] * len(dataset),
        "peak_memory_bytes": PROCESS_BYTES + input_bytes,
        "disk_bytes": 64 * (20 + len(run.model["classes"]) ** 2),
    }


def _provenance(
    options: EvaluateOptions, run: FinishedRun, data: DataOptions, sources: Sequence[InputFile], counts: Mapping[str, int]
) -> Provenance:
    return Provenance(
        command="evaluate",
        method=run.model["recipe"],
        parameters={"data": data.identity(), "precision": options.runtime.precision, "architecture": run.model["architecture"]},
        seed=run.model["seed"],
        inputs=sources,
        device=device_name(options.runtime.device),
        packages=PACKAGES,
        rows=counts,
    )


def _tables(report: ReportRows, headline: dict[str, float], names: list[str]) -> dict[str, list[list[str]]]:
    tables = {"metrics": [["metric", "value"], *([k, f"{v:.4f}"] for k, v in headline.items())]}
    per_class = {r["class"]: r["value"] for r in report.select("accuracy") if r.get("class") is not None}
    worst = sorted(per_class.items(), key=lambda item: item[1])[:20]
    tables["accuracy per class, worst first"] = [["class", "accuracy"], *([name, f"{value:.4f}"] for name, value in worst)]
    if len(names) <= 12:
        cells = {(r["class"], r["predicted"]): r["value"] for r in report.select("confusion")}
        rows = [["true class", *names]]
        rows += [[true, *(f"{cells.get((true, p), 0):.0f}" for p in names)] for true in names]
        tables["confusion: rows as labeled, columns as predicted"] = rows
    return tables


def _measure(
    report: ReportRows, logits_nc: np.ndarray, codes_n: np.ndarray, names: list[str], prefix: str, confusion: bool = True
) -> dict[str, float]:
    found = classification_metrics(logits_nc, codes_n, len(names))
    headline = {f"{prefix}{m}": float(found[m]) for m in ("accuracy", "top5", "loss", "ece") if m in found}
    for metric, value in headline.items():
        report.add(metric, value, "nats" if metric.endswith("loss") else "share")
    for name, value in zip(names, found["class_accuracy"].tolist(), strict=True):
        if np.isfinite(value):
            report.add(f"{prefix}accuracy", value, "share", class_name=name)
    if confusion:
        for i, j in np.argwhere(found["confusion"] > 0).tolist():
            report.add("confusion", float(found["confusion"][i, j]), "samples", class_name=names[i], predicted=names[j])
    return headline


def as_trained(data: DataOptions, run: FinishedRun) -> tuple[DataOptions, Literal["auto", 1, 3]]:
    """Return the options that give inputs as the run was trained on: the same kind, size and channels."""
    if run.model["input"] == "embedding":
        return dataclasses.replace(data, input=data.input or "embedding"), "auto"
    height, width, channels = run.model["input_size"]
    return dataclasses.replace(data, input=data.input or "image", image_size=(height, width)), channels


def _label_noise(options: EvaluateOptions, outcome: Outcome) -> tuple[dict[str, float], list[InputFile]]:
    """Return the share of wrong labels in the training data and in the selection, where true labels are known."""
    if options.trained_on is None:
        if options.subset is not None:
            raise InputError("--subset is given without --data", "name what the run was trained on: --data DATA --subset SELECTION")
        return {}, []
    dataset = Dataset(dataclasses.replace(options.data, location=options.trained_on, split=None))
    true = dataset.true_labels
    if true is None:
        outcome.warnings.append(
            f"{options.trained_on} has no column '{options.data.true_label_column}': the share of wrong labels is not known"
        )
        return {}, list(dataset.source.inputs)
    wrong_n = wrong_labels(dataset.labels, true)
    shares = {"label_noise_data": noise_share(wrong_n)}
    inputs = list(dataset.source.inputs)
    if options.subset is not None:
        selection = ParquetSource(options.subset)
        ids = selected_ids(selection)
        rows = locate(ids, dataset.ids, options.subset, options.trained_on)
        shares["label_noise_subset"] = noise_share(wrong_n, rows)
        inputs += selection.inputs
    return {name: share for name, share in shares.items() if share is not None}, inputs


def _relabeling(options: EvaluateOptions, tested: Dataset) -> tuple[dict[str, float], Sequence[InputFile]]:
    """Return what the new labels of a run got right, where the true ones are known: in --data, or in what is tested on."""
    if options.relabels is None:
        return {}, []
    dataset, where = tested, options.data.location
    if options.trained_on is not None:
        where = options.trained_on
        dataset = Dataset(dataclasses.replace(options.data, location=where, split=None))
    if dataset.true_labels is None:
        raise InputError(
            f"--relabels needs true labels, and {where} has no column '{options.data.true_label_column}'",
            "name what the run was trained on with --data, and the column with --true-label-column",
        )
    true_n = label_names(dataset.true_labels)
    return relabeling_figures(options.relabels, dataset.ids, true_n, where), ParquetSource(options.relabels).inputs
