"""``prune evaluate``."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from prune_cli.cli.command import Stage, command
from prune_cli.cli.groups import Without
from prune_cli.cli.options.data import DataFlags
from prune_cli.cli.options.runtime import OutputFlags, RuntimeFlags


@command()
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
        typer.Option("--subset", metavar="SELECTION", help="The selection the run was trained on, for --data.", show_default=False),
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
    columns: Annotated[DataFlags, Without("image_size")],
    machine: Annotated[RuntimeFlags, Without("seed")],
    output: OutputFlags,
) -> Stage:
    """Measure a trained run on a test set; the result is a report manifest, one row a number.

    Example: prune evaluate run test.parquet
    """
    from prune_cli.stages.evaluate.command import EvaluateOptions
    from prune_cli.stages.evaluate.command import evaluate as stage

    options = EvaluateOptions(
        run, columns.options(test), trained_on=data, subset=subset, relabels=relabels, runtime=machine.runtime(), **output.named()
    )
    return partial(stage, options)
