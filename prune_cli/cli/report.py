"""``prune report``."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from prune_cli.cli.command import Stage, command
from prune_cli.cli.groups import Without
from prune_cli.cli.options.data import DataFlags
from prune_cli.cli.options.runtime import OutputFlags


@command()
def report(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Whatever prune wrote, and data manifests, in any order.", show_default=False)
    ],
    *,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="The data, for pictures or embeddings.", show_default="that among the files"),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=0, metavar="N", help="Samples of each class: hardest, easiest, ...")] = 12,
    plots: Annotated[
        Path | None, typer.Option("--plots", metavar="DIR", help="Also write each plot as PNG and SVG.", show_default=False)
    ] = None,
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="Of the page.", show_default="the first file's name")] = None,
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
