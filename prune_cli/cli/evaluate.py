"""``prune evaluate``."""

from functools import partial
from pathlib import Path
from typing import Annotated

from prune_cli.cli.command import Stage, command
from prune_cli.cli.groups import Without, arg, opt
from prune_cli.cli.options.data import DataFlags
from prune_cli.cli.options.runtime import OutputFlags, RuntimeFlags


@command()
def evaluate(
    run: Annotated[Path, arg("RUN", "Run folder that prune train wrote.")],
    test: Annotated[str, arg("TEST", "Data manifest to test on, or -.")],
    *,
    data: Annotated[
        str | None, opt("--data", "DATA", "What the run was trained on: its true_label gives the share of wrong labels.")
    ] = None,
    subset: Annotated[str | None, opt("--subset", "SELECTION", "The selection the run was trained on, for --data.")] = None,
    relabels: Annotated[
        str | None, opt("--relabels", "FILE", "New labels of a run: what they got right, by true_label of --data (or of TEST).")
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
