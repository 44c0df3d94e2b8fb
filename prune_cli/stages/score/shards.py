"""A part of the rows of a score, done by itself, anywhere."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.io.manifests.shards import BlockRows, write_shard
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.stages.score.contract import Job
from prune_cli.stages.score.options import ScoreOptions
from prune_cli.stages.score.request import Request

ROWS = "rows"
"""The kind of part that holds the scores of its own rows."""

_UNIT = 8192


def require_divisible(options: ScoreOptions, request: Request) -> None:
    """Check that the work can be divided.

    Raises:
        InputError: a training, features, or a kernel that is kept.
    """
    if options.shard is None:
        return
    whole = [
        name
        for name, value in (
            ("--save-features", options.save_features),
            ("--save-dynamics", options.save_dynamics),
            ("--save-kernel", options.save_kernel),
            ("--report-to", options.report_to),
        )
        if value is not None
    ]
    if whole:
        raise InputError(f"{', '.join(whole)} is of all rows, and --shard does a part of the work", "leave one out")
    kernels, of_rows = list(request.kernels), list(request.records)
    if (of_rows and request.record not in {"model", "prob"}) or request.of("features") or (kernels and of_rows):
        raise InputError(
            f"{', '.join(request.methods)} cannot be done in parts",
            "--shard divides scores of kernels (cg, ntk_margin, ntk_residual), or scores of a network that exists (--model) or of the "
            "column 'prob'; the others run whole, and prune manifest merge joins their columns",
        )


def rows_of_shard(shard: tuple[int, int], rows: int, batch: int) -> np.ndarray:
    """Return (M,) int64, the rows of a part: stretches of whole batches, so that it computes what one run does.

    Args:
        shard: (I, N).
        rows: of the data.
        batch: samples that go through a network together.
    """
    unit = batch * max(1, min(_UNIT, -(-rows // shard[1])) // batch)
    found: np.ndarray = np.flatnonzero(np.arange(rows) // unit % shard[1] == shard[0] - 1)
    return found


def write_row_shard(
    job: Job, shard: tuple[int, int], columns: Mapping[str, np.ndarray], positions: np.ndarray, provenance: Provenance
) -> None:
    """Write the scores of a part's own rows.

    Args:
        positions: (M,) theirs in the data.
    """
    values = np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1)
    block = BlockRows(0, shard[0] - 1, positions, values, {})
    plan, data, labels = {"kind": ROWS, "columns": list(columns)}, job.dataset, job.dataset.labels
    write_shard(job.output, shard, plan, [block], data.ids, labels.values(), labels.codes_n, provenance, data.source)
