"""``prune manifest``: make, verify, combine and hand on manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prune_cli.cli import choices, imports, top_up
from prune_cli.cli import options as opt
from prune_cli.cli.command import Command
from prune_cli.cli.running import run
from prune_cli.io.foreign.exports import TARGETS
from prune_cli.stages.manifest.combinations import HOWS, JOIN, MergeOptions

app = typer.Typer(help="Make, verify, combine and hand on manifests.", no_args_is_help=True, rich_markup_mode=None)


@app.command("create", cls=Command)
@opt.spread
def create(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder per class, or one with metadata.csv.", show_default=False)
    ],
    *,
    paths: Annotated[
        bool, typer.Option("--paths", help="Keep the paths alone instead of the images' bytes; use with --root FOLDER.")
    ] = False,
    output: opt.Output = None,
    force: opt.Force = False,
    plan: opt.Plan = False,
    printing: opt.PrintFlags,
) -> None:
    """Make a data manifest of a folder of images.

    Example: prune manifest create photos/
    """
    from prune_cli.stages.manifest.create import CreateOptions
    from prune_cli.stages.manifest.create import create as stage

    options = CreateOptions(folder=folder, paths=paths, output=output, force=force, plan=plan)
    run(lambda progress: stage(options, progress), printing)


@app.command("check", cls=Command)
@opt.spread
def check(
    data: opt.Data,
    *,
    workers: opt.Workers = 0,
    columns: opt.DataFlags,
    printing: opt.PrintFlags,
) -> None:
    """Verify a manifest: every row is read; exit code 1 when one is bad. Nothing is written.

    Example: prune manifest check photos.parquet
    """
    from prune_cli.stages.manifest.check import check as stage

    options = columns.options(data, max_errors="100%")
    run(lambda progress: stage(options, workers, progress), printing)


@app.command("merge", cls=Command)
@opt.spread
def merge(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Score manifests of the same rows; with --how selections; with --relabel a data manifest and new labels.",
            show_default=False,
        ),
    ],
    *,
    how: Annotated[
        str,
        typer.Option(
            "--how",
            metavar="|".join(HOWS),
            help="Scores: join their columns. Selections: kept by any, by all, by the first alone, so many of each class.",
            autocompletion=choices.hows,
        ),
    ] = JOIN,
    quota: Annotated[
        list[str] | None,
        typer.Option(
            "--quota",
            metavar="[CLASS=]N|F%",
            help="Most rows of a class, or of each that is not named; repeatable, with --how quota.",
            show_default=False,
        ),
    ] = None,
    selected_only: Annotated[bool, typer.Option("--selected-only", help="Write the kept rows alone.")] = False,
    relabel: Annotated[
        bool, typer.Option("--relabel", help="Write the data with its labels replaced; they stay in given_label.")
    ] = False,
    output: opt.Output = None,
    id_column: opt.IdColumn = "id",
    label_column: opt.LabelColumn = "label",
    memory_limit: opt.MemoryLimit = None,
    force: opt.Force = False,
    plan: opt.Plan = False,
    printing: opt.PrintFlags,
) -> None:
    """Join score manifests by id, the columns of all; or combine selections.

    Example: prune manifest merge cg.scores.parquet el2n.scores.parquet

    Example: prune manifest merge a.selection.parquet b.selection.parquet --how union
    """
    from prune_cli.core.errors import InputError
    from prune_cli.core.runtime import Runtime, parse_size
    from prune_cli.stages.manifest.merge import merge as stage

    if relabel:
        from prune_cli.stages.evaluate.relabels import RelabelOptions
        from prune_cli.stages.evaluate.relabels import relabel as clean

        if how != JOIN or quota or selected_only:
            raise InputError("--relabel goes with none of --how, --quota, --selected-only", "leave them out")
        if len(files) != 2:
            raise InputError(
                f"--relabel takes two files, and {len(files)} are given", "prune manifest merge DATA RELABELS --relabel"
            )
        cleaning = RelabelOptions(
            files[0], files[1], id_column=id_column, label_column=label_column, output=output, force=force, plan=plan
        )
        run(lambda progress: clean(cleaning), printing)
        return
    options = MergeOptions(
        tuple(files),
        how,
        tuple(quota or ()),
        selected_only,
        id_column=id_column,
        label_column=label_column,
        runtime=Runtime(memory_limit=parse_size(memory_limit) if memory_limit is not None else None),
        output=output,
        force=force,
        plan=plan,
    )
    run(lambda progress: stage(options), printing)


@app.command("export", cls=Command)
@opt.spread
def export(
    selection: Annotated[
        str, typer.Argument(metavar="SELECTION", help="Selection manifest, or any with ids.", show_default=False)
    ],
    *,
    data: Annotated[str, typer.Option("--data", metavar="DATA", help="The data it selects from.", show_default=False)],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="TARGET",
            help=choices.listed(target.summary for target in TARGETS.values()),
            show_default=False,
            autocompletion=choices.targets,
        ),
    ],
    shard_size: Annotated[
        str, typer.Option("--shard-size", metavar="SIZE", help="About how large a shard grows.")
    ] = "256MiB",
    output: opt.Output = None,
    force: opt.Force = False,
    plan: opt.Plan = False,
    columns: opt.DataFlags,
    printing: opt.PrintFlags,
) -> None:
    """Write the rows that a selection keeps, in files that other training stacks read.

    Example: prune manifest export kept.parquet --data photos.parquet --to webdataset -o shards
    """
    from prune_cli.core.runtime import parse_size
    from prune_cli.stages.manifest.exports import ExportOptions
    from prune_cli.stages.manifest.exports import export as stage

    options = ExportOptions(
        selection,
        columns.options(data, max_errors="0"),
        to,
        output=output,
        shard_bytes=parse_size(shard_size),
        force=force,
        plan=plan,
    )
    run(lambda progress: stage(options, progress), printing)


app.command("top-up", cls=Command)(top_up.top_up)
app.command("import", cls=Command)(imports.import_file)
