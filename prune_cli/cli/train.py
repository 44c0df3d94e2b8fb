"""``prune train``."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from prune_cli.cli import choices
from prune_cli.cli.command import Stage, command
from prune_cli.cli.groups import OwnFlags, Without, named
from prune_cli.cli.options.data import DATA, DataFlags
from prune_cli.cli.options.methods import Arch, MethodFlags, WatchFlags
from prune_cli.cli.options.runtime import RuntimeFlags, WorkFlags
from prune_cli.core.launch import read_launch


class TrainingFlags(OwnFlags):
    """What is trained, on what and for how long."""

    subset: Annotated[
        str | None,
        typer.Option("--subset", metavar="SELECTION", help="Selection manifest: train on its selected rows.", show_default="all rows"),
    ] = None
    recipe: Annotated[
        str, typer.Option("--recipe", "--method", metavar="NAME", help="How to train.", autocompletion=choices.methods("recipe"))
    ] = "standard"
    structure: Annotated[
        str | None,
        typer.Option(
            "--structure",
            metavar="NAME",
            help="Prune the network while it trains: complexity_aware, or magnitude to compare with.",
            show_default="it stays whole",
            autocompletion=choices.methods("structure"),
        ),
    ] = None
    arch: Arch = None
    init: Annotated[
        list[Path] | None,
        typer.Option(
            "--init",
            metavar="RUN",
            help="Run folder whose network training begins from, as a warm-up; once more for a recipe's second network.",
            show_default="weights from the seed",
        ),
    ] = None
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, metavar="N", help="Passes over the selection.", show_default="20")] = None
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, metavar="N", help="Steps, whatever is selected: comparable budgets.", show_default=False)
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint of an interrupted run.")] = False


class RecordFlags(OwnFlags):
    """What is written beside the network."""

    save_dynamics: Annotated[bool, typer.Option("--save-dynamics", help="Keep what every pass said of every sample: dynamics.parquet.")] = (
        False
    )
    export: Annotated[
        list[str] | None,
        typer.Option(
            "--export", metavar="onnx", help="Also write the network as model.onnx.", show_default=False, autocompletion=choices.exports
        ),
    ] = None


@command(lists=("recipe", "structure"))
def train(
    data: Annotated[str, DATA],
    *,
    training: TrainingFlags,
    watch: WatchFlags,
    record: RecordFlags,
    params: MethodFlags,
    columns: Annotated[DataFlags, Without("true_label_column")],
    machine: RuntimeFlags,
    output: WorkFlags,
) -> Stage:
    """Train a network on the selected rows; the result is a run folder.

    Example: prune train photos.parquet --subset photos.selection.parquet --steps 2000 -o run
    """
    from prune_cli.stages.train.command import train as stage
    from prune_cli.stages.train.options import TrainOptions

    options = TrainOptions(
        columns.options(data), runtime=machine.runtime(), launch=read_launch(os.environ), **named(training, watch, record, params, output)
    )
    return partial(stage, options)
