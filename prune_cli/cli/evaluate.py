"""``prune evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prune_cli.cli import options as opt
from prune_cli.cli import running


@opt.spread
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that prune train wrote.", show_default=False)],
    test: Annotated[str, typer.Argument(metavar="TEST", help="Data manifest to test on, or -.", show_default=False)],
    *,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="What the run was trained on: its true_label gives the share of wrong labels.",
            show_default=False,
        ),
    ] = None,
    subset: Annotated[
        str | None,
        typer.Option(
            "--subset",
            metavar="SELECTION",
            help="The selection the run was trained on, for --data.",
            show_default=False,
        ),
    ] = None,
    relabels: Annotated[
        str | None,
        typer.Option(
            "--relabels",
            metavar="FILE",
            help="New labels of a run: what they got right, by true_label of --data (or of TEST).",
            show_default=False,
        ),
    ] = None,
    output: opt.Output = None,
    true_label_column: opt.TrueLabelColumn = "true_label",
    batch_size: opt.BatchSize = None,
    max_errors: opt.MaxErrors = "0",
    force: opt.Force = False,
    plan: opt.Plan = False,
    columns: opt.DataFlags,
    machine: opt.MachineFlags,
    printing: opt.PrintFlags,
) -> None:
    """Measure a trained run on a test set; the result is a report manifest, one row a number.

    Example: prune evaluate run test.parquet
    """
    from prune_cli.stages.evaluate.command import EvaluateOptions
    from prune_cli.stages.evaluate.command import evaluate as stage

    options = EvaluateOptions(
        run=run,
        data=columns.options(test, max_errors=max_errors, true_label_column=true_label_column),
        trained_on=data,
        subset=subset,
        relabels=relabels,
        output=output,
        force=force,
        plan=plan,
        runtime=machine.runtime(batch_size=batch_size),
    )
    running.run(lambda progress: stage(options, progress), printing)
