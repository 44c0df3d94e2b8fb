"""What ``prune score`` is asked for: its options, which scores under which parameters, and which source serves each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prune_cli.core.errors import InputError
from prune_cli.core.params import build_params, split_assignments
from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.data import PROB, DataOptions, Dataset
from prune_cli.methods.registry.lookup import TRAINING, find_method, preset_params, scores_of_record, training_params
from prune_cli.methods.registry.method import Method
from prune_cli.methods.scores.kernel.params import KernelScoreParams
from prune_cli.methods.scores.record.needs import RecordParams, TrainingParams
from prune_cli.methods.training.recipes.sgd import StandardParams


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


RECIPE = "standard"

RecordFrom = Literal["file", "model", "training", "prob"]
FeaturesFrom = Literal["model", "training", "embedding", "kernel"]


@dataclass(frozen=True)
class Request:
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
    def kernels(self) -> dict[str, KernelScoreParams]:
        """Return the scores that go by a kernel, with their parameters."""
        return self.of("kernel")

    @property
    def records(self) -> dict[str, RecordParams]:
        """Return the scores that go by a record, with their parameters."""
        return self.of("record")

    @property
    def training(self) -> TrainingParams:
        """Return the parameters of the training that scores share."""
        found: TrainingParams = self.params[TRAINING]
        return found


def parameters_of(options: ScoreOptions) -> dict[str, Any]:
    """Return the parameters of every owner: the methods, the training they share, and its recipe (by prefix alone)."""
    methods = {name: find_method("score", name) for name in options.methods}
    owners: dict[str, type] = {name: method.params_class() for name, method in methods.items()}
    by_prefix: list[str] = []
    if options.from_dynamics is None and (options.save_features is not None or any(m.needs != "kernel" for m in methods.values())):
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


def request_of(options: ScoreOptions, params: Mapping[str, Any], dataset: Dataset) -> Request:
    """Return where the scores come from: a network named, columns of the data, else a training.

    Raises:
        InputError: options that do not go together, or features that nothing has.
    """
    asked = Request({name: find_method("score", name) for name in options.methods}, params, None, None)
    record = _record_from(options, asked, dataset)
    record, features = _features_from(options, asked, record, dataset)
    if options.model is not None and not asked.records and features is None:
        raise InputError("--model is given and nothing here needs it", "leave it out")
    if (options.save_kernel is not None or options.load_kernel is not None) and not asked.kernels:
        raise InputError("--save-kernel and --load-kernel are for scores that go by a kernel", "leave them out")
    if TRAINING in params and asked.training.augment != "none" and features not in {"model", "training"}:
        raise InputError("augment is given and no features are taken of pictures", "add --save-features FILE, or leave it out")
    if record == "training":  # what a score leaves to the training is told, wherever that stops
        told = {name: given.resolved(asked.training.epochs) for name, given in asked.records.items()}
        params = {**params, **told}
    return Request(asked.methods, params, record, features)


def _record_from(options: ScoreOptions, asked: Request, dataset: Dataset) -> RecordFrom | None:
    needs = {name: params.needs(0) for name, params in asked.records.items()}
    wants_training = any((options.epochs, options.architecture, options.save_dynamics))
    if options.model is None:
        of_prob = PROB in dataset.source.schema.names and all(n.of_probabilities for n in needs.values())
        if needs and of_prob and not wants_training:
            return "prob"
        return "training" if needs or wants_training else None
    refused = [name for name, need in needs.items() if need.watches]
    if refused:
        others = scores_of_record(lambda need: need.of_probabilities)
        raise InputError(
            f"{', '.join(refused)} watch a training, and --model names a network that is trained already",
            f"leave out --model, or score with {', '.join(others)}",
        )
    if wants_training:
        raise InputError("--model names a network that is trained already", "leave out --epochs, --arch and --save-dynamics")
    return "model"


def _features_from(
    options: ScoreOptions, asked: Request, record: RecordFrom | None, dataset: Dataset
) -> tuple[RecordFrom | None, FeaturesFrom | None]:
    """Return where the features come from, and the record, which a training that features want gives, too."""
    of_features = list(asked.of("features"))
    if not of_features and options.save_features is None:
        return record, None
    if record == "model" or record == "training":
        return record, record
    if not of_features and any(params.needs(0).predictions for params in asked.kernels.values()):
        return record, "kernel"
    if options.save_features is not None:
        return "training", "training"
    column = dataset.options.embedding_column
    if column in dataset.source.schema.names:
        return record, "embedding"
    raise InputError(
        f"{', '.join(of_features)} goes by features, and {dataset.options.location} has no column '{column}'",
        f"take them from a network: --model RUN; or from a training: --method {of_features[0]} --epochs 20",
    )
