"""Options of how a data manifest is read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from prune_cli.cli import choices
from prune_cli.cli.groups import As, Flags, arg, opt
from prune_cli.cli.options.texts import parse_allowance, parse_image_size
from prune_cli.core.errors import InputError

if TYPE_CHECKING:
    from prune_cli.io.manifests.data import DataOptions

DATA = arg("DATA", "Parquet file, folder of them, or - for standard input.")

EmbeddingColumn = Annotated[str, opt("--embedding-column", "NAME", "Column with the vectors.")]
MaxErrors = Annotated[str, opt("--max-errors", "N|P%", "How many bad rows the run may have."), As(read=parse_allowance)]


class IdColumns(Flags):
    """The columns that name a row and its class."""

    id_column: Annotated[str, opt("--id-column", "NAME", "Column with the ids.")] = "id"
    label_column: Annotated[str, opt("--label-column", "NAME", "Column with the labels.")] = "label"


class DataFlags(IdColumns):
    """Where a data manifest's columns and images are, which of its rows are read, and how many bad ones it may have."""

    image_column: Annotated[str, opt("--image-column", "NAME", "Column with the images.")] = "image"
    embedding_column: EmbeddingColumn = "embedding"
    input: Annotated[
        str | None,
        opt(
            "--input",
            "image|embedding",
            "Which to use where both are there.",
            default="image",
            complete=choices.among(("image", "embedding")),
        ),
    ] = None
    root: Annotated[
        Path | None, opt("--root", "DIR", "Folder that image paths are relative to; nothing outside is opened.", default="the file's")
    ] = None
    split: Annotated[str | None, opt("--split", "NAME", "Only rows whose 'split' column says so.")] = None
    max_pixels: Annotated[int, opt("--max-pixels", "N", "Larger images are bad rows, unopened.", min=1)] = 100_000_000
    true_label_column: Annotated[str, opt("--true-label-column", "NAME", "Column with the known true labels.")] = "true_label"
    image_size: Annotated[
        str | None,
        opt("--image-size", "N|HxW", "Resize images (shorter side, then centre crop).", default="as they are"),
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
