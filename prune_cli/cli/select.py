"""``prune select``."""

from __future__ import annotations

from typing import Annotated

import typer

from prune_cli.cli import choices
from prune_cli.cli import options as opt
from prune_cli.cli import selection_options as sel
from prune_cli.cli.running import run


@opt.spread
def select(
    scores: Annotated[
        list[str],
        typer.Argument(
            metavar="SCORES...",
            help="Score manifests of the same rows, joined by id; - for standard input.",
            show_default=False,
        ),
    ],
    *,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="How to choose.",
            show_default="window; top with --threshold",
            autocompletion=choices.methods("selection"),
        ),
    ] = None,
    features: sel.Features = None,
    probabilities: sel.Probabilities = None,
    fraction: sel.Fraction = None,
    count: sel.Count = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", metavar="T", help="Rows at or beyond this score.", show_default=False)
    ] = None,
    per_class: sel.PerClass = False,
    keep: Annotated[
        str | None, typer.Option("--keep", metavar="FILE", help="Ids that must be kept.", show_default=False)
    ] = None,
    drop: sel.Drop = None,
    direction: sel.Direction = None,
    selected_only: sel.SelectedOnly = False,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the curve of what window or best tried, as PNG.")] = False,
    output: opt.Output = None,
    param: opt.Params = None,
    preset: opt.Preset = None,
    id_column: opt.IdColumn = "id",
    label_column: opt.LabelColumn = "label",
    embedding_column: opt.EmbeddingColumn = "embedding",
    prob_column: opt.ProbColumn = "prob",
    device: opt.Device = "auto",
    workers: opt.Workers = 0,
    memory_limit: opt.MemoryLimit = None,
    work_dir: opt.WorkDir = None,
    seed: opt.Seed = 0,
    max_errors: opt.MaxErrors = "0",
    force: opt.Force = False,
    plan: opt.Plan = False,
    list_methods: opt.list_methods_option("selection") = False,  # type: ignore[valid-type]
    place: opt.EngineFlags,
    printing: opt.PrintFlags,
) -> None:
    """Choose which rows to keep: every row comes back, kept or not, with its rank.

    Example: prune select photos.scores.parquet --features photos.features.parquet --fraction 0.3
    """
    from prune_cli.core.runtime import Runtime, parse_size
    from prune_cli.io.manifests.ledger import ErrorAllowance
    from prune_cli.stages.select.command import select as stage
    from prune_cli.stages.select.options import SelectOptions

    options = SelectOptions(
        scores=tuple(scores),
        method=method,
        params=tuple(param or ()),
        preset=preset,
        features=features,
        probabilities=probabilities,
        fractions=opt.parse_numbers(fraction, "--fraction", float),
        counts=opt.parse_numbers(count, "--count", int),
        threshold=threshold,
        per_class=per_class,
        keep=keep,
        drop=drop,
        directions=tuple(direction or ()),
        selected_only=selected_only,
        plot=plot,
        id_column=id_column,
        label_column=label_column,
        embedding_column=embedding_column,
        prob_column=prob_column,
        max_errors=ErrorAllowance.parse(max_errors),
        runtime=Runtime(
            device=device,
            workers=workers,
            memory_limit=parse_size(memory_limit) if memory_limit is not None else None,
            seed=seed,
            **place.named(),
        ),
        work_dir=work_dir,
        output=output,
        force=force,
        plan=plan,
    )
    run(lambda progress: stage(options, progress), printing)
