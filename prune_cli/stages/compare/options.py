"""The options of ``prune compare``, and what can be told of them before any file is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prune_cli.core.errors import InputError
from prune_cli.core.params import build_params, split_assignments
from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.data import DataOptions
from prune_cli.io.stores.locations import STDIN
from prune_cli.methods.evidence import CONFIDENCE
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.training.loop.timetable import planned_steps
from prune_cli.stages.train.options import DEFAULT_EPOCHS, TrainOptions, training_params

FULL = "full"
BASELINES: Mapping[str, str] = {
    "random": "as many rows, drawn anew with every seed",
    "random_per_class": "as many rows, drawn with every seed, the classes in proportion",
    FULL: "all rows",
}

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
    per_class: bool | None = None
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


def check_options(options: CompareOptions) -> None:
    """Check what can be checked before any file is opened.

    Raises:
        InputError: options that do not go together, or are out of range.
    """
    if not options.files:
        raise InputError("nothing to compare", "name selections, or score manifests with --methods and --fractions")
    read_often: dict[str, tuple[str | None, ...]] = {"--data": (options.data.location,), "--test": (options.test.location,)}
    if options.methods:
        read_often |= {"scores": options.files, "--features": (options.features,), "--probabilities": (options.probabilities,)}
    for name, files in read_often.items():
        if STDIN in files:
            raise InputError(f"{name} cannot come from standard input: it is read more than once", "name a file")
    if options.files.count(STDIN) > 1:
        raise InputError("standard input is one selection, and is named twice", "name files for the others")
    if options.methods and not options.fractions:
        raise InputError("--methods needs --fractions", "say how much is kept: --fractions 0.1,0.3,0.5")
    of_grid = {
        "--fractions": options.fractions, "--keys": options.keys, "--features": options.features,
        "--probabilities": options.probabilities, "--per-class": options.per_class is not None, "--direction": options.directions,
    }  # fmt: skip
    if not options.methods and (given := [name for name, value in of_grid.items() if value]):
        raise InputError(f"{given[0]} has no meaning without --methods", "name methods, or leave it out")
    used = {use for name in options.methods for use in find_method("selection", name).uses}
    for name, file in (("features", options.features), ("probabilities", options.probabilities)):
        if file is not None and name not in used:
            raise InputError(f"--{name} is given, and none of {', '.join(options.methods)} goes by them", "leave it out")
    for fraction in options.fractions:
        if not 0 < fraction < 1:
            raise InputError(f"--fractions {fraction:g} is out of range", "give shares to KEEP, above 0 and below 1")
    for baseline in options.baselines:
        if baseline not in BASELINES:
            raise InputError(f"--baselines has no '{baseline}'", f"use some of: {', '.join(BASELINES)}")
    if options.budget not in EQUAL:
        raise InputError(f"--budget {options.budget!r} is none of {', '.join(EQUAL)}", "say what is to be equal")
    if options.steps is not None and options.epochs is not None:
        raise InputError("--epochs and --steps are both given", "give one: it says how long all the data are trained on")
    if options.steps is not None and options.budget != "steps":
        raise InputError(f"--steps has no meaning with --budget {options.budget}", "give --epochs")
    if not 0 < options.confidence < 1:
        raise InputError(f"--confidence {options.confidence:g} is out of range", "give a share below 1, as 0.95")


def seeds_of(options: CompareOptions) -> range:
    """Return the seeds of a comparison."""
    return range(options.runtime.seed, options.runtime.seed + options.seeds)


def budgets_of(options: CompareOptions, rows: int) -> dict[str, int]:
    """Return how much training each kind of budget is: ``steps`` -> steps of all, ``epochs`` -> passes."""
    epochs = DEFAULT_EPOCHS if options.epochs is None else options.epochs
    steps = options.steps if options.steps is not None else planned_steps(epochs, rows, options.runtime)
    wanted = ("steps", "epochs") if options.budget == "both" else (options.budget,)
    return {name: steps if name == "steps" else epochs for name in wanted}


def split_params(options: CompareOptions) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Return the assignments of the training, and those of each selection method.

    Raises:
        InputError: a name that nothing here has, or that both kinds have.
    """
    training = {options.recipe: find_method("recipe", options.recipe).params_class()}
    if options.structure is not None:
        training[options.structure] = find_method("structure", options.structure).params_class()
    methods = {name: find_method("selection", name).params_class() for name in options.methods}
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


def check_params(options: CompareOptions, training: tuple[str, ...], methods: Mapping[str, tuple[str, ...]]) -> None:
    """Raise what trainings and selections would raise of their parameters, before any of them is begun."""
    training_params(TrainOptions(options.data, recipe=options.recipe, structure=options.structure, params=training, preset=options.preset))
    for name, texts in methods.items():
        given = split_assignments(texts, (name,))[name]
        build_params(find_method("selection", name).params_class(), {k: v for k, v in given.items() if k not in _OF_SELECT}, name)
