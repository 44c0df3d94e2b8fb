"""``prune manifest``: make, verify, combine, import, add to and hand on manifests."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from prune_cli.cli import choices
from prune_cli.cli.command import Command, Stage, command
from prune_cli.cli.groups import COLUMNS_FIRST, Only, Without, arg, named, opt
from prune_cli.cli.options.data import AS_STORED, DATA, DataFlags, IdColumns
from prune_cli.cli.options.methods import BudgetFlags, ChoiceFlags, MethodFlags, PerClass, ScoreColumns, VectorFlags
from prune_cli.cli.options.runtime import OutputFlags, RuntimeFlags, Workers
from prune_cli.core.errors import InputError
from prune_cli.io.foreign.exports import TARGETS
from prune_cli.stages.manifest.tables import HOWS, JOIN, ORIGINS


@command(order=COLUMNS_FIRST)
def import_file(
    file: Annotated[str, arg("FILE", "What another tool wrote.")],
    *,
    origin: Annotated[
        str, opt("--from", "ORIGIN", choices.listed(origin.summary for origin in ORIGINS.values()), complete=choices.among(ORIGINS))
    ],
    data: Annotated[str | None, opt("--data", "DATA", "The data that it is of.")] = None,
    ids: Annotated[
        str | None, opt("--ids", "FILE", "The ids of the scores, in their order: .npy, or one a line.", default="the data's")
    ] = None,
    column: Annotated[str | None, opt("--column", "NAME", "What to call the scores.", default="label_score of cleanlab")] = None,
    choice: Annotated[ChoiceFlags, Only("direction")],
    selection: Annotated[bool, opt("--selection", None, "Of cleanlab: which rows are no label issue, instead of scores.")] = False,
    unordered: Annotated[bool, opt("--unordered", None, "The order of the file says nothing: no ranks.")] = False,
    columns: Annotated[DataFlags, Only("id_column", "label_column", "split")],
    output: OutputFlags,
) -> Stage:
    """Make a score or selection manifest of what another tool wrote.

    Example: prune manifest import issues.csv --from cleanlab --data photos.parquet

    Example: prune manifest import coreset.npy --from indices --data photos.parquet
    """
    from prune_cli.stages.manifest.imports import import_file as stage
    from prune_cli.stages.manifest.readers import ImportOptions

    options = ImportOptions(
        file=file,
        origin=origin,
        data=columns.options(data) if data is not None else None,
        ids=ids,
        column=column,
        directions=tuple(choice.direction or ()),
        selection=selection,
        unordered=unordered,
        **output.named(),
    )
    return lambda progress: stage(options)


@command(order=COLUMNS_FIRST)
def top_up(
    selection: Annotated[str, arg("SELECTION", "The selection that rows are added to.")],
    *,
    scores: Annotated[list[str], opt("--scores", "FILE", "Scores of old and new rows; repeatable, joined by id.")],
    budget: BudgetFlags,
    method: Annotated[
        str, opt("--method", "NAME", "How to choose the rows that are added.", complete=choices.methods("selection"))
    ] = "top",
    vectors: VectorFlags,
    per_class: PerClass = None,
    choice: ChoiceFlags,
    params: MethodFlags,
    columns: ScoreColumns,
    machine: Annotated[RuntimeFlags, Only("device", "memory_limit", "seed")],
    output: OutputFlags,
) -> Stage:
    """Add rows to a selection: what it keeps stays kept, first and in its order.

    Example: prune manifest top-up kept.parquet --scores photos.scores.parquet --count 1200
    """
    from prune_cli.stages.select.command import top_up as stage
    from prune_cli.stages.select.request import SelectOptions

    options = SelectOptions(
        tuple(scores),
        method=method,
        per_class=per_class,
        runtime=machine.runtime(),
        **named(budget, vectors, choice, params, columns, output),
    )
    return partial(stage, selection, options)


app = typer.Typer(help="Make, verify, combine and hand on manifests.", no_args_is_help=True, rich_markup_mode=None)


@app.command("create", cls=Command)
@command()
def create(
    folder: Annotated[Path, arg("FOLDER", "A folder per class, or one with metadata.csv.")],
    *,
    paths: Annotated[bool, opt("--paths", None, "Keep the paths alone instead of the images' bytes; use with --root FOLDER.")] = False,
    output: OutputFlags,
) -> Stage:
    """Make a data manifest of a folder of images.

    Example: prune manifest create photos/
    """
    from prune_cli.stages.manifest.create import CreateOptions
    from prune_cli.stages.manifest.create import create as stage

    return partial(stage, CreateOptions(folder=folder, paths=paths, **output.named()))


@app.command("check", cls=Command)
@command()
def check(data: Annotated[str, DATA], *, workers: Workers = 0, columns: Annotated[DataFlags, Without(*AS_STORED)]) -> Stage:
    """Verify a manifest: every row is read; exit code 1 when one is bad. Nothing is written.

    Example: prune manifest check photos.parquet
    """
    from prune_cli.stages.manifest.check import check as stage

    return partial(stage, columns.options(data, max_errors="100%"), workers)


@app.command("merge", cls=Command)
@command(order=COLUMNS_FIRST)
def merge(
    files: Annotated[
        list[str], arg("FILE...", "Score manifests of the same rows; with --how selections; with --relabel a data manifest and new labels.")
    ],
    *,
    how: Annotated[
        str,
        opt(
            "--how",
            "|".join(HOWS),
            "Scores: join their columns. Selections: kept by any, by all, by the first alone, so many of each class.",
            complete=choices.among(HOWS),
        ),
    ] = JOIN,
    quota: Annotated[
        list[str] | None,
        opt("--quota", "[CLASS=]N|F%", "Most rows of a class, or of each that is not named; repeatable, with --how quota."),
    ] = None,
    choice: Annotated[ChoiceFlags, Only("selected_only")],
    relabel: Annotated[bool, opt("--relabel", None, "Write the data with its labels replaced; they stay in given_label.")] = False,
    columns: IdColumns,
    machine: Annotated[RuntimeFlags, Only("memory_limit")],
    output: OutputFlags,
) -> Stage:
    """Join score manifests by id, the columns of all; or combine selections.

    Example: prune manifest merge cg.scores.parquet el2n.scores.parquet

    Example: prune manifest merge a.selection.parquet b.selection.parquet --how union
    """
    shared = named(columns, output)
    if relabel:
        if how != JOIN or quota or choice.selected_only:
            raise InputError("--relabel goes with none of --how, --quota, --selected-only", "leave them out")
        return _cleaning(files, shared)
    from prune_cli.stages.manifest.merge import MergeOptions
    from prune_cli.stages.manifest.merge import merge as stage

    options = MergeOptions(tuple(files), how, tuple(quota or ()), choice.selected_only, runtime=machine.runtime(), **shared)
    return lambda progress: stage(options)


def _cleaning(files: list[str], shared: dict[str, Any]) -> Stage:
    """Return what writes data with new labels in place of their own."""
    from prune_cli.stages.evaluate.relabels import RelabelOptions, relabel

    if len(files) != 2:
        raise InputError(f"--relabel takes two files, and {len(files)} are given", "prune manifest merge DATA RELABELS --relabel")
    options = RelabelOptions(files[0], files[1], **shared)
    return lambda progress: relabel(options)


@app.command("export", cls=Command)
@command()
def export(
    selection: Annotated[str, arg("SELECTION", "Selection manifest, or any with ids.")],
    *,
    data: Annotated[str, opt("--data", "DATA", "The data it selects from.")],
    to: Annotated[
        str, opt("--to", "TARGET", choices.listed(target.summary for target in TARGETS.values()), complete=choices.among(TARGETS))
    ],
    shard_size: Annotated[str, opt("--shard-size", "SIZE", "About how large a shard grows.")] = "256MiB",
    columns: Annotated[DataFlags, Without(*AS_STORED)],
    output: OutputFlags,
) -> Stage:
    """Write the rows that a selection keeps, in files that other training stacks read.

    Example: prune manifest export kept.parquet --data photos.parquet --to webdataset -o shards
    """
    from prune_cli.core.runtime import parse_size
    from prune_cli.stages.manifest.exports import ExportOptions
    from prune_cli.stages.manifest.exports import export as stage

    options = ExportOptions(selection, columns.options(data), to, shard_bytes=parse_size(shard_size), **output.named())
    return partial(stage, options)


app.command("top-up", cls=Command)(top_up)
app.command("import", cls=Command)(import_file)
