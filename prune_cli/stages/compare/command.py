"""``prune compare``: selections, data and a test set in; out comes whether pruning pays, as numbers and a verdict."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prune_cli.core.progress import Progress, silent
from prune_cli.io.parquet.provenance import InputFile, Provenance, hash_file
from prune_cli.io.parquet.tables import write_table
from prune_cli.io.runs.finished import locked_folder
from prune_cli.io.stores.atomic import check_output
from prune_cli.io.stores.locations import STDIN, local_twin
from prune_cli.methods.devices import device_name, resolve_device
from prune_cli.methods.evidence import Gate, parse_gate
from prune_cli.stages.compare.cells import Cell, CellResult, CellSettings, cell_path, run_cells
from prune_cli.stages.compare.costs import Spent, costs_of, read_costs
from prune_cli.stages.compare.findings import OTHERS, SHARES, Findings, Judged, judge
from prune_cli.stages.compare.inputs import (
    Sets,
    at_hand,
    check_jobs,
    jobs_at_a_time,
    one_training,
    open_sets,
    plan_figures,
    steps_of,
    verify_rows,
)
from prune_cli.stages.compare.options import FULL, CompareOptions, budgets_of, check_options, check_params, seeds_of, split_params
from prune_cli.stages.compare.output import report_rows, summary, tables
from prune_cli.stages.compare.subsets import Subset, SubsetMaker
from prune_cli.stages.evaluate.relabels import wrong_labels
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.select.request import row_count
from prune_cli.stages.train.command import PACKAGES as TRAIN_PACKAGES
from prune_cli.stages.train.options import TrainOptions

PACKAGES = (*TRAIN_PACKAGES, "torchmetrics", "scipy")

Trials = Mapping[tuple[str, str], Sequence[Cell]]
"""(subset, budget) -> one training a seed."""


@dataclass(frozen=True)
class Asked:
    """What is asked for, its texts read.

    Args:
        train_params: assignments of the training.
        grid_params: selection method -> assignments.
    """

    options: CompareOptions
    train_params: tuple[str, ...]
    grid_params: Mapping[str, tuple[str, ...]]
    gates: Sequence[Gate]
    spent: Sequence[Spent]


def compare(options: CompareOptions, progress: Progress = silent) -> Outcome:
    """Train on every selection and on the baselines, alike and with the same seeds, and say what the selections are worth.

    Returns:
        Outcome with a report manifest, and a negative verdict where a gate fails or (unless told otherwise) is undecided.
    Raises:
        InputError: bad input or options; nothing is written.
        BadRowsError: more bad rows than allowed; the ledger alone is written.
        InterruptedRun: stopped by the user; finished trainings and the checkpoints of others stay in the work folder.
    """
    watch = Stopwatch()
    outcome = Outcome()
    asked = _read_options(options)
    sets = open_sets(options.data, options.test)
    output = options.output or f"{sets.dataset.source.stem}.compare.parquet"
    if not options.plan:
        check_output(output, options.force)
    resolve_device(options.runtime.device)
    one = one_training(options, sets)
    check_jobs(options, one)
    if options.plan:
        return plan_outcome("compare", plan_figures(options, sets.dataset, one))
    work = _work_folder(options, output, sets)
    with _working_in(work, options) as descriptor:
        good, errors = verify_rows(sets, output, options.runtime.worker_count(), progress)
        maker = SubsetMaker(sets.dataset, good, seeds_of(options), work, options.runtime, progress)
        subsets = _subsets(options, maker, asked.grid_params)
        trials = _trials(options, subsets, int(good.sum()))
        settings = _cell_settings(asked, sets, one.architecture, maker.few(), work)
        jobs = jobs_at_a_time(options, one, steps_of(options, [s.rows for s in subsets], int(good.sum())))
        results = _train(trials, settings, jobs, descriptor, progress)
        costs, unused = costs_of(subsets, asked.spent)
        found = Findings(
            subsets,
            {key: [results[cell] for cell in of_subset] for key, of_subset in trials.items()},
            costs,
            seeds_of(options),
            sets.labels.display_names(),
            np.where(good, sets.labels.codes_n, -1),
            wrong_labels(sets.labels, sets.dataset.true_labels),
            options.confidence,
        )
        judged = judge(found, asked.gates)
        provenance = _provenance(asked, settings.identity, sets, maker.inputs, good)
        write_table(output, report_rows(found, judged, options.test.split).table(), provenance, sets.dataset.source)
        outcome.outputs = [output]
        outcome.warnings = [*errors, *unused, *_doubts(judged, options)]
        outcome.tables = tables(found, judged)
        passing = {"passed"} if options.undecided != "pass" else {"passed", "undecided"}
        outcome.verdict = all(one.ruling.state in passing for one in judged)
        outcome.summary = watch.summary(
            "compare",
            output=output,
            **provenance.rows,
            trainings=len({cell_path(settings, cell) for cells in trials.values() for cell in cells}),
            seeds=options.seeds,
            verdict=outcome.verdict if judged else None,
            **summary(found, judged),
            device=device_name(options.runtime.device),
        )
    return outcome


def _read_options(options: CompareOptions) -> Asked:
    """Return what is asked for, checked as far as that goes without the data."""
    check_options(options)
    train_params, grid_params = split_params(options)
    check_params(options, train_params, grid_params)
    gates = [parse_gate(text, SHARES, OTHERS, options.baselines) for text in options.gates]
    return Asked(options, train_params, grid_params, gates, read_costs(options.costs))


def _work_folder(options: CompareOptions, output: str, sets: Sets) -> Path:
    """Return where finished trainings are kept: as named, else beside the output."""
    beside_output = f"{sets.dataset.source.stem}.compare" if output == STDIN else local_twin(output)
    return options.work_dir or Path(f"{beside_output}.work")


@contextmanager
def _working_in(work: Path, options: CompareOptions) -> Iterator[int]:
    """Hold the work folder. Without --work-dir it goes when the block ends well, and where nothing was begun in it."""
    with locked_folder(work) as descriptor:
        try:
            yield descriptor
        except BaseException:
            if options.work_dir is None and not (work / "runs").exists():
                shutil.rmtree(work, ignore_errors=True)
            raise
        if options.work_dir is None:
            shutil.rmtree(work, ignore_errors=True)


def _subsets(options: CompareOptions, maker: SubsetMaker, params: Mapping[str, tuple[str, ...]]) -> list[Subset]:
    """Return what is compared, the baselines last: random ones for every number of rows, all rows once."""
    if options.methods:
        subsets = maker.grid(options, params)
        counts = [s.rows for s in subsets] or [row_count(f, int(maker.good.sum())) for f in options.fractions]
    else:
        subsets = maker.given(options.files)
        counts = [s.rows for s in subsets]
    for baseline in options.baselines:
        subsets += [maker.full()] if baseline == FULL else maker.drawn(baseline, counts)
    return subsets


def _trials(options: CompareOptions, subsets: Sequence[Subset], rows: int) -> Trials:
    """Return all trainings of a comparison on so many good rows."""
    return {
        (subset.name, budget): [
            Cell(subset.name, subset.files[seed], subset.digests[seed], budget, amount, seed) for seed in seeds_of(options)
        ]
        for budget, amount in budgets_of(options, rows).items()
        for subset in subsets
    }


def _cell_settings(asked: Asked, sets: Sets, architecture: str, few: str, work: Path) -> CellSettings:
    """Return what all trainings share."""
    options = asked.options
    training = TrainOptions(
        options.data,
        recipe=options.recipe,
        structure=options.structure,
        architecture=architecture,
        checkpoint_seconds=options.checkpoint_seconds,
        params=asked.train_params,
        preset=options.preset,
        runtime=dataclasses.replace(options.runtime, seed=0),
    )
    return CellSettings(training, options.test, _identity(asked, sets, architecture), few, work, options.keep_runs)


def _train(trials: Trials, settings: CellSettings, jobs: int, descriptor: int, progress: Progress) -> dict[Cell, CellResult]:
    """Return what every training gave, so many at a time; those that are there already are not done again."""
    threads = None
    if jobs > 1:
        threads = max(1, len(os.sched_getaffinity(0)) // jobs)
        training, work = settings.training, settings.work
        runtime = dataclasses.replace(training.runtime, workers=training.runtime.workers or threads)
        training = dataclasses.replace(training, runtime=runtime, data=at_hand(training.data, work / "data"))
        settings = dataclasses.replace(settings, training=training, test=at_hand(settings.test, work / "test"))
    # seed by seed: what is compared in pairs is trained near one another, whatever else the machine does meanwhile
    everything = [cell for of_seed in zip(*trials.values(), strict=True) for cell in of_seed]
    done = run_cells(
        everything, settings, jobs=jobs, threads=threads, keep_open=(descriptor,),
        done=lambda ended, of: progress("training the cells", ended, of, None),
    )  # fmt: skip
    return dict(done)


def _identity(asked: Asked, sets: Sets, architecture: str) -> dict[str, Any]:
    """Return everything but the cell itself that the numbers of a training depend on."""
    options = asked.options
    stated = Provenance("compare", "", {}, 0, (), packages=PACKAGES).to_dict()
    return {
        "data": [dataclasses.asdict(i) for i in sets.dataset.source.inputs],
        "test": [dataclasses.asdict(i) for i in sets.test.source.inputs],
        "read": [options.data.identity(), options.test.identity(), options.data.true_label_column],
        "recipe": options.recipe,
        "structure": options.structure,
        "architecture": architecture,
        "params": sorted(asked.train_params),
        "preset": options.preset,
        "batch_size": options.runtime.batch_size,
        "precision": options.runtime.precision,
        "device": device_name(options.runtime.device),
        "versions": stated["versions"],
    }


def _provenance(asked: Asked, identity: Mapping[str, Any], sets: Sets, selections: Sequence[InputFile], good: np.ndarray) -> Provenance:
    options = asked.options
    trained = {k: v for k, v in identity.items() if k not in {"data", "test", "device", "versions"}}
    stated = {
        "methods": list(options.methods),
        "fractions": list(options.fractions),
        "keys": list(options.keys),
        "per_class": options.per_class,
        "baselines": list(options.baselines),
        "budget": options.budget,
        "amounts": budgets_of(options, int(good.sum())),
        "seeds": options.seeds,
        "confidence": options.confidence,
        "gates": list(options.gates),
        "gate_undecided": options.undecided,
        "select_params": {name: list(texts) for name, texts in asked.grid_params.items()},
    }
    costs = [hash_file(file) for file in options.costs]
    return Provenance(
        command="compare",
        method=options.recipe,
        parameters={**trained, **stated},
        seed=options.runtime.seed,
        inputs=[*sets.dataset.source.inputs, *sets.test.source.inputs, *selections, *costs],
        device=device_name(options.runtime.device),
        packages=PACKAGES,
        rows={"rows_in": len(sets.dataset), "rows_out": int(good.sum()), "rows_bad": int((~good).sum())},
    )


def _doubts(judged: Sequence[Judged], options: CompareOptions) -> list[str]:
    """Return what to warn of where the seeds do not decide."""
    said = []
    if options.seeds < 2:
        said.append("one seed says nothing of how much luck there is: no intervals (--seeds 3)")
    undecided = [j for j in judged if j.ruling.state == "undecided"]
    if undecided:
        said.append(
            f"{len(undecided)} of {len(judged)} gate(s) undecided, such as '{undecided[0].gate.text}' for {undecided[0].subset}: "
            f"counted as {options.undecided} (more --seeds decide, or a margin as in 'accuracy >= full - 0.5')"
        )
    return said
