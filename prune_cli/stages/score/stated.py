"""What a score manifest says of how it was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from prune_cli.io.parquet.provenance import Provenance
from prune_cli.methods.devices import device_name
from prune_cli.stages.score.contract import PACKAGES, Job, Source
from prune_cli.stages.score.request import Request
from prune_cli.stages.score.sources.kernel.plan import kernel_precision


def provenance_of(job: Job, sources: Sequence[Source[Any]], rows: Mapping[str, int]) -> Provenance:
    """Return what is known before anything is computed."""
    request, options = job.request, job.options
    origins = [source.origin() for source in reversed(sources)]  # files of a network before those of a kernel
    stated: dict[str, Any] = {name: dataclasses.asdict(request.params[name]) for name in request.methods}
    stated["data"] = job.dataset.options.identity()
    stated["precision"] = kernel_precision(options.runtime) if request.record is None else options.runtime.precision
    for origin in origins:
        stated |= origin.parameters
    return Provenance(
        command="score",
        method=",".join(options.methods),
        parameters=stated,
        seed=options.runtime.seed,
        inputs=(*job.dataset.source.inputs, *(file for origin in origins for file in origin.inputs)),
        device=device_name(options.runtime.device),
        packages=(*PACKAGES, *(name for origin in origins for name in origin.packages)),
        score_direction=score_directions(request),
        rows=rows,
    )


def with_stated(parameters: Mapping[str, Any], stated: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the parameters with what scores say beside theirs."""
    return {**parameters, **{name: {**parameters[name], **more} for name, more in stated.items()}}


def score_directions(request: Request) -> dict[str, str]:
    """Return score column -> direction, of the columns that are written."""
    found: dict[str, str] = {}
    for name, method in request.methods.items():
        terms = getattr(request.params[name], "terms", True)
        found |= {c: d for c, d in method.columns.items() if c == name or terms}
    return found
