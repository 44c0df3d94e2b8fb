"""What scoring will cost, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.stages.score.options import ScoreOptions, Sources
from prune_cli.stages.score.sources.kernel.plan import kernel_estimate
from prune_cli.stages.score.sources.record import (
    TrainingSpec,
    training_estimate,
)


def score_estimate(
    dataset: Dataset, sources: Sources, spec: TrainingSpec | None, options: ScoreOptions
) -> dict[str, Any]:
    """Return the figures of ``--plan``: those of the kernel, of the trainings, or of a look."""
    figures: dict[str, Any] = {"rows": len(dataset), "classes": len(dataset.labels.classes), "passes_over_data": 1}
    if sources.kernels:
        keeps = options.save_kernel is not None
        shards = options.shard[1] if options.shard is not None else None
        figures = kernel_estimate(dataset, sources.kernels, options.runtime, keeps, options.plan, shards)
    if spec is not None:
        head = dataset.load_inputs(Ledger(), rows=np.arange(min(len(dataset), 64)), as_float32=True)
        training = training_estimate(spec, head.shape[1:], len(dataset), len(dataset.labels.classes))
        training["peak_memory_bytes"] += len(dataset) * head[0].nbytes
        figures = _added(figures, training)
        figures["passes_over_data"] = spec.params.runs * spec.stop_epoch
        how = f"{spec.params.runs} training(s) of {spec.architecture}"
        figures["algorithm"] = f"{figures['algorithm']}; {how}" if "algorithm" in figures else how
    if "algorithm" not in figures:
        width = 4 * dataset.input_width() if sources.record == "model" or sources.features else 0
        words = {"model": "one forward pass a sample", "prob": "the column 'prob'"}
        of_features = ", ".join(sources.of("features"))
        figures |= {
            "algorithm": words.get(sources.record or "", "") or f"{of_features} of the embeddings",
            "peak_memory_bytes": 2**30 + len(dataset) * (width + 200),
            "disk_bytes": len(dataset) * (32 + 8 * len(sources.methods)),
        }
    return figures


def _added(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    both = {**ours, **theirs}
    for name in ("flops", "disk_bytes"):
        both[name] = ours.get(name, 0) + theirs.get(name, 0)
    both["peak_memory_bytes"] = max(ours.get("peak_memory_bytes", 0), theirs.get("peak_memory_bytes", 0))
    return both
