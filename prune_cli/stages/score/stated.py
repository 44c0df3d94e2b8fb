"""What a score manifest says of how it was made."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from prune_cli.io.manifests.data import DataOptions
from prune_cli.io.parquet.provenance import InputFile, hash_stream
from prune_cli.methods.registry.lookup import TRAINING
from prune_cli.methods.scores.kernel.kernels import parse_kernel
from prune_cli.methods.scores.kernel.neural_tangents import user_file
from prune_cli.stages.score.options import RECIPE, ScoreOptions, Sources
from prune_cli.stages.score.sources.kernel.plan import kernel_precision
from prune_cli.stages.score.sources.record import (
    Model,
    TrainingSpec,
)


def stated_parameters(
    options: ScoreOptions, sources: Sources, spec: TrainingSpec | None, data: DataOptions
) -> dict[str, Any]:
    """Return what provenance says of the parameters, so far as it is known before anything is computed."""
    stated: dict[str, Any] = {name: dataclasses.asdict(sources.params[name]) for name in sources.methods}
    stated["data"] = data.identity()
    stated["precision"] = kernel_precision(options.runtime) if sources.record is None else options.runtime.precision
    if spec is not None:
        stated[TRAINING] = {
            **dataclasses.asdict(spec.params),
            "stop_epoch": spec.stop_epoch,
            "architecture": spec.architecture,
            "batch_size": options.runtime.batch_size,
            RECIPE: dataclasses.asdict(spec.recipe),
        }
    elif sources.features == "model":
        stated[TRAINING] = {"augment": sources.params[TRAINING].augment}
    if options.load_kernel is not None:
        stated["load_kernel"] = options.load_kernel.name
    if options.model is not None:
        stated["model"] = Path(options.model).name if options.weights is None else options.model
    return stated


def score_directions(sources: Sources) -> dict[str, str]:
    """Return score column -> direction, of the columns that are written."""
    found: dict[str, str] = {}
    for name, method in sources.methods.items():
        terms = getattr(sources.params[name], "terms", True)
        found |= {c: d for c, d in method.columns.items() if c == name or terms}
    return found


def kernel_files(options: ScoreOptions, sources: Sources) -> tuple[InputFile, ...]:
    """Return the networks of the user's own that kernels are of, and the kernel that was given."""
    networks = {parse_kernel(params.kernel).network or "" for params in sources.kernels.values()}
    files = [path for name in sorted(networks) if (path := user_file(name)) is not None and path.is_file()]
    if options.load_kernel is not None and options.load_kernel.is_file():
        files.append(options.load_kernel)
    found = []
    for path in files:
        with path.open("rb") as file:
            found.append(InputFile(path.name, hash_stream(file)))
    return tuple(found)


def model_files(found: Any) -> tuple[InputFile, ...]:
    """Return the files of a network that was found; none without."""
    if found is None:
        return ()
    return found.inputs if isinstance(found, Model) else (found[2],)
