"""``prune train``."""

from __future__ import annotations

from typing import Annotated

import typer

from prune_cli.cli import app
from prune_cli.cli import options as opt


def train(
    data: opt.Data,
    subset: Annotated[
        str | None,
        typer.Option(
            "--subset",
            metavar="SELECTION",
            help="Selection manifest: train on its selected rows.",
            show_default="all rows",
        ),
    ] = None,
    recipe: Annotated[str, typer.Option("--recipe", "--method", metavar="NAME", help="How to train.")] = "standard",
    arch: Annotated[
        str | None,
        typer.Option(
            "--arch",
            metavar="NAME[:WIDTH]",
            help="Network and width of its first layer.",
            show_default="resnet9:16, or mlp",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, metavar="N", help="Passes over the selection.", show_default="20")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", min=1, metavar="N", help="Steps, whatever is selected: comparable budgets.", show_default=False
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint of an interrupted run.")] = False,
    checkpoint_seconds: Annotated[
        float, typer.Option("--checkpoint-seconds", min=0, metavar="S", help="Time between checkpoints.")
    ] = 60.0,
    output: opt.Output = None,
    param: opt.Params = None,
    preset: opt.Preset = None,
    id_column: opt.IdColumn = "id",
    label_column: opt.LabelColumn = "label",
    image_column: opt.ImageColumn = "image",
    embedding_column: opt.EmbeddingColumn = "embedding",
    input: opt.Input = None,
    root: opt.Root = None,
    split: opt.Split = None,
    image_size: opt.ImageSize = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    batch_size: opt.BatchSize = None,
    workers: opt.Workers = 0,
    seed: opt.Seed = 0,
    max_errors: opt.MaxErrors = "0",
    max_pixels: opt.MaxPixels = 100_000_000,
    memory_limit: opt.MemoryLimit = None,
    work_dir: opt.WorkDir = None,
    force: opt.Force = False,
    plan: opt.Plan = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
    list_methods: opt.list_methods_option("recipe") = False,  # type: ignore[valid-type]
) -> None:
    """Train a network on the selected rows; the result is a run folder.

    Example: prune train photos.parquet --subset photos.selection.parquet --steps 2000 -o run
    """
    from prune_cli.stages.train import TrainOptions
    from prune_cli.stages.train import train as stage

    options = TrainOptions(
        data=opt.make_data_options(
            data,
            id_column=id_column,
            label_column=label_column,
            image_column=image_column,
            embedding_column=embedding_column,
            input=input,
            root=root,
            split=split,
            image_size=image_size,
            max_pixels=max_pixels,
            max_errors=max_errors,
        ),
        subset=subset,
        recipe=recipe,
        architecture=arch,
        epochs=epochs,
        steps=steps,
        resume=resume,
        checkpoint_seconds=checkpoint_seconds,
        params=tuple(param or ()),
        preset=preset,
        output=output,
        work_dir=work_dir,
        force=force,
        plan=plan,
        runtime=opt.make_runtime(
            device=device,
            precision=precision,
            batch_size=batch_size,
            workers=workers,
            seed=seed,
            memory_limit=memory_limit,
        ),
    )
    app.run(lambda progress: stage(options, progress), json=json, quiet=quiet, verbose=verbose)
