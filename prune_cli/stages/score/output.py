"""What scoring will cost, where scores go, and where finished work is kept until they are there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from prune_cli.io.ids.columns import ID
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import ParquetSource, write_table
from prune_cli.io.runs.finished import BlockFolder
from prune_cli.io.stores.locations import STDIN, work_folder
from prune_cli.stages.frame.outcome import Outcome
from prune_cli.stages.score.contract import Figures, Job
from prune_cli.stages.score.reading import SPOOL
from prune_cli.stages.score.request import ScoreOptions


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


def score_output(options: ScoreOptions, stem: str) -> str:
    """Return where the scores of a file go: what was named, or a name beside it, of a part with its number."""
    part = f".{options.shard[0]}-of-{options.shard[1]}" if options.shard is not None else ""
    return options.output or f"{stem}.scores{part}.parquet"


def work_path(options: ScoreOptions, output: str) -> Path:
    """Return the folder of finished work."""
    return options.work_dir or work_folder(output)


@contextmanager
def open_work_folder(options: ScoreOptions, output: str) -> Iterator[Path]:
    """Yield where finished work is kept: it stays after an error, and goes when the output is whole, unless it was named."""
    if options.work_dir is None and output == STDIN:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    folder = work_path(options, output)
    try:
        yield folder
    finally:
        shutil.rmtree(folder / SPOOL, ignore_errors=True)  # inputs on their way
        with suppress(OSError):
            folder.rmdir()  # where nothing else is in it
    if options.work_dir is None:
        BlockFolder(folder, {}).remove()
        for path in folder.glob("run-*"):
            shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            folder.rmdir()


def write_scores(
    output: str,
    ids: pa.Array,
    labels: pa.Array | None,
    columns: Mapping[str, np.ndarray],
    provenance: Provenance,
    source: ParquetSource,
    outcome: Outcome,
) -> None:
    """Write the score manifest and tell what is in it."""
    table = pa.table(
        {
            ID: ids,
            **({"label": labels} if labels is not None else {}),
            **{name: pa.array(column, pa.float64()) for name, column in columns.items()},
        }
    )
    write_table(output, table, provenance, source)
    rows = [["score", "direction", "lowest", "median", "highest"]]
    for name, column in columns.items():
        quantiles = (f"{v:.6g}" for v in np.quantile(column, [0, 0.5, 1]))
        rows.append([name, f"{provenance.score_direction[name]} when high", *quantiles])
    outcome.tables["scores"] = rows
