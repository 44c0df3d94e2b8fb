"""The cells of a comparison: one training on one selection and what its network does on the test set, each done once.

A cell is named by a hash of everything its numbers depend on and kept as one JSON file, written whole. A run that was killed goes
on from what is there, a training in the middle from its checkpoint.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from prune_cli.core.errors import InputError, NumericalError
from prune_cli.core.launch import ALONE
from prune_cli.core.runtime import Runtime
from prune_cli.engines.processes import map_jobs
from prune_cli.io.manifests.data import DataOptions
from prune_cli.io.manifests.ledger import ErrorAllowance
from prune_cli.io.runs.folder import HISTORY, read_run
from prune_cli.io.stores.atomic import atomic_file
from prune_cli.stages.evaluate.command import EvaluateOptions, evaluate
from prune_cli.stages.train.command import train
from prune_cli.stages.train.options import TrainOptions

_EVERY_ROW = ErrorAllowance(share=1.0)


@dataclass(frozen=True)
class Cell:
    """One training of a comparison.

    Args:
        file: the selection, or None for all rows.
        digest: of the rows that are trained on.
        budget: ``steps`` or ``epochs``.
        seed: of first weights and order.
    """

    subset: str
    file: str | None
    digest: str
    budget: str
    amount: int
    seed: int


@dataclass(frozen=True)
class CellSettings:
    """What all cells of a comparison share.

    Args:
        training: without rows, budget and seed, which are each cell's own.
        identity: everything but the cell itself that its numbers depend on.
        few: a selection of a few rows, trained on once in every process: libraries get ready in the first steps, and no cell
            should pay for that in seconds.
    """

    training: TrainOptions
    test: DataOptions
    identity: Mapping[str, Any]
    few: str
    work: Path
    keep_runs: bool = False


@dataclass(frozen=True)
class CellResult:
    """What one training gave.

    Args:
        metrics: name -> value on the test set.
        class_accuracy: class name -> share of its test samples that are right.
        seconds: of the training, without reading data.
        flops: of the training: three forward passes a sample presented.
        steps, samples: optimiser steps, and samples presented.
        smallest_class: how many of the class with the fewest.
    """

    metrics: Mapping[str, float]
    class_accuracy: Mapping[str, float]
    seconds: float
    flops: float
    steps: int
    samples: int
    test_samples: int
    smallest_class: int


def cell_path(settings: CellSettings, cell: Cell) -> Path:
    """Return where the result of a cell is kept."""
    named = [dict(settings.identity), cell.digest, cell.budget, cell.amount, cell.seed]
    key = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:32]
    return settings.work / "cells" / f"{key}.json"


def read_cell(settings: CellSettings, cell: Cell) -> CellResult | None:
    """Return what a cell gave, or None where it is not done."""
    try:
        return CellResult(**json.loads(cell_path(settings, cell).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def run_cells(
    cells: Sequence[Cell],
    settings: CellSettings,
    *,
    jobs: int,
    threads: int | None,
    keep_open: Sequence[int],
    done: Callable[[int, int], None],
) -> Iterator[tuple[Cell, CellResult]]:
    """Yield every cell with its result, training those that are not there; cells with the same rows are trained once.

    Args:
        jobs: trainings at a time.
        threads: of each, or None.
        keep_open: descriptors that the processes share.
        done: told how many of all are done.
    Raises:
        PruneError: a training failed; those that are done stay.
    """
    by_path: dict[Path, Cell] = {}
    for cell in cells:
        by_path.setdefault(cell_path(settings, cell), cell)
    missing = [cell for cell in by_path.values() if read_cell(settings, cell) is None]
    done(len(by_path) - len(missing), len(by_path))
    stated = json.loads(json.dumps(dataclasses.asdict(settings), default=str))
    tasks = [{"settings": stated, "cell": dataclasses.asdict(cell)} for cell in missing]
    ended = len(by_path) - len(missing)
    for _ in map_jobs("prune_cli.stages.compare.cells:run_task", tasks, workers=jobs, threads=threads, keep_open=keep_open):
        ended += 1
        done(ended, len(by_path))
    for cell in cells:
        result = read_cell(settings, cell)
        if result is None:
            raise InputError(f"{cell_path(settings, cell)} has gone meanwhile", "run the same command once more")
        yield cell, result


def run_task(task: Mapping[str, Any]) -> None:
    """Train and test the cell of a task, both as JSON values; its result goes to its file."""
    settings = _settings(task["settings"])
    _get_ready(settings.few, settings.work, json.dumps(task["settings"], sort_keys=True))
    run_cell(Cell(**task["cell"]), settings)


def run_cell(cell: Cell, settings: CellSettings) -> CellResult:
    """Train on the cell's rows for its budget and test the network of the last step; what is done already is returned.

    Raises:
        PruneError: see `train` and `evaluate`.
    """
    found = read_cell(settings, cell)
    if found is not None:
        return found
    path = cell_path(settings, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    run = settings.work / "runs" / path.stem
    run.parent.mkdir(exist_ok=True)
    training = _training(cell, settings)
    try:
        train(dataclasses.replace(training, output=str(run), resume=True))
    except NumericalError as error:
        raise NumericalError(f"{cell.subset}, seed {cell.seed}: {error.message}", error.cure) from error
    report = run.with_name(f"{run.name}.evaluate.parquet")
    test = dataclasses.replace(settings.test, max_errors=_EVERY_ROW)
    tested = evaluate(EvaluateOptions(run, test, output=str(report), force=True, runtime=training.runtime))
    result = _result(run, report, int(tested.summary["rows_out"]))
    with atomic_file(path) as file:
        file.write(json.dumps(dataclasses.asdict(result), sort_keys=True, allow_nan=False).encode())
    if not settings.keep_runs:
        shutil.rmtree(run)
        for left in run.parent.glob(f"{run.name}.*"):
            left.unlink()
    return result


def _training(cell: Cell, settings: CellSettings) -> TrainOptions:
    shared = settings.training
    data, runtime = dataclasses.replace(shared.data, max_errors=_EVERY_ROW), dataclasses.replace(shared.runtime, seed=cell.seed)
    amount: dict[str, Any] = {cell.budget: cell.amount}
    return dataclasses.replace(shared, data=data, subset=cell.file, runtime=runtime, **amount)


@functools.cache
def _get_ready(few: str, work: Path, stated: str) -> None:
    """Train for two steps on a few rows, once in a process, and throw that away."""
    settings = _settings(json.loads(stated))
    run = work / "runs" / f"ready-{os.getpid()}"
    run.parent.mkdir(parents=True, exist_ok=True)
    cell = Cell("ready", few, "", "steps", 2, 0)
    try:
        train(dataclasses.replace(_training(cell, settings), output=str(run), force=True))
    finally:
        for left in (run, run.with_name(f"{run.name}.incomplete")):
            shutil.rmtree(left, ignore_errors=True)


def _result(run: Path, report: Path, test_samples: int) -> CellResult:
    rows = pq.read_table(report).to_pylist()
    metrics = {r["metric"]: r["value"] for r in rows if r["class"] is None and r["predicted"] is None}
    classes = {r["class"]: r["value"] for r in rows if r["metric"] == "accuracy" and r["class"] is not None}
    metrics["worst_class_accuracy"] = min(classes.values())
    sizes: dict[str, float] = {}
    for row in rows:
        if row["metric"] == "confusion":
            sizes[row["class"]] = sizes.get(row["class"], 0) + row["value"]
    history = pq.read_table(run / HISTORY)
    model = read_run(run).model
    seen = history["samples"].to_numpy()
    flops = history["flops"].to_numpy() if "flops" in history.column_names else np.full(len(seen), model["flops"])
    return CellResult(
        metrics=metrics,
        class_accuracy=classes,
        seconds=float(history["seconds"].to_numpy().sum()),
        flops=float(3 * (np.diff(seen, prepend=0) * flops.astype(np.float64)).sum()),
        steps=int(history["step"][-1].as_py()),
        samples=int(seen[-1]),
        test_samples=test_samples,
        smallest_class=int(min(sizes.values())),
    )


def _settings(stated: Mapping[str, Any]) -> CellSettings:
    training = stated["training"] | {
        "data": _data_options(stated["training"]["data"]),
        "params": tuple(stated["training"]["params"]),
        "runtime": Runtime(**stated["training"]["runtime"]),
        "init": (),
        "export": (),
        "launch": ALONE,
    }
    test, work = _data_options(stated["test"]), Path(stated["work"])
    return CellSettings(**{**stated, "training": TrainOptions(**training), "test": test, "work": work})


def _data_options(stated: Mapping[str, Any]) -> DataOptions:
    root, size, allowed = (stated[name] for name in ("root", "image_size", "max_errors"))
    read = {"root": root and Path(root), "image_size": size and tuple(size), "max_errors": ErrorAllowance(**allowed)}
    return DataOptions(**{**stated, **read})
