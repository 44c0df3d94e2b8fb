"""``prune compare``: selections, data and a test set in; out comes whether pruning pays, as numbers and a verdict."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.params import build_params, split_assignments
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import Runtime, format_size
from prune_cli.io.atomic import check_output
from prune_cli.io.columns import Labels
from prune_cli.io.ledger import Ledger, ledger_path, settle
from prune_cli.io.locks import locked_folder
from prune_cli.io.manifest import DataOptions, Dataset
from prune_cli.io.provenance import InputFile, Provenance
from prune_cli.io.tables import STDIN, write_table
from prune_cli.methods.devices import device_name, free_memory, resolve_device
from prune_cli.methods.evidence.gates import parse_gate
from prune_cli.methods.evidence.intervals import CONFIDENCE
from prune_cli.methods.registry import find_method
from prune_cli.methods.training.plan import default_architecture, planned_steps, training_cost
from prune_cli.methods.training.timetable import Budget
from prune_cli.stages.budgets import row_count
from prune_cli.stages.comparison_cells import Cell, CellSettings, cell_path, run_cells
from prune_cli.stages.comparison_costs import Cost, Spent, cost_of, read_costs
from prune_cli.stages.comparison_report import OTHERS, SHARES, Findings, Judged, judge, report_rows, summary, tables
from prune_cli.stages.comparison_subsets import BASELINES, FULL, Grid, Subset, SubsetMaker
from prune_cli.stages.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.relabels import label_names
from prune_cli.stages.train import DEFAULT_EPOCHS, TrainOptions, training_params
from prune_cli.stages.train import PACKAGES as TRAIN_PACKAGES

PACKAGES = (*TRAIN_PACKAGES, "torchmetrics", "scipy")
EQUAL = ("steps", "epochs", "both")
_OF_SELECT = ("key", "tie")


@dataclass(frozen=True)
class CompareOptions:
    """The options of ``prune compare``; see docs/commands.md.

    Args:
        files: selections; with ``methods`` score manifests.
        budget: what is equal: ``steps``, ``epochs`` or ``both`` one after the other.
        epochs, steps: how long all the data are trained on.
        work_dir: finished cells stay there; None: a folder beside the output, removed when that is written.
    """

    files: tuple[str, ...]
    data: DataOptions
    test: DataOptions
    methods: tuple[str, ...] = ()
    fractions: tuple[float, ...] = ()
    keys: tuple[str, ...] = ()
    features: str | None = None
    probabilities: str | None = None
    per_class: bool = False
    directions: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ("random", FULL)
    budget: str = "steps"
    epochs: int | None = None
    steps: int | None = None
    seeds: int = 3
    confidence: float = CONFIDENCE
    gates: tuple[str, ...] = ()
    undecided: Literal["fail", "pass"] = "fail"
    costs: tuple[str, ...] = ()
    recipe: str = "standard"
    structure: str | None = None
    architecture: str | None = None
    params: tuple[str, ...] = ()
    preset: str | None = None
    jobs: int = 0
    keep_runs: bool = False
    checkpoint_seconds: float = 60.0
    work_dir: Path | None = None
    output: str | None = None
    force: bool = False
    plan: bool = False
    runtime: Runtime = dataclasses.field(default_factory=Runtime)


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
    _check(options)
    train_params, grid_params = _split_params(options)
    _check_params(options, train_params, grid_params)
    gates = [parse_gate(text, SHARES, OTHERS, options.baselines) for text in options.gates]
    spent = read_costs(options.costs)
    dataset, test = Dataset(options.data), Dataset(options.test)
    output = options.output or f"{dataset.source.stem}.compare.parquet"
    if output != STDIN and not options.plan:
        check_output(Path(output), options.force)
    labels = dataset.labels
    test_labels = test.labels.recoded(labels.classes, labels.names, options.test.location)
    if options.work_dir is not None:
        work = options.work_dir
    else:
        work = Path(f"{dataset.source.stem}.compare.work" if output == STDIN else f"{output}.work")
    resolve_device(options.runtime.device)
    head = dataset.load_inputs(Ledger(), rows=np.flatnonzero(labels.codes_n >= 0)[:64], as_float32=True)
    architecture = options.architecture or default_architecture(head.shape[1:])
    step_cost = training_cost(
        architecture, head.shape[1:], len(labels.classes), Budget(steps=1), len(dataset), options.runtime
    )
    each = step_cost["peak_memory_bytes"] + head[0].nbytes * len(dataset)
    jobs = _jobs(options, each)
    if options.plan:
        return _plan(options, dataset, architecture, step_cost, each, jobs)
    with _working_in(work, options) as descriptor:
        good, errors = _verify(dataset, labels, test, test_labels, options, output, progress)
        outcome.warnings += errors
        maker = SubsetMaker(dataset, good, _seeds(options), work, options.runtime, progress)
        subsets = _subsets(options, maker, grid_params)
        settings = CellSettings(
            options.data, options.test, options.recipe, options.structure, architecture, train_params, options.preset,
            dataclasses.replace(options.runtime, seed=0), options.checkpoint_seconds,
            _identity(options, dataset, test, architecture, train_params), maker.few(), work, options.keep_runs,
        )  # fmt: skip
        cells = {
            (subset.name, budget): [
                Cell(subset.name, subset.files[seed], subset.digests[seed], budget, amount, seed)
                for seed in _seeds(options)
            ]
            for budget, amount in _budgets(options, int(good.sum())).items()
            for subset in subsets
        }
        threads = max(1, len(os.sched_getaffinity(0)) // jobs) if jobs > 1 else None
        if jobs > 1 and options.runtime.workers == 0:
            settings = dataclasses.replace(
                settings, runtime=dataclasses.replace(settings.runtime, workers=threads or 1)
            )
        everything = [cell for of_subset in cells.values() for cell in of_subset]
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
            _seeds(options),
            labels.display_names(),
            np.where(good, labels.codes_n, -1),
            _wrong(dataset, labels),
            options.confidence,
        )
        judged = judge(found, gates)
        if options.seeds < 2:
            outcome.warnings.append("one seed says nothing of how much luck there is: no intervals (--seeds 3)")
        provenance = _provenance(options, settings, dataset, test, maker.inputs, labels, good, subsets)
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


def _check(options: CompareOptions) -> None:
    """Check what can be checked before any file is opened.

    Raises:
        InputError: options that do not go together, or are out of range.
    """
    if not options.files:
        raise InputError("nothing to compare", "name selections, or score manifests with --methods and --fractions")
    if options.methods and not options.fractions:
        raise InputError("--methods needs --fractions", "say how much is kept: --fractions 0.1,0.3,0.5")
    of_grid = {
        "--fractions": options.fractions, "--keys": options.keys, "--features": options.features,
        "--probabilities": options.probabilities, "--per-class": options.per_class, "--direction": options.directions,
    }  # fmt: skip
    if not options.methods and (given := [name for name, value in of_grid.items() if value]):
        raise InputError(f"{given[0]} has no meaning without --methods", "name methods, or leave it out")
    used = {use for name in options.methods for use in find_method("selection", name).uses}
    for name, file in (("features", options.features), ("probabilities", options.probabilities)):
        if file is not None and name not in used:
            raise InputError(
                f"--{name} is given, and none of {', '.join(options.methods)} goes by them", "leave it out"
            )
    for fraction in options.fractions:
        if not 0 < fraction < 1:
            raise InputError(f"--fractions {fraction:g} is out of range", "give shares to KEEP, above 0 and below 1")
    for baseline in options.baselines:
        if baseline not in BASELINES:
            raise InputError(f"--baselines has no '{baseline}'", f"use some of: {', '.join(BASELINES)}")
    if options.budget not in EQUAL:
        raise InputError(f"--budget {options.budget!r} is none of {', '.join(EQUAL)}", "say what is to be equal")
    if options.steps is not None and options.epochs is not None:
        raise InputError(
            "--epochs and --steps are both given", "give one: it says how long all the data are trained on"
        )
    if options.steps is not None and options.budget != "steps":
        raise InputError(f"--steps has no meaning with --budget {options.budget}", "give --epochs")
    if not 0 < options.confidence < 1:
        raise InputError(f"--confidence {options.confidence:g} is out of range", "give a share below 1, as 0.95")


def _seeds(options: CompareOptions) -> range:
    return range(options.runtime.seed, options.runtime.seed + options.seeds)


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
        path = ledger_path(
            f"{output.removesuffix('.parquet')}{name}.parquet" if output != STDIN else output, stem + name
        )
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


def _split_params(options: CompareOptions) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Return the assignments of the training, and those of each selection method.

    Raises:
        InputError: a name that nothing here has, or that both kinds have.
    """
    training = {options.recipe: find_method("recipe", options.recipe).params_class()}
    if options.structure is not None:
        training[options.structure] = find_method("structure", options.structure).params_class()
    methods = {name: find_method("selection", name).params_class() for name in options.methods}
    both = sorted(training.keys() & methods.keys())
    assert not both, both
    of_select = [t for t in options.params if t.partition("=")[0].strip().rpartition(".")[2] in _OF_SELECT]
    rest = [t for t in options.params if t not in of_select]
    if of_select and not methods:
        raise InputError(f"-p {of_select[0]!r} is of a selection, and none is made here", "leave it out")
    split = split_assignments(rest, {**training, **methods})
    for owner, given in split_assignments(of_select, tuple(methods)).items() if methods else ():
        split[owner] |= given
    texts = {owner: tuple(f"{name}={value}" for name, value in given.items()) for owner, given in split.items()}
    prefixed = tuple(f"{owner}.{text}" if len(training) > 1 else text for owner in training for text in texts[owner])
    return prefixed, {name: texts[name] for name in methods}


