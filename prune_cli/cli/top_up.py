"""``prune manifest top-up``."""

from functools import partial
from typing import Annotated

import typer

from prune_cli.cli import choices
from prune_cli.cli.command import command
from prune_cli.cli.groups import COLUMNS_FIRST, Only, named
from prune_cli.cli.options.methods import MethodFlags
from prune_cli.cli.options.output import OutputFlags
from prune_cli.cli.options.runtime import RuntimeFlags
from prune_cli.cli.options.selection import BudgetFlags, ChoiceFlags, PerClass, ScoreColumns, VectorFlags
from prune_cli.cli.running import Stage


@command(order=COLUMNS_FIRST)
def top_up(
    selection: Annotated[
        str, typer.Argument(metavar="SELECTION", help="The selection that rows are added to.", show_default=False)
    ],
    *,
    scores: Annotated[
        list[str],
        typer.Option(
            "--scores", metavar="FILE", help="Scores of old and new rows; repeatable, joined by id.", show_default=False
        ),
    ],
    budget: BudgetFlags,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="NAME",
            help="How to choose the rows that are added.",
            autocompletion=choices.methods("selection"),
        ),
    ] = "top",
    vectors: VectorFlags,
    per_class: PerClass = False,
    choice: ChoiceFlags,
    params: MethodFlags,
    columns: ScoreColumns,
    machine: Annotated[RuntimeFlags, Only("device", "memory_limit", "seed")],
    output: OutputFlags,
) -> Stage:
    """Add rows to a selection: what it keeps stays kept, first and in its order.

    Example: prune manifest top-up kept.parquet --scores photos.scores.parquet --count 1200
    """
    from prune_cli.stages.select.options import SelectOptions
    from prune_cli.stages.select.top_up import top_up as stage

    options = SelectOptions(
        tuple(scores),
        method=method,
        per_class=per_class,
        runtime=machine.runtime(),
        **named(budget, vectors, choice, params, columns, output),
    )
    return partial(stage, selection, options)
