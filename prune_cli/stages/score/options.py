"""What ``prune score`` is asked for: which scores, under which parameters, from what."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prune_cli.core.errors import InputError
from prune_cli.core.params import build_params, split_assignments
from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.data import PROB, DataOptions, Dataset
from prune_cli.methods.registry.lookup import TRAINING, find_method, preset_params, training_params
from prune_cli.methods.registry.method import Method
from prune_cli.methods.scores.kernel.params import KernelParams
from prune_cli.methods.scores.record.dynamics import early_epoch
from prune_cli.methods.training.recipes.standard import StandardParams
from prune_cli.stages.score.sources.record import (
    FROM_PROBABILITIES,
    NEED_TRAINING,
    FeaturesFrom,
    RecordFrom,
)

RECIPE = "standard"


@dataclass(frozen=True)
class ScoreOptions:
    """The options of ``prune score``; see docs/commands.md. ``data`` is None where the record comes from a file."""

    data: DataOptions | None
    methods: tuple[str, ...]
    params: tuple[str, ...] = ()
    preset: str | None = None
    output: str | None = None
    architecture: str | None = None
    epochs: int | None = None
    model: str | None = None
    weights: Path | None = None
    from_dynamics: str | None = None
    save_dynamics: str | None = None
    save_features: str | None = None
    save_kernel: Path | None = None
    load_kernel: Path | None = None
    checkpoint_seconds: float = 60.0
    report_to: str | None = None
    work_dir: Path | None = None
    shard: tuple[int, int] | None = None
    force: bool = False
    plan: bool = False
    runtime: Runtime = dataclasses.field(default_factory=Runtime)


@dataclass(frozen=True)
class Sources:
    """What is scored, and from what.

    Args:
        methods: name -> entry of the registry.
        params: owner -> its parameters; owners are the methods, `TRAINING` and the recipe.
        record: where the record comes from, None where no score needs one.
        features: where the features come from, None where nothing needs them.
    """

    methods: Mapping[str, Method]
    params: Mapping[str, Any]
    record: RecordFrom | None
    features: FeaturesFrom | None

    def of(self, needs: str) -> dict[str, Any]:
        """Return the methods that need that, with their parameters."""
        return {name: self.params[name] for name, method in self.methods.items() if method.needs == needs}

    @property
    def kernels(self) -> dict[str, KernelParams]:
        """Return the scores that go by a kernel, with their parameters."""
        return self.of("inputs")


def parameters_of(options: ScoreOptions) -> dict[str, Any]:
    """Return the parameters of every owner: the methods, the training they share, and its recipe (by prefix alone)."""
    methods = {name: find_method("score", name) for name in options.methods}
    owners: dict[str, type] = {name: method.params_class() for name, method in methods.items()}
    by_prefix: list[str] = []
    if options.from_dynamics is None and (
        options.save_features is not None or any(m.needs != "inputs" for m in methods.values())
    ):
        owners |= {TRAINING: training_params(), RECIPE: StandardParams}
        by_prefix = [RECIPE]
    given = split_assignments(options.params, owners, by_prefix=by_prefix)
    if options.epochs is not None:
        if TRAINING not in owners:
            raise InputError("--epochs is given and nothing here trains", "leave it out")
        given[TRAINING]["epochs"] = str(options.epochs)
    if options.report_to is not None and TRAINING not in owners:
        raise InputError("--report-to is given and nothing here trains", "leave it out")
    preset = preset_params(options.preset, "score", list(owners))
    return {owner: build_params(kind, {**preset[owner], **given[owner]}, owner) for owner, kind in owners.items()}


def sources_of(options: ScoreOptions, params: Mapping[str, Any], dataset: Dataset) -> Sources:
    """Return where the scores come from: a network named, columns of the data, else a training."""
    methods = {name: find_method("score", name) for name in options.methods}
    of_record = [name for name, method in methods.items() if method.needs == "record"]
    of_features = [name for name, method in methods.items() if method.needs == "features"]
    columns = dataset.source.schema.names
    wants_training = any((options.epochs, options.architecture, options.save_dynamics))
    record: RecordFrom | None = None
    if options.model is not None:
        refused = [name for name in of_record if name in NEED_TRAINING]
        if refused:
            raise InputError(
                f"{', '.join(refused)} watch a training, and --model names a network that is trained already",
                f"leave out --model, or score with {', '.join(FROM_PROBABILITIES)}",
            )
        if wants_training:
            raise InputError(
                "--model names a network that is trained already", "leave out --epochs, --arch and --save-dynamics"
            )
        record = "model"
    elif of_record and PROB in columns and set(of_record) <= set(FROM_PROBABILITIES) and not wants_training:
        record = "prob"
    elif of_record or wants_training:
        record = "training"
    features: FeaturesFrom | None = None
    if of_features or options.save_features is not None:
        has_column = dataset.options.embedding_column in columns
        if record in {"model", "training"}:
            features = "model" if record == "model" else "training"
        elif not of_features and any(name.startswith("ntk_") for name in methods):
            features = "kernel"
        elif options.save_features is not None:
            record, features = "training", "training"
        elif has_column:
            features = "embedding"
        else:
            raise InputError(
                f"{', '.join(of_features)} goes by features, and {dataset.options.location} has no column "
                f"'{dataset.options.embedding_column}'",
                f"take them from a network: --model RUN; or from a training: --method {of_features[0]} --epochs 20",
            )
    if options.model is not None and not of_record and features is None:
        raise InputError("--model is given and nothing here needs it", "leave it out")
    of_kernel = [name for name, method in methods.items() if method.needs == "inputs"]
    if (options.save_kernel is not None or options.load_kernel is not None) and not of_kernel:
        raise InputError("--save-kernel and --load-kernel are for scores that go by a kernel", "leave them out")
    if TRAINING in params and params[TRAINING].augment != "none" and features not in {"model", "training"}:
        raise InputError(
            "augment is given and no features are taken of pictures", "add --save-features FILE, or leave it out"
        )
    return Sources(methods, _resolved(params) if record == "training" else params, record, features)


def _resolved(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with the pass of el2n and grand told: a tenth of the schedule, wherever the training stops."""
    early = early_epoch(params[TRAINING].epochs)
    told = {name: params[name] for name in ("el2n", "grand") if name in params and params[name].epoch is None}
    return {**params, **{name: dataclasses.replace(given, epoch=early) for name, given in told.items()}}
