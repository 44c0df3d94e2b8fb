"""``prune report``."""

from functools import partial
from pathlib import Path
from typing import Annotated

from prune_cli.cli.command import Stage, command
from prune_cli.cli.groups import Without, arg, opt
from prune_cli.cli.options.data import DataFlags
from prune_cli.cli.options.runtime import OutputFlags


@command()
def report(
    files: Annotated[list[str], arg("FILE...", "Whatever prune wrote, and data manifests, in any order.")],
    *,
    data: Annotated[str | None, opt("--data", "DATA", "The data, for pictures or embeddings.", default="that among the files")] = None,
    samples: Annotated[int, opt("--samples", "N", "Samples of each class: hardest, easiest, ...", min=0)] = 12,
    plots: Annotated[Path | None, opt("--plots", "DIR", "Also write each plot as PNG and SVG.")] = None,
    title: Annotated[str | None, opt("--title", "TEXT", "Of the page.", default="the first file's name")] = None,
    columns: Annotated[DataFlags, Without("image_size", "max_errors")],
    output: OutputFlags,
) -> Stage:
    """Write one page of HTML about files: what was done, what is kept, and whether it pays. It opens without a network.

    Example: prune report photos.scores.parquet photos.selection.parquet --data photos.parquet
    """
    from prune_cli.stages.report.command import ReportOptions
    from prune_cli.stages.report.command import report as stage

    options = ReportOptions(tuple(files), columns.options(data or ""), samples=samples, plots=plots, title=title, **output.named())
    return partial(stage, options)
