"""Options of methods, and of the trainings that they do."""

from typing import Annotated

import typer

from prune_cli.cli import choices
from prune_cli.cli.groups import As, Flags

Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        metavar="NAME[:WIDTH]",
        help="Network and width of its first layer.",
        show_default="resnet9:16, or mlp",
        autocompletion=choices.architectures,
    ),
    As("architecture"),
]


class MethodFlags(Flags):
    """Parameters of the method."""

    param: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--param",
            metavar="NAME=VALUE",
            help="A parameter of the method; repeatable. See --list-methods.",
            show_default=False,
        ),
        As("params"),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="The parameters of a published table.",
            show_default=False,
            autocompletion=choices.presets,
        ),
    ] = None


class WatchFlags(Flags):
    """What is kept and told of a training while it runs."""

    checkpoint_seconds: Annotated[
        float, typer.Option("--checkpoint-seconds", min=0, metavar="S", help="Time between checkpoints of a training.")
    ] = 60.0
    report_to: Annotated[
        str | None,
        typer.Option(
            "--report-to",
            metavar="tensorboard[:DIR]",
            help="Also write the history as TensorBoard events while it trains.",
            show_default=False,
            autocompletion=choices.reports,
        ),
    ] = None
