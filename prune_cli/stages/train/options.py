"""The options of ``prune train``, what can be told of them before any file is read, and what a training says to people."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prune_cli.core.errors import InputError
from prune_cli.core.launch import ALONE, Launch
from prune_cli.core.params import build_params, split_assignments
from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.data import DataOptions
from prune_cli.io.stores.locations import STDIN, require_local
from prune_cli.methods.registry.lookup import find_method, preset_params
from prune_cli.methods.training.loop.timetable import Budget

DEFAULT_EPOCHS = 20


@dataclass(frozen=True)
class TrainOptions:
    """The options of ``prune train``; see docs/commands.md."""

    data: DataOptions
    subset: str | None = None
    recipe: str = "standard"
    structure: str | None = None
    export: tuple[str, ...] = ()
    architecture: str | None = None
    epochs: int | None = None
    steps: int | None = None
    resume: bool = False
    checkpoint_seconds: float = 60.0
    report_to: str | None = None
    save_dynamics: bool = False
    params: tuple[str, ...] = ()
    preset: str | None = None
    init: tuple[Path, ...] = ()
    output: str | None = None
    work_dir: Path | None = None
    force: bool = False
    plan: bool = False
    runtime: Runtime = dataclasses.field(default_factory=Runtime)
    launch: Launch = ALONE


def check_options(options: TrainOptions) -> None:
    """Check what can be checked before any file is opened.

    Raises:
        InputError: a place in an object store, or options that do not go together.
    """
    if options.output is not None:
        require_local(options.output, "the run folder")
    if options.subset == STDIN and options.data.location == STDIN:
        raise InputError("the data and the selection cannot both come from standard input", "name a file for one of them")
    if options.output == STDIN:
        raise InputError("a run folder cannot go to standard output", "name a folder with -o")


def training_budget(options: TrainOptions) -> Budget:
    """Return how long is trained.

    Raises:
        InputError: passes and steps are both given.
    """
    if options.epochs is not None and options.steps is not None:
        raise InputError("--epochs and --steps are both given", "give one: --steps makes selections of different sizes comparable")
    epochs = DEFAULT_EPOCHS if options.epochs is None and options.steps is None else options.epochs
    return Budget(epochs=epochs, steps=options.steps)


def training_params(options: TrainOptions) -> tuple[Any, Any]:
    """Return the parameters of the recipe, and those of the structure (None where the network stays whole).

    Raises:
        InputError: a value that is not allowed, or a plain name that both have.
    """
    classes = {options.recipe: find_method("recipe", options.recipe).params_class()}
    if options.structure is not None:
        classes[options.structure] = find_method("structure", options.structure).params_class()
        for text in options.params:
            name = text.partition("=")[0].strip()
            owners = [o for o, c in classes.items() if any(f.name == name for f in dataclasses.fields(c))]
            if len(owners) > 1:
                said = " or ".join(f"-p {owner}.{text}" for owner in owners)
                raise InputError(f"-p {text!r}: {' and '.join(owners)} both have it", f"say whose: {said}")
    given = split_assignments(options.params, classes if len(classes) > 1 else tuple(classes))
    presets = preset_params(options.preset, "recipe", [options.recipe])
    built: list[Any] = [build_params(c, {**presets.get(owner, {}), **given[owner]}, owner) for owner, c in classes.items()]
    return built[0], built[1] if len(built) > 1 else None


def tables(model: Mapping[str, Any], rows: int, rate: float) -> dict[str, list[list[str]]]:
    """Return what people read: what is left of a network that shrank, and how the training ended.

    Args:
        model: what ``model.json`` says.
        rate: samples a second.
    """
    shown: dict[str, list[list[str]]] = {}
    if "structure" in model:
        whole, units = model["structure"]["whole"], model["structure"]["units"]
        shown["network"] = [
            ["", "whole", "left"],
            *(
                [name, f"{whole[key]:,}", f"{model[key]:,} ({model[key] / whole[key]:.0%})"]
                for name, key in (("FLOPs", "flops"), ("parameters", "parameters"))
            ),
            ["units", f"{sum(n for _, n in units.values()):,}", f"{sum(n for n, _ in units.values()):,}"],
            ["residual branches gone", "", ", ".join(model["structure"]["removed"]) or "none"],
        ]
    figures = model["metrics"]
    shown["trained"] = [
        ["architecture", "parameters", "rows", "steps", "train loss", "train accuracy", "samples/s"],
        [
            model["architecture"],
            f"{model['parameters']:,}",
            f"{rows:,}",
            f"{figures['step']:,}",
            f"{figures['train_loss']:.4f}",
            f"{figures['train_accuracy']:.4f}",
            f"{rate:,.0f}",
        ],
    ]
    return shown
