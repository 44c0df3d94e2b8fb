"""``prune evaluate``, ``prune report`` and ``prune doctor``: what is told of what is there."""

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


@command()
def report(
    files: Annotated[list[str], arg("FILE...", "Whatever prune wrote, and data manifests, in any order.")],
    *,
    data: Annotated[str | None, opt("--data", "DATA", "The data, for pictures or embeddings.", default="that among the files")] = None,
    samples: Annotated[int, opt("--samples", "N", "Samples of each class: hardest, easiest, ...", min=0)] = 12,
    plots: Annotated[Path | None, opt("--plots", "DIR", "Also write each plot as PNG and SVG.")] = None,
    title: Annotated[str | None, opt("--title", "TEXT", "Of the page.", default="the first file's name")] = None,
    columns: Annotated[DataFlags, Without("image_size", "max_errors")],
    output: OutputFlags,
) -> Stage:
    """Write one page of HTML about files: what was done, what is kept, and whether it pays. It opens without a network.

    Example: prune report photos.scores.parquet photos.selection.parquet --data photos.parquet
    """
    from prune_cli.stages.report.command import ReportOptions
    from prune_cli.stages.report.command import report as stage

    options = ReportOptions(tuple(files), columns.options(data or ""), samples=samples, plots=plots, title=title, **output.named())
    return partial(stage, options)


@command()
def doctor() -> Stage:
    """Tell what is installed, what the machine has and whether it works; exit code 1 when something needed does not.

    Example: prune doctor > report.txt
    """
    from prune_cli.stages.doctor import examine

    return examine
