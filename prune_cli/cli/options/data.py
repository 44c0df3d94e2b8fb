"""Options of how a data manifest is read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prune_cli.cli import choices
from prune_cli.cli.groups import As, Flags
from prune_cli.cli.options.texts import parse_allowance, parse_image_size
from prune_cli.core.errors import InputError

if TYPE_CHECKING:
    from prune_cli.io.manifests.data import DataOptions

DATA = typer.Argument(metavar="DATA", help="Parquet file, folder of them, or - for standard input.", show_default=False)

EmbeddingColumn = Annotated[str, typer.Option("--embedding-column", metavar="NAME", help="Column with the vectors.")]
MaxErrors = Annotated[
    str, typer.Option("--max-errors", metavar="N|P%", help="How many bad rows the run may have."), As(read=parse_allowance)
]


class IdColumns(Flags):
    """The columns that name a row and its class."""

    id_column: Annotated[str, typer.Option("--id-column", metavar="NAME", help="Column with the ids.")] = "id"
    label_column: Annotated[str, typer.Option("--label-column", metavar="NAME", help="Column with the labels.")] = "label"


class DataFlags(IdColumns):
    """Where a data manifest's columns and images are, which of its rows are read, and how many bad ones it may have."""

    image_column: Annotated[str, typer.Option("--image-column", metavar="NAME", help="Column with the images.")] = "image"
    embedding_column: EmbeddingColumn = "embedding"
    input: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="image|embedding",
            help="Which to use where both are there.",
            show_default="image",
            autocompletion=choices.inputs,
        ),
    ] = None
    root: Annotated[
        Path | None,
        typer.Option(
            "--root", metavar="DIR", help="Folder that image paths are relative to; nothing outside is opened.", show_default="the file's"
        ),
    ] = None
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Only rows whose 'split' column says so.", show_default=False)
    ] = None
    max_pixels: Annotated[int, typer.Option("--max-pixels", min=1, metavar="N", help="Larger images are bad rows, unopened.")] = 100_000_000
    true_label_column: Annotated[str, typer.Option("--true-label-column", metavar="NAME", help="Column with the known true labels.")] = (
        "true_label"
    )
    image_size: Annotated[
        str | None,
        typer.Option("--image-size", metavar="N|HxW", help="Resize images (shorter side, then centre crop).", show_default="as they are"),
        As(read=parse_image_size),
    ] = None
    max_errors: MaxErrors = "0"

    def options(self, location: str, max_errors: str | None = None) -> "DataOptions":
        """Return how the manifest is read, from the texts of the command line; with another number of bad rows if one is given."""
        from prune_cli.io.manifests.data import DataOptions

        if self.input not in (None, "image", "embedding"):
            raise InputError(f"--input {self.input!r} is neither image nor embedding", "use one of them")
        if self.root is not None and not self.root.is_dir():
            raise InputError(f"--root {self.root} is not a folder", "check the path")
        more = {} if max_errors is None else {"max_errors": parse_allowance(max_errors)}
        return DataOptions(location, **{**self.named(), **more})


AS_STORED = ("true_label_column", "image_size", "max_errors")
"""What a command leaves out of `DataFlags` where it reads all rows as they are."""
