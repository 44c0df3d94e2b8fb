"""Options of methods, of the trainings that they do, and of choosing rows by one."""

from functools import partial
from typing import Annotated

import typer

from prune_cli.cli import choices
from prune_cli.cli.groups import As, Flags
from prune_cli.cli.options.data import EmbeddingColumn, IdColumns, MaxErrors
from prune_cli.cli.options.texts import parse_numbers

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
            "-p", "--param", metavar="NAME=VALUE", help="A parameter of the method; repeatable. See --list-methods.", show_default=False
        ),
        As("params"),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", metavar="NAME", help="The parameters of a published table.", show_default=False, autocompletion=choices.presets
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


PerClass = Annotated[
    bool | None,
    typer.Option(
        "--per-class/--no-per-class",
        help="Choose inside each class, so that all keep their share, or among all rows; as the method was published if not given.",
    ),
]


class VectorFlags(Flags):
    """What is known of the rows beside their scores."""

    features: Annotated[
        str | None,
        typer.Option(
            "--features", metavar="FILE", help="Vectors of the rows, joined by id, for methods that need them.", show_default=False
        ),
    ] = None
    probabilities: Annotated[
        str | None,
        typer.Option(
            "--probabilities",
            metavar="FILE",
            help="Class probabilities of the rows, where the features' file has none.",
            show_default=False,
        ),
    ] = None


class BudgetFlags(Flags):
    """How many rows are kept."""

    fraction: Annotated[
        str | None,
        typer.Option("--fraction", metavar="F[,F]", help="Share KEPT, above 0 and at most 1.", show_default=False),
        As("fractions", partial(parse_numbers, option="--fraction", kind=float)),
    ] = None
    count: Annotated[
        str | None,
        typer.Option("--count", metavar="N[,N]", help="Rows kept.", show_default=False),
        As("counts", partial(parse_numbers, option="--count", kind=int)),
    ] = None


class ChoiceFlags(Flags):
    """Which rows may be kept, which way scores go, and what is written of the others."""

    drop: Annotated[str | None, typer.Option("--drop", metavar="FILE", help="Ids that must not be kept.", show_default=False)] = None
    direction: Annotated[
        list[str] | None,
        typer.Option("--direction", metavar="NAME=harder|easier", help="What a high value of a foreign score means.", show_default=False),
        As("directions"),
    ] = None
    selected_only: Annotated[bool, typer.Option("--selected-only", help="Write the kept rows alone.")] = False


class ScoreColumns(IdColumns):
    """The columns of scores and vectors, and how many bad rows they may have."""

    embedding_column: EmbeddingColumn = "embedding"
    prob_column: Annotated[str, typer.Option("--prob-column", metavar="NAME", help="Column with the probabilities, one a class.")] = "prob"
    max_errors: MaxErrors = "0"
