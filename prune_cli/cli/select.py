"""``prune select``."""

from functools import partial
from typing import Annotated

from prune_cli.cli import choices
from prune_cli.cli.command import Stage, command
from prune_cli.cli.groups import COLUMNS_FIRST, OwnFlags, Without, arg, named, opt
from prune_cli.cli.options.methods import BudgetFlags, ChoiceFlags, MethodFlags, PerClass, ScoreColumns, VectorFlags
from prune_cli.cli.options.runtime import BlockFlags, WorkFlags


class LimitFlags(OwnFlags):
    """What bounds the choice beside a budget."""

    threshold: Annotated[float | None, opt("--threshold", "T", "Rows at or beyond this score.")] = None
    per_class: PerClass = None
    keep: Annotated[str | None, opt("--keep", "FILE", "Ids that must be kept.")] = None


@command(order=COLUMNS_FIRST, lists=("selection",))
def select(
    scores: Annotated[list[str], arg("SCORES...", "Score manifests of the same rows, joined by id; - for standard input.")],
    *,
    method: Annotated[
        str | None, opt("--method", "NAME", "How to choose.", default="window; top with --threshold", complete=choices.methods("selection"))
    ] = None,
    vectors: VectorFlags,
    budget: BudgetFlags,
    limits: LimitFlags,
    choice: ChoiceFlags,
    plot: Annotated[bool, opt("--plot", None, "Draw the curve of what window or best tried, as PNG.")] = False,
    params: MethodFlags,
    columns: ScoreColumns,
    machine: Annotated[BlockFlags, Without("precision", "batch_size")],
    output: WorkFlags,
) -> Stage:
    """Choose which rows to keep: every row comes back, kept or not, with its rank.

    Example: prune select photos.scores.parquet --features photos.features.parquet --fraction 0.3
    """
    from prune_cli.stages.select.command import select as stage
    from prune_cli.stages.select.request import SelectOptions

    groups = (vectors, budget, limits, choice, params, columns, output)
    options = SelectOptions(tuple(scores), method=method, plot=plot, runtime=machine.runtime(), **named(*groups))
    return partial(stage, options)
