"""Options of methods, of the trainings that they do, and of choosing rows by one."""

from functools import partial
from typing import Annotated

from prune_cli.cli import choices
from prune_cli.cli.groups import As, Flags, opt
from prune_cli.cli.options.data import EmbeddingColumn, IdColumns, MaxErrors
from prune_cli.cli.options.texts import parse_numbers

Arch = Annotated[
    str | None,
    opt("--arch", "NAME[:WIDTH]", "Network and width of its first layer.", default="resnet9:16, or mlp", complete=choices.architectures),
    As("architecture"),
]


class MethodFlags(Flags):
    """Parameters of the method."""

    param: Annotated[
        list[str] | None, opt("-p --param", "NAME=VALUE", "A parameter of the method; repeatable. See --list-methods."), As("params")
    ] = None
    preset: Annotated[str | None, opt("--preset", "NAME", "The parameters of a published table.", complete=choices.presets)] = None


class WatchFlags(Flags):
    """What is kept and told of a training while it runs."""

    checkpoint_seconds: Annotated[float, opt("--checkpoint-seconds", "S", "Time between checkpoints of a training.", min=0)] = 60.0
    report_to: Annotated[
        str | None,
        opt(
            "--report-to",
            "tensorboard[:DIR]",
            "Also write the history as TensorBoard events while it trains.",
            complete=choices.among(("tensorboard",)),
        ),
    ] = None


PerClass = Annotated[
    bool | None,
    opt(
        "--per-class/--no-per-class",
        None,
        "Choose inside each class, so that all keep their share, or among all rows; as the method was published if not given.",
    ),
]


class VectorFlags(Flags):
    """What is known of the rows beside their scores."""

    features: Annotated[str | None, opt("--features", "FILE", "Vectors of the rows, joined by id, for methods that need them.")] = None
    probabilities: Annotated[
        str | None, opt("--probabilities", "FILE", "Class probabilities of the rows, where the features' file has none.")
    ] = None


class BudgetFlags(Flags):
    """How many rows are kept."""

    fraction: Annotated[
        str | None,
        opt("--fraction", "F[,F]", "Share KEPT, above 0 and at most 1."),
        As("fractions", partial(parse_numbers, option="--fraction", kind=float)),
    ] = None
    count: Annotated[
        str | None, opt("--count", "N[,N]", "Rows kept."), As("counts", partial(parse_numbers, option="--count", kind=int))
    ] = None


class ChoiceFlags(Flags):
    """Which rows may be kept, which way scores go, and what is written of the others."""

    drop: Annotated[str | None, opt("--drop", "FILE", "Ids that must not be kept.")] = None
    direction: Annotated[
        list[str] | None, opt("--direction", "NAME=harder|easier", "What a high value of a foreign score means."), As("directions")
    ] = None
    selected_only: Annotated[bool, opt("--selected-only", None, "Write the kept rows alone.")] = False


class ScoreColumns(IdColumns):
    """The columns of scores and vectors, and how many bad rows they may have."""

    embedding_column: EmbeddingColumn = "embedding"
    prob_column: Annotated[str, opt("--prob-column", "NAME", "Column with the probabilities, one a class.")] = "prob"
    max_errors: MaxErrors = "0"
