"""``prune train``."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

from prune_cli.cli import choices
from prune_cli.cli.command import Stage, command
from prune_cli.cli.groups import OwnFlags, Without, named, opt
from prune_cli.cli.options.data import DATA, DataFlags
from prune_cli.cli.options.methods import Arch, MethodFlags, WatchFlags
from prune_cli.cli.options.runtime import RuntimeFlags, WorkFlags
from prune_cli.core.launch import read_launch
from prune_cli.methods.registry.lookup import EXPORTS


class TrainingFlags(OwnFlags):
    """What is trained, on what and for how long."""

    subset: Annotated[str | None, opt("--subset", "SELECTION", "Selection manifest: train on its selected rows.", default="all rows")] = (
        None
    )
    recipe: Annotated[str, opt("--recipe --method", "NAME", "How to train.", complete=choices.methods("recipe"))] = "standard"
    structure: Annotated[
        str | None,
        opt(
            "--structure",
            "NAME",
            "Prune the network while it trains: complexity_aware, or magnitude to compare with.",
            default="it stays whole",
            complete=choices.methods("structure"),
        ),
    ] = None
    arch: Arch = None
    init: Annotated[
        list[Path] | None,
        opt(
            "--init",
            "RUN",
            "Run folder whose network training begins from, as a warm-up; once more for a recipe's second network.",
            default="weights from the seed",
        ),
    ] = None
    epochs: Annotated[int | None, opt("--epochs", "N", "Passes over the selection.", default="20", min=1)] = None
    steps: Annotated[int | None, opt("--steps", "N", "Steps, whatever is selected: comparable budgets.", min=1)] = None
    resume: Annotated[bool, opt("--resume", None, "Go on from the checkpoint of an interrupted run.")] = False


class RecordFlags(OwnFlags):
    """What is written beside the network."""

    save_dynamics: Annotated[bool, opt("--save-dynamics", None, "Keep what every pass said of every sample: dynamics.parquet.")] = False
    export: Annotated[
        list[str] | None, opt("--export", "onnx", "Also write the network as model.onnx.", complete=choices.among(EXPORTS))
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
