"""What a comparison trains and tests on, how many trainings it is, what one takes, and how many go at a time."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import format_size
from prune_cli.io.ids.columns import Labels
from prune_cli.io.manifests.data import DataOptions, Dataset
from prune_cli.io.manifests.ledger import Ledger, ledger_path, settle
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.stores.locations import STDIN, beside, is_remote
from prune_cli.io.stores.reading import fetch
from prune_cli.methods.devices import free_memory
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.training.loop.timetable import Budget, planned_steps, training_cost
from prune_cli.stages.compare.options import FULL, CompareOptions, budgets_of, seeds_of
from prune_cli.stages.compare.subsets import SubsetMaker
from prune_cli.stages.select.request import row_count
from prune_cli.stages.train.inputs import network_sizes


@dataclass(frozen=True)
class Sets:
    """The two data sets, opened; labels of both by the codes of the first."""

    dataset: Dataset
    test: Dataset
    labels: Labels
    test_labels: Labels


def open_sets(data: DataOptions, test: DataOptions) -> Sets:
    """Return both data sets.

    Raises:
        InputError: a file that cannot be used, or a class of the test set that the data have not.
    """
    dataset, tested = Dataset(data), Dataset(test)
    labels = dataset.labels
    return Sets(dataset, tested, labels, tested.labels.recoded(labels.classes, labels.names, test.location))


def verify_rows(sets: Sets, output: str, workers: int, progress: Progress) -> tuple[np.ndarray, list[str]]:
    """Look at every row of both sets before anything is trained; return (N,) bool rows to train on, and what to warn of.

    Raises:
        BadRowsError: more bad rows than allowed; the ledger is written.
    """
    warnings = []
    good = np.ones(len(sets.dataset), bool)
    stem = f"{sets.dataset.source.stem}.compare"
    for name, one, codes_n in (("", sets.dataset, sets.labels.codes_n), (".test", sets.test, sets.test_labels.codes_n)):
        ledger = Ledger()
        ledger.add_all(np.flatnonzero(codes_n < 0), "missing label")
        one.verify_inputs(ledger, workers=workers, progress=progress)
        path = ledger_path(beside(output, f"{name}.parquet") if output != STDIN else output, stem + name)
        stated = Provenance(
            "compare", "rows", {}, 0, one.source.inputs, packages=("pyarrow",),
            rows={"rows_in": len(one), "rows_out": len(one) - len(ledger), "rows_bad": len(ledger)},
        )  # fmt: skip
        settle(ledger, one.ids, one.options.max_errors, path, stated)
        if len(ledger):
            warnings.append(f"{len(ledger)} bad row(s) of {one.options.location} left out, listed in {path}")
        if one is sets.dataset:
            good = ledger.good(len(one))
    return good, warnings


def at_hand(data: DataOptions, folder: Path) -> DataOptions:
    """Return how to read the data from this machine: where they are, or from a copy of what is in an object store."""
    if not is_remote(data.location):
        return data
    return dataclasses.replace(data, location=fetch(data.location, folder), root=data.root or Path.cwd())


_STEP_SECONDS, _FLOPS_A_SECOND, _WORTH_PROCESSES = 1e-3, 4e10, 30.0
"""A step takes about a millisecond at least, and small networks get some 40 GFLOP/s from a core; a process takes seconds to start, so
for less than half a minute of work none is started."""


@dataclass(frozen=True)
class OneTraining:
    """What one training on all the data takes.

    Args:
        step: figures of one step; see `training_cost`.
        nbytes: memory of all of it.
    """

    architecture: str
    step: Mapping[str, Any]
    nbytes: int


def one_training(options: CompareOptions, sets: Sets) -> OneTraining:
    """Return what one training on all the data takes."""
    rows = np.flatnonzero(sets.labels.codes_n >= 0)
    sizes = network_sizes(sets.dataset, rows, options.architecture)
    n_rows, n_classes = len(sets.dataset), len(sets.labels.classes)
    step = training_cost(sizes.architecture, sizes.input_shape, n_classes, Budget(steps=1), n_rows, options.runtime)
    return OneTraining(sizes.architecture, step, step["peak_memory_bytes"] + sizes.row_bytes * n_rows)


def check_jobs(options: CompareOptions, one: OneTraining) -> None:
    """Raise where more trainings are asked for than the memory holds."""
    here = max(1, options.runtime.memory_budget() // max(1, one.nbytes))
    if options.jobs > here:
        raise InputError(
            f"--jobs {options.jobs} trainings of {format_size(one.nbytes)} are more than the memory that may be used",
            f"give --jobs {here}, or raise --memory-limit",
        )


def jobs_at_a_time(options: CompareOptions, one: OneTraining, steps: int) -> int:
    """Return how many trainings go at a time: as asked, else as many as cores and memory allow, or one where little is to be done."""
    if options.jobs > 0:
        return options.jobs
    if max(steps * _STEP_SECONDS, steps * one.step["flops"] / _FLOPS_A_SECOND) < _WORTH_PROCESSES:
        return 1
    cores = len(os.sched_getaffinity(0))
    here = options.runtime.memory_budget() // max(1, one.nbytes)
    there = free_memory(options.runtime.device)
    limits = [cores, here] if there is None else [max(1, cores // 2), here, there // max(1, one.nbytes)]
    return max(1, min(limits))


def steps_of(options: CompareOptions, counts: Sequence[int], rows: int) -> int:
    """Return the steps of all trainings together, on selections of so many rows under every budget and seed."""
    return options.seeds * sum(
        amount if name == "steps" else planned_steps(amount, count, options.runtime)
        for name, amount in budgets_of(options, rows).items()
        for count in counts
    )


def plan_figures(options: CompareOptions, dataset: Dataset, one: OneTraining) -> dict[str, Any]:
    """Return the figures of ``--plan``; what a grid will select is known by its size alone."""
    good = dataset.labels.codes_n >= 0
    rows = int(good.sum())
    if options.methods:
        own = [m for m in options.methods if m not in options.baselines]
        by_score = [m for m in own if "score" in find_method("selection", m).uses]
        each_fraction = len(own) - len(by_score) + len(by_score) * max(1, len(options.keys))
        counts = [row_count(fraction, rows) for fraction in options.fractions for _ in range(each_fraction)]
        drawn = sorted({row_count(fraction, rows) for fraction in options.fractions})
    else:
        maker = SubsetMaker(dataset, good, seeds_of(options), Path(), options.runtime, silent)
        counts = [s.rows for s in maker.given(options.files)]
        drawn = sorted(set(counts))
    for baseline in options.baselines:
        counts += [rows] if baseline == FULL else drawn
    budgets, steps = budgets_of(options, rows), steps_of(options, counts, rows)
    jobs = jobs_at_a_time(options, one, steps)
    trainings = len(counts) * len(budgets) * options.seeds
    return {
        "rows": len(dataset),
        "subsets": len(counts),
        "trainings": trainings,
        "trainings_at_a_time": jobs,
        "algorithm": f"{options.recipe}, {one.architecture}, equal {', equal '.join(budgets)}",
        "steps": steps,
        "flops": float(one.step["flops"]) * steps,
        "peak_memory_bytes": jobs * one.nbytes,
        "disk_bytes": 3 * jobs * one.step["disk_bytes"] + 2000 * trainings + 48 * len(dataset) * len(counts),
    }
