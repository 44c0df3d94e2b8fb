"""``prune manifest import``."""

from typing import Annotated

import typer

from prune_cli.cli import choices
from prune_cli.cli.command import command
from prune_cli.cli.groups import COLUMNS_FIRST, Only
from prune_cli.cli.options.data import DataFlags
from prune_cli.cli.options.output import OutputFlags
from prune_cli.cli.options.selection import ChoiceFlags
from prune_cli.cli.running import Stage
from prune_cli.stages.manifest.origins import ORIGINS


@command(order=COLUMNS_FIRST)
def import_file(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What another tool wrote.", show_default=False)],
    *,
    origin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="ORIGIN",
            help=choices.listed(origin.summary for origin in ORIGINS.values()),
            show_default=False,
            autocompletion=choices.origins,
        ),
    ],
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="The data that it is of.", show_default=False)
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(
            "--ids",
            metavar="FILE",
            help="The ids of the scores, in their order: .npy, or one a line.",
            show_default="the data's",
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            "--column", metavar="NAME", help="What to call the scores.", show_default="label_score of cleanlab"
        ),
    ] = None,
    choice: Annotated[ChoiceFlags, Only("direction")],
    selection: Annotated[
        bool, typer.Option("--selection", help="Of cleanlab: which rows are no label issue, instead of scores.")
    ] = False,
    unordered: Annotated[
        bool, typer.Option("--unordered", help="The order of the file says nothing: no ranks.")
    ] = False,
    columns: Annotated[DataFlags, Only("id_column", "label_column", "split")],
    output: OutputFlags,
) -> Stage:
    """Make a score or selection manifest of what another tool wrote.

    Example: prune manifest import issues.csv --from cleanlab --data photos.parquet

    Example: prune manifest import coreset.npy --from indices --data photos.parquet
    """
    from prune_cli.stages.manifest.imports import import_file as stage
    from prune_cli.stages.manifest.options import ImportOptions

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
