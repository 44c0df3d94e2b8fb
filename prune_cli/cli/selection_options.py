"""The options that choose rows by a method, each stated once: of ``select`` and of ``manifest top-up``."""

from __future__ import annotations

from typing import Annotated

import typer

Features = Annotated[
    str | None,
    typer.Option(
        "--features",
        metavar="FILE",
        help="Vectors of the rows, joined by id, for methods that need them.",
        show_default=False,
    ),
]
Probabilities = Annotated[
    str | None,
    typer.Option(
        "--probabilities",
        metavar="FILE",
        help="Class probabilities of the rows, where the features' file has none.",
        show_default=False,
    ),
]
Fraction = Annotated[
    str | None,
    typer.Option("--fraction", metavar="F[,F]", help="Share KEPT, above 0 and at most 1.", show_default=False),
]
Count = Annotated[str | None, typer.Option("--count", metavar="N[,N]", help="Rows kept.", show_default=False)]
PerClass = Annotated[bool, typer.Option("--per-class", help="Keep the budget inside each class.")]
Drop = Annotated[
    str | None, typer.Option("--drop", metavar="FILE", help="Ids that must not be kept.", show_default=False)
]
Direction = Annotated[
    list[str] | None,
    typer.Option(
        "--direction",
        metavar="NAME=harder|easier",
        help="What a high value of a foreign score means.",
        show_default=False,
    ),
]
SelectedOnly = Annotated[bool, typer.Option("--selected-only", help="Write the kept rows alone.")]
