"""What scoring will cost, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prune_cli.stages.score.contract import Figures, Job, Source


def score_estimate(job: Job, sources: Sequence[Source[Any]]) -> Figures:
    """Return the figures of ``--plan``: those of the kernel, of the trainings, or of a look."""
    dataset = job.dataset
    figures: Figures = {"rows": len(dataset), "classes": len(dataset.labels.classes), "passes_over_data": 1}
    for source in sources:
        figures = source.plan(figures)
    return figures


def look_figures(job: Job, figures: Figures, algorithm: str) -> Figures:
    """Return the figures of one look at the samples; those of what comes before it, which costs more, where there is any."""
    if "algorithm" in figures:
        return figures
    request, rows = job.request, len(job.dataset)
    width = 4 * job.dataset.input_width() if request.record == "model" or request.features else 0
    return {
        **figures,
        "algorithm": algorithm,
        "peak_memory_bytes": 2**30 + rows * (width + 200),
        "disk_bytes": rows * (32 + 8 * len(request.methods)),
    }
