"""``prune evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prune_cli.cli import app
from prune_cli.cli import options as opt


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that prune train wrote.", show_default=False)],
    test: Annotated[str, typer.Argument(metavar="TEST", help="Data manifest to test on, or -.", show_default=False)],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="What the run was trained on: its true_label gives the share of wrong labels.",
            show_default=False,
        ),
    ] = None,
    subset: Annotated[
        str | None,
        typer.Option(
            "--subset",
            metavar="SELECTION",
            help="The selection the run was trained on, for --data.",
            show_default=False,
        ),
    ] = None,
    output: opt.Output = None,
    id_column: opt.IdColumn = "id",
    label_column: opt.LabelColumn = "label",
    true_label_column: opt.TrueLabelColumn = "true_label",
    image_column: opt.ImageColumn = "image",
    embedding_column: opt.EmbeddingColumn = "embedding",
    input: opt.Input = None,
    root: opt.Root = None,
    split: opt.Split = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    batch_size: opt.BatchSize = None,
    workers: opt.Workers = 0,
    max_errors: opt.MaxErrors = "0",
    max_pixels: opt.MaxPixels = 100_000_000,
    memory_limit: opt.MemoryLimit = None,
    force: opt.Force = False,
    plan: opt.Plan = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
) -> None:
    """Measure a trained run on a test set; the result is a report manifest, one row a number.

    Example: prune evaluate run test.parquet
    """
    from prune_cli.stages.evaluate import EvaluateOptions
    from prune_cli.stages.evaluate import evaluate as stage

    options = EvaluateOptions(
        run=run,
        data=opt.make_data_options(
            test,
            id_column=id_column,
            label_column=label_column,
            true_label_column=true_label_column,
            image_column=image_column,
            embedding_column=embedding_column,
            input=input,
            root=root,
            split=split,
            image_size=None,
            max_pixels=max_pixels,
            max_errors=max_errors,
        ),
        trained_on=data,
        subset=subset,
        output=output,
        force=force,
        plan=plan,
        runtime=opt.make_runtime(
            device=device,
            precision=precision,
            batch_size=batch_size,
            workers=workers,
            seed=0,
            memory_limit=memory_limit,
        ),
    )
    app.run(lambda progress: stage(options, progress), json=json, quiet=quiet, verbose=verbose)
