"""``prune train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from prune_cli.cli import choices
from prune_cli.cli import options as opt
from prune_cli.cli.running import follow, run
from prune_cli.core.launch import read_launch


@opt.spread
def train(
    data: opt.Data,
    *,
    subset: Annotated[
        str | None,
        typer.Option(
            "--subset",
            metavar="SELECTION",
            help="Selection manifest: train on its selected rows.",
            show_default="all rows",
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            "--method",
            metavar="NAME",
            help="How to train.",
            autocompletion=choices.methods("recipe"),
        ),
    ] = "standard",
    structure: Annotated[
        str | None,
        typer.Option(
            "--structure",
            metavar="NAME",
            help="Prune the network while it trains: complexity_aware, or magnitude to compare with.",
            show_default="it stays whole",
            autocompletion=choices.methods("structure"),
        ),
    ] = None,
    arch: opt.Arch = None,
    init: Annotated[
        list[Path] | None,
        typer.Option(
            "--init",
            metavar="RUN",
            help="Run folder whose network training begins from, as a warm-up; once more for a recipe's second network.",
            show_default="weights from the seed",
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
    checkpoint_seconds: opt.CheckpointSeconds = 60.0,
    report_to: opt.ReportTo = None,
    save_dynamics: Annotated[
        bool, typer.Option("--save-dynamics", help="Keep what every pass said of every sample: dynamics.parquet.")
    ] = False,
    export: Annotated[
        list[str] | None,
        typer.Option(
            "--export",
            metavar="onnx",
            help="Also write the network as model.onnx.",
            show_default=False,
            autocompletion=choices.exports,
        ),
    ] = None,
    output: opt.Output = None,
    param: opt.Params = None,
    preset: opt.Preset = None,
    image_size: opt.ImageSize = None,
    batch_size: opt.BatchSize = None,
    seed: opt.Seed = 0,
    max_errors: opt.MaxErrors = "0",
    work_dir: opt.WorkDir = None,
    force: opt.Force = False,
    plan: opt.Plan = False,
    list_methods: opt.list_methods_option("recipe", "structure") = False,  # type: ignore[valid-type]
    columns: opt.DataFlags,
    machine: opt.MachineFlags,
    printing: opt.PrintFlags,
) -> None:
    """Train a network on the selected rows; the result is a run folder.

    Example: prune train photos.parquet --subset photos.selection.parquet --steps 2000 -o run
    """
    from prune_cli.stages.train.command import TrainOptions
    from prune_cli.stages.train.command import train as stage

    options = TrainOptions(
        data=columns.options(data, image_size=image_size, max_errors=max_errors),
        subset=subset,
        recipe=recipe,
        structure=structure,
        export=tuple(export or ()),
        architecture=arch,
        init=tuple(init or ()),
        epochs=epochs,
        steps=steps,
        resume=resume,
        checkpoint_seconds=checkpoint_seconds,
        report_to=report_to,
        save_dynamics=save_dynamics,
        params=tuple(param or ()),
        preset=preset,
        output=output,
        work_dir=work_dir,
        force=force,
        plan=plan,
        runtime=machine.runtime(seed=seed, batch_size=batch_size),
        launch=read_launch(os.environ),
    )
    if options.launch.leads:
        run(lambda progress: stage(options, progress), printing)
    else:
        follow(lambda: stage(options))
