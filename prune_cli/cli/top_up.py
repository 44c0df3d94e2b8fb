"""``prune manifest top-up``."""

from __future__ import annotations

from typing import Annotated

import typer

from prune_cli.cli import choices
from prune_cli.cli import options as opt
from prune_cli.cli import selection_options as sel
from prune_cli.cli.running import run


@opt.spread
def top_up(
    selection: Annotated[
        str, typer.Argument(metavar="SELECTION", help="The selection that rows are added to.", show_default=False)
    ],
    *,
    scores: Annotated[
        list[str],
        typer.Option(
            "--scores",
            metavar="FILE",
            help="Scores of old and new rows; repeatable, joined by id.",
            show_default=False,
        ),
    ],
    fraction: sel.Fraction = None,
    count: sel.Count = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="NAME",
            help="How to choose the rows that are added.",
            autocompletion=choices.methods("selection"),
        ),
    ] = "top",
    features: sel.Features = None,
    probabilities: sel.Probabilities = None,
    per_class: sel.PerClass = False,
    drop: sel.Drop = None,
    direction: sel.Direction = None,
    selected_only: sel.SelectedOnly = False,
    output: opt.Output = None,
    param: opt.Params = None,
    preset: opt.Preset = None,
    id_column: opt.IdColumn = "id",
    label_column: opt.LabelColumn = "label",
    embedding_column: opt.EmbeddingColumn = "embedding",
    prob_column: opt.ProbColumn = "prob",
    device: opt.Device = "auto",
    memory_limit: opt.MemoryLimit = None,
    seed: opt.Seed = 0,
    max_errors: opt.MaxErrors = "0",
    force: opt.Force = False,
    plan: opt.Plan = False,
    printing: opt.PrintFlags,
) -> None:
    """Add rows to a selection: what it keeps stays kept, first and in its order.

    Example: prune manifest top-up kept.parquet --scores photos.scores.parquet --count 1200
    """
    from prune_cli.core.runtime import Runtime, parse_size
    from prune_cli.io.manifests.ledger import ErrorAllowance
    from prune_cli.stages.select.options import SelectOptions
    from prune_cli.stages.select.top_up import top_up as stage

    options = SelectOptions(
        scores=tuple(scores),
        method=method,
        params=tuple(param or ()),
        preset=preset,
        features=features,
        probabilities=probabilities,
        fractions=opt.parse_numbers(fraction, "--fraction", float),
        counts=opt.parse_numbers(count, "--count", int),
        per_class=per_class,
        drop=drop,
        directions=tuple(direction or ()),
        selected_only=selected_only,
        id_column=id_column,
        label_column=label_column,
        embedding_column=embedding_column,
        prob_column=prob_column,
        max_errors=ErrorAllowance.parse(max_errors),
        runtime=Runtime(
            device=device, memory_limit=parse_size(memory_limit) if memory_limit is not None else None, seed=seed
        ),
        output=output,
        force=force,
        plan=plan,
    )
    run(lambda progress: stage(selection, options, progress), printing)
