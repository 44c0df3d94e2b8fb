"""``prune compare``: selections, data and a test set in; out comes whether pruning pays, as numbers and a verdict."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import format_size
from prune_cli.io.ids.columns import Labels
from prune_cli.io.manifests.data import DataOptions, Dataset
from prune_cli.io.manifests.ledger import Ledger, ledger_path, settle
from prune_cli.io.parquet.provenance import InputFile, Provenance, hash_file
from prune_cli.io.parquet.tables import write_table
from prune_cli.io.runs.locks import locked_folder
from prune_cli.io.stores.atomic import check_output
from prune_cli.io.stores.locations import STDIN, beside, is_remote, local_twin
from prune_cli.io.stores.reading import fetch
from prune_cli.methods.devices import device_name, free_memory, resolve_device
from prune_cli.methods.evidence.gates import parse_gate
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.training.loop.estimate import planned_steps, training_cost
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.methods.training.networks.architectures import default_architecture
from prune_cli.stages.compare.cells import Cell, CellSettings, cell_path, run_cells
from prune_cli.stages.compare.costs import Cost, Spent, cost_of, read_costs
from prune_cli.stages.compare.findings import OTHERS, SHARES, Findings, Judged, judge
from prune_cli.stages.compare.options import (
    CompareOptions,
    budgets_of,
    check_options,
    check_params,
    seeds_of,
    split_params,
)
from prune_cli.stages.compare.rows import report_rows
from prune_cli.stages.compare.subsets import FULL, Grid, Subset, SubsetMaker
from prune_cli.stages.compare.tables import summary, tables
from prune_cli.stages.evaluate.label_noise import wrong_labels
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.select.budgets import row_count
from prune_cli.stages.train.command import PACKAGES as TRAIN_PACKAGES

PACKAGES = (*TRAIN_PACKAGES, "torchmetrics", "scipy")
_STEP_SECONDS, _FLOPS_A_SECOND, _WORTH_PROCESSES = 1e-3, 4e10, 30.0
"""A step takes about a millisecond at least, and small networks get some 40 GFLOP/s from a core; a process takes seconds to start, so
for less than half a minute of work none is started."""


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
    check_options(options)
    train_params, grid_params = split_params(options)
    check_params(options, train_params, grid_params)
    gates = [parse_gate(text, SHARES, OTHERS, options.baselines) for text in options.gates]
    spent = read_costs(options.costs)
    dataset, test = Dataset(options.data), Dataset(options.test)
    output = options.output or f"{dataset.source.stem}.compare.parquet"
    if not options.plan:
        check_output(output, options.force)
    labels = dataset.labels
    test_labels = test.labels.recoded(labels.classes, labels.names, options.test.location)
    beside_output = f"{dataset.source.stem}.compare" if output == STDIN else local_twin(output)
    work = options.work_dir or Path(f"{beside_output}.work")
    resolve_device(options.runtime.device)
    head = dataset.load_inputs(Ledger(), rows=np.flatnonzero(labels.codes_n >= 0)[:64], as_float32=True)
    architecture = options.architecture or default_architecture(head.shape[1:])
    step_cost = training_cost(
        architecture, head.shape[1:], len(labels.classes), Budget(steps=1), len(dataset), options.runtime
    )
    each = step_cost["peak_memory_bytes"] + head[0].nbytes * len(dataset)
    _check_jobs(options, each)
    if options.plan:
        return _plan(options, dataset, architecture, step_cost, each)
    with _working_in(work, options) as descriptor:
        good, errors = _verify(dataset, labels, test, test_labels, options, output, progress)
        outcome.warnings += errors
        maker = SubsetMaker(dataset, good, seeds_of(options), work, options.runtime, progress)
        subsets = _subsets(options, maker, grid_params)
        settings = CellSettings(
            options.data, options.test, options.recipe, options.structure, architecture, train_params, options.preset,
            dataclasses.replace(options.runtime, seed=0), options.checkpoint_seconds,
            _identity(options, dataset, test, architecture, train_params), maker.few(), work, options.keep_runs,
        )  # fmt: skip
        cells = {
            (subset.name, budget): [
                Cell(subset.name, subset.files[seed], subset.digests[seed], budget, amount, seed)
                for seed in seeds_of(options)
            ]
            for budget, amount in budgets_of(options, int(good.sum())).items()
            for subset in subsets
        }
        jobs = _jobs(options, each, _steps_of(options, [s.rows for s in subsets], int(good.sum())), step_cost["flops"])
        threads = max(1, len(os.sched_getaffinity(0)) // jobs) if jobs > 1 else None
        if jobs > 1 and options.runtime.workers == 0:
            settings = dataclasses.replace(
                settings, runtime=dataclasses.replace(settings.runtime, workers=threads or 1)
            )
        if jobs > 1:
            settings = dataclasses.replace(
                settings, data=_at_hand(options.data, work / "data"), test=_at_hand(options.test, work / "test")
            )
        # seed by seed: what is compared in pairs is trained near one another, whatever else the machine does meanwhile
        everything = [cell for of_seed in zip(*cells.values(), strict=True) for cell in of_seed]
        done = run_cells(
            everything, settings, jobs=jobs, threads=threads, keep_open=(descriptor,),
            done=lambda ended, of: progress("training the cells", ended, of, None),
        )  # fmt: skip
        results = dict(done)
        costs, unused = _costs(subsets, spent)
        outcome.warnings += unused
        found = Findings(
            subsets,
            {key: [results[cell] for cell in of_subset] for key, of_subset in cells.items()},
            costs,
            seeds_of(options),
            labels.display_names(),
            np.where(good, labels.codes_n, -1),
            wrong_labels(labels, dataset.true_labels),
            options.confidence,
        )
        judged = judge(found, gates)
        if options.seeds < 2:
            outcome.warnings.append("one seed says nothing of how much luck there is: no intervals (--seeds 3)")
        provenance = _provenance(options, settings, grid_params, dataset, test, maker.inputs, good)
        write_table(output, report_rows(found, judged, options.test.split).table(), provenance, dataset.source)
        outcome.outputs = [output]
        outcome.tables = tables(found, judged)
        outcome.verdict = all(
            j.ruling.state == "passed" or (j.ruling.state == "undecided" and options.undecided == "pass")
            for j in judged
        )
        _tell_verdict(outcome, judged, options)
        outcome.summary = {
            "command": "compare",
            "output": output,
            **provenance.rows,
            "trainings": len({cell_path(settings, cell) for cell in everything}),
            "seeds": options.seeds,
            "verdict": outcome.verdict if judged else None,
            "gates": [
                {
                    "gate": j.gate.text, "subset": j.subset, "budget": j.budget, "state": j.ruling.state,
                    "difference": j.ruling.interval.mean,
                }
                for j in judged
            ],
            "results": summary(found),
            "device": device_name(options.runtime.device),
            **watch.figures(),
        }  # fmt: skip
    return outcome


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


def _verify(
    dataset: Dataset,
    labels: Labels,
    test: Dataset,
    test_labels: Labels,
    options: CompareOptions,
    output: str,
    progress: Progress,
) -> tuple[np.ndarray, list[str]]:
    """Look at every row of both sets before anything is trained; return (N,) bool rows to train on, and what to warn of."""
    warnings = []
    good = np.ones(len(dataset), bool)
    stem = f"{dataset.source.stem}.compare"
    for name, one, codes_n in (("", dataset, labels.codes_n), (".test", test, test_labels.codes_n)):
        ledger = Ledger()
        ledger.add_all(np.flatnonzero(codes_n < 0), "missing label")
        one.verify_inputs(ledger, workers=options.runtime.worker_count(), progress=progress)
        path = ledger_path(beside(output, f"{name}.parquet") if output != STDIN else output, stem + name)
        stated = Provenance(
            "compare", "rows", {}, 0, one.source.inputs, packages=("pyarrow",),
            rows={"rows_in": len(one), "rows_out": len(one) - len(ledger), "rows_bad": len(ledger)},
        )  # fmt: skip
        settle(ledger, one.ids, one.options.max_errors, path, stated)
        if len(ledger):
            warnings.append(f"{len(ledger)} bad row(s) of {one.options.location} left out, listed in {path}")
        if one is dataset:
            good = ledger.good(len(dataset))
    return good, warnings


def _subsets(options: CompareOptions, maker: SubsetMaker, params: Mapping[str, tuple[str, ...]]) -> list[Subset]:
    """Return what is compared, the baselines last: random ones for every number of rows, all rows once."""
    if options.methods:
        grid = Grid(
            options.files,
            tuple(m for m in options.methods if m not in options.baselines),
            options.fractions,
            options.keys,
            options.features,
            options.probabilities,
            params,
            options.per_class,
            options.directions,
        )
        subsets = maker.grid(grid)
        counts = [s.rows for s in subsets] or [row_count(f, int(maker.good.sum())) for f in options.fractions]
    else:
        subsets = maker.given(options.files)
        counts = [s.rows for s in subsets]
    for baseline in options.baselines:
        subsets += [maker.full()] if baseline == FULL else maker.drawn(baseline, counts)
    return subsets


def _at_hand(data: DataOptions, folder: Path) -> DataOptions:
    """Return how to read the data from this machine: where they are, or from a copy of what is in an object store."""
    if not is_remote(data.location):
        return data
    return dataclasses.replace(data, location=fetch(data.location, folder), root=data.root or Path.cwd())


def _check_jobs(options: CompareOptions, each: int) -> None:
    """Raise where more trainings are asked for than the memory holds."""
    here = max(1, options.runtime.memory_budget() // max(1, each))
    if options.jobs > here:
        raise InputError(
            f"--jobs {options.jobs} trainings of {format_size(each)} are more than the memory that may be used",
            f"give --jobs {here}, or raise --memory-limit",
        )


def _jobs(options: CompareOptions, each: int, steps: int, step_flops: float) -> int:
    """Return how many trainings go at a time: as asked, else as many as cores and memory allow, or one where little is to be done.

    Args:
        each: bytes of a training.
        steps, step_flops: of all trainings, and of one step.
    """
    if options.jobs > 0:
        return options.jobs
    if max(steps * _STEP_SECONDS, steps * step_flops / _FLOPS_A_SECOND) < _WORTH_PROCESSES:
        return 1
    cores = len(os.sched_getaffinity(0))
    here = options.runtime.memory_budget() // max(1, each)
    there = free_memory(options.runtime.device)
    limits = [cores, here] if there is None else [max(1, cores // 2), here, there // max(1, each)]
    return max(1, min(limits))


def _steps_of(options: CompareOptions, counts: Sequence[int], rows: int) -> int:
    """Return the steps of all trainings together, on selections of so many rows under every budget and seed."""
    return options.seeds * sum(
        amount if name == "steps" else planned_steps(amount, count, options.runtime)
        for name, amount in budgets_of(options, rows).items()
        for count in counts
    )


def _plan(options: CompareOptions, dataset: Dataset, architecture: str, step: Mapping[str, Any], each: int) -> Outcome:
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
    budgets, steps = budgets_of(options, rows), _steps_of(options, counts, rows)
    jobs = _jobs(options, each, steps, step["flops"])
    trainings = len(counts) * len(budgets) * options.seeds
    return plan_outcome(
        "compare",
        {
            "rows": len(dataset),
            "subsets": len(counts),
            "trainings": trainings,
            "trainings_at_a_time": jobs,
            "algorithm": f"{options.recipe}, {architecture}, equal {', equal '.join(budgets)}",
            "steps": steps,
            "flops": float(step["flops"]) * steps,
            "peak_memory_bytes": jobs * each,
            "disk_bytes": 3 * jobs * step["disk_bytes"] + 2000 * trainings + 48 * len(dataset) * len(counts),
        },
    )


def _identity(
    options: CompareOptions, dataset: Dataset, test: Dataset, architecture: str, params: tuple[str, ...]
) -> dict[str, Any]:
    stated = Provenance("compare", "", {}, 0, (), packages=PACKAGES).to_dict()
    return {
        "data": [dataclasses.asdict(i) for i in dataset.source.inputs],
        "test": [dataclasses.asdict(i) for i in test.source.inputs],
        "read": [options.data.identity(), options.test.identity(), options.data.true_label_column],
        "recipe": options.recipe,
        "structure": options.structure,
        "architecture": architecture,
        "params": sorted(params),
        "preset": options.preset,
        "batch_size": options.runtime.batch_size,
        "precision": options.runtime.precision,
        "device": device_name(options.runtime.device),
        "versions": stated["versions"],
    }


def _provenance(
    options: CompareOptions,
    settings: CellSettings,
    grid_params: Mapping[str, tuple[str, ...]],
    dataset: Dataset,
    test: Dataset,
    selections: Sequence[InputFile],
    good: np.ndarray,
) -> Provenance:
    identity = {k: v for k, v in settings.identity.items() if k not in {"data", "test", "device", "versions"}}
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
        "select_params": {name: list(texts) for name, texts in grid_params.items()},
    }
    costs = [hash_file(file) for file in options.costs]
    return Provenance(
        command="compare",
        method=options.recipe,
        parameters={**identity, **stated},
        seed=options.runtime.seed,
        inputs=[*dataset.source.inputs, *test.source.inputs, *selections, *costs],
        device=device_name(options.runtime.device),
        packages=PACKAGES,
        rows={"rows_in": len(dataset), "rows_out": int(good.sum()), "rows_bad": int((~good).sum())},
    )


def _costs(subsets: Sequence[Subset], spent: Sequence[Spent]) -> tuple[dict[str, Cost | None], list[str]]:
    """Return what each subset cost to select, and what to tell of costs that are not known or not used."""
    costs: dict[str, Cost | None] = {}
    used: set[int] = set()
    for subset in subsets:
        if subset.baseline:
            continue
        costs[subset.name], counted = cost_of(subset.inputs, subset.columns, spent, subset.select_seconds)
        used |= counted
    said = []
    unknown = [name for name, cost in costs.items() if cost is None]
    if unknown:
        said.append(
            f"what scoring cost is not known for {len(unknown)} selection(s), such as {unknown[0]}: no break-even for them "
            "(prune score ... --json > score.json, then --costs score.json)"
        )
    for i, one in enumerate(spent):
        if i not in used:
            said.append(f"--costs: what {one.command} made ({', '.join(sorted(one.outputs))}) serves no selection here")
    return costs, said


def _tell_verdict(outcome: Outcome, judged: Sequence[Judged], options: CompareOptions) -> None:
    undecided = [j for j in judged if j.ruling.state == "undecided"]
    if undecided:
        outcome.warnings.append(
            f"{len(undecided)} of {len(judged)} gate(s) undecided, such as '{undecided[0].gate.text}' for {undecided[0].subset}: "
            f"counted as {options.undecided} (more --seeds decide, or a margin as in 'accuracy >= full - 0.5')"
        )
