"""``prune manifest``: make and verify manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prune_cli.cli import app as cli
from prune_cli.cli import options as opt

app = typer.Typer(help="Make and verify manifests.", no_args_is_help=True, rich_markup_mode=None)


@app.command("create")
def create(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder per class, or one with metadata.csv.", show_default=False)
    ],
    paths: Annotated[
        bool, typer.Option("--paths", help="Keep the paths alone instead of the images' bytes; use with --root FOLDER.")
    ] = False,
    output: opt.Output = None,
    force: opt.Force = False,
    plan: opt.Plan = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
) -> None:
    """Make a data manifest of a folder of images.

    Example: prune manifest create photos/
    """
    from prune_cli.stages.manifest import CreateOptions
    from prune_cli.stages.manifest import create as stage

    options = CreateOptions(folder=folder, paths=paths, output=output, force=force, plan=plan)
    cli.run(lambda progress: stage(options, progress), json=json, quiet=quiet, verbose=verbose)


@app.command("check")
def check(
    data: opt.Data,
    id_column: opt.IdColumn = "id",
    label_column: opt.LabelColumn = "label",
    image_column: opt.ImageColumn = "image",
    embedding_column: opt.EmbeddingColumn = "embedding",
    input: opt.Input = None,
    root: opt.Root = None,
    split: opt.Split = None,
    workers: opt.Workers = 0,
    max_pixels: opt.MaxPixels = 100_000_000,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
) -> None:
    """Verify a manifest: every row is read; exit code 1 when one is bad. Nothing is written.

    Example: prune manifest check photos.parquet
    """
    from prune_cli.stages.manifest import check as stage

    options = opt.make_data_options(
        data,
        id_column=id_column,
        label_column=label_column,
        image_column=image_column,
        embedding_column=embedding_column,
        input=input,
        root=root,
        split=split,
        image_size=None,
        max_pixels=max_pixels,
        max_errors="100%",
    )
    cli.run(lambda progress: stage(options, workers, progress), json=json, quiet=quiet, verbose=verbose)