def _check_params(options: CompareOptions, training: tuple[str, ...], methods: Mapping[str, tuple[str, ...]]) -> None:
    """Raise what trainings and selections would raise of their parameters, before any of them is begun."""
    training_params(
        TrainOptions(
            options.data, recipe=options.recipe, structure=options.structure, params=training, preset=options.preset
        )
    )
    for name, texts in methods.items():
        given = split_assignments(texts, (name,))[name]
        build_params(
            find_method("selection", name).params_class(),
            {k: v for k, v in given.items() if k not in _OF_SELECT},
            name,
        )


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


def _budgets(options: CompareOptions, rows: int) -> dict[str, int]:
    epochs = DEFAULT_EPOCHS if options.epochs is None else options.epochs
    steps = options.steps if options.steps is not None else planned_steps(epochs, rows, options.runtime)
    wanted = ("steps", "epochs") if options.budget == "both" else (options.budget,)
    return {name: steps if name == "steps" else epochs for name in wanted}


def _jobs(options: CompareOptions, each: int) -> int:
    """Return how many trainings go at a time: as asked, else as many as cores and memory allow."""
    cores = len(os.sched_getaffinity(0))
    here = options.runtime.memory_budget() // max(1, each)
    if options.jobs > 0:
        if options.jobs > 1 and options.jobs > max(1, here):
            raise InputError(
                f"--jobs {options.jobs} trainings of {format_size(each)} are more than the memory that may be used",
                f"give --jobs {max(1, here)}, or raise --memory-limit",
            )
        return options.jobs
    there = free_memory(options.runtime.device)
    limits = [cores, here] if there is None else [max(1, cores // 2), here, there // max(1, each)]
    return max(1, min(limits))


def _plan(
    options: CompareOptions, dataset: Dataset, architecture: str, step: Mapping[str, Any], each: int, jobs: int
) -> Outcome:
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
        maker = SubsetMaker(dataset, good, _seeds(options), Path(), options.runtime, silent)
        counts = [s.rows for s in maker.given(options.files)]
        drawn = sorted(set(counts))
    for baseline in options.baselines:
        counts += [rows] if baseline == FULL else drawn
    budgets = _budgets(options, rows)
    steps = sum(
        amount if name == "steps" else planned_steps(amount, count, options.runtime)
        for name, amount in budgets.items()
        for count in counts
    )
    trainings = len(counts) * len(budgets) * options.seeds
    return plan_outcome(
        "compare",
        {
            "rows": len(dataset),
            "subsets": len(counts),
            "trainings": trainings,
            "trainings_at_a_time": jobs,
            "algorithm": f"{options.recipe}, {architecture}, equal {', equal '.join(budgets)}",
            "steps": steps * options.seeds,
            "flops": float(step["flops"]) * steps * options.seeds,
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
    dataset: Dataset,
    test: Dataset,
    selections: Sequence[InputFile],
    labels: Labels,
    good: np.ndarray,
    subsets: Sequence[Subset],
) -> Provenance:
    identity = {k: v for k, v in settings.identity.items() if k not in {"data", "test", "device", "versions"}}
    stated = {
        "methods": list(options.methods),
        "fractions": list(options.fractions),
        "keys": list(options.keys),
        "per_class": options.per_class,
        "baselines": list(options.baselines),
        "budget": options.budget,
        "amounts": _budgets(options, int(good.sum())),
        "seeds": options.seeds,
        "confidence": options.confidence,
        "gates": list(options.gates),
        "gate_undecided": options.undecided,
        "select_params": sorted(t for t in options.params if t not in settings.params),
    }
    costs = [InputFile(Path(f).name, hashlib.sha256(Path(f).read_bytes()).hexdigest()) for f in options.costs]
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


def _wrong(dataset: Dataset, labels: Labels) -> np.ndarray | None:
    """Return (N,) float64, 1 where a label is known to be wrong, NaN where the truth is not known; None without a column."""
    true = dataset.true_labels
    if true is None:
        return None
    wrong: np.ndarray = (label_names(labels) != label_names(true)).astype(np.float64)
    wrong[(labels.codes_n < 0) | (true.codes_n < 0)] = np.nan
    return wrong


def _tell_verdict(outcome: Outcome, judged: Sequence[Judged], options: CompareOptions) -> None:
    undecided = [j for j in judged if j.ruling.state == "undecided"]
    if undecided:
        outcome.warnings.append(
            f"{len(undecided)} of {len(judged)} gate(s) undecided, such as '{undecided[0].gate.text}' for {undecided[0].subset}: "
            f"counted as {options.undecided} (more --seeds decide, or a margin as in 'accuracy >= full - 0.5')"
        )
