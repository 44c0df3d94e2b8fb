"""The options that mean the same in every command, each stated once."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from prune_cli.cli import choices
from prune_cli.cli.command import typed_words
from prune_cli.core.errors import InputError
from prune_cli.core.runtime import ENGINES

if TYPE_CHECKING:
    from prune_cli.core.runtime import Runtime
    from prune_cli.io.manifests.data import DataOptions
    from prune_cli.methods.registry.method import Kind

Data = Annotated[
    str,
    typer.Argument(metavar="DATA", help="Parquet file, folder of them, or - for standard input.", show_default=False),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        help="Where the result goes; - is standard output.",
        show_default="from the input's name",
    ),
]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--param",
        metavar="NAME=VALUE",
        help="A parameter of the method; repeatable. See --list-methods.",
        show_default=False,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="The parameters of a published table.",
        show_default=False,
        autocompletion=choices.presets,
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        metavar="NAME[:WIDTH]",
        help="Network and width of its first layer.",
        show_default="resnet9:16, or mlp",
        autocompletion=choices.architectures,
    ),
]
CheckpointSeconds = Annotated[
    float, typer.Option("--checkpoint-seconds", min=0, metavar="S", help="Time between checkpoints of a training.")
]
IdColumn = Annotated[str, typer.Option("--id-column", metavar="NAME", help="Column with the ids.")]
LabelColumn = Annotated[str, typer.Option("--label-column", metavar="NAME", help="Column with the labels.")]
ImageColumn = Annotated[str, typer.Option("--image-column", metavar="NAME", help="Column with the images.")]
EmbeddingColumn = Annotated[str, typer.Option("--embedding-column", metavar="NAME", help="Column with the vectors.")]
ProbColumn = Annotated[
    str, typer.Option("--prob-column", metavar="NAME", help="Column with the probabilities, one a class.")
]
TrueLabelColumn = Annotated[
    str, typer.Option("--true-label-column", metavar="NAME", help="Column with the known true labels.")
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="image|embedding",
        help="Which to use where both are there.",
        show_default="image",
        autocompletion=choices.inputs,
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="DIR",
        help="Folder that image paths are relative to; nothing outside is opened.",
        show_default="the file's",
    ),
]
Split = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Only rows whose 'split' column says so.", show_default=False),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        "--image-size",
        metavar="N|HxW",
        help="Resize images (shorter side, then centre crop).",
        show_default="as they are",
    ),
]
ReportTo = Annotated[
    str | None,
    typer.Option(
        "--report-to",
        metavar="tensorboard[:DIR]",
        help="Also write the history as TensorBoard events while it trains.",
        show_default=False,
        autocompletion=choices.reports,
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", metavar="auto|cpu|cuda|cuda:1", help="Where it runs.", autocompletion=choices.devices),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="float32, float64 or bfloat16, as the method takes.",
        autocompletion=choices.precisions,
    ),
]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", min=1, metavar="N", help="Samples a step.", show_default="the method's")
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        min=0,
        metavar="N",
        help="Processes or threads that decode, or compute blocks of work; 0 is one a core.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="local|ray",
        help="Where blocks of work run: here, or on a Ray cluster (extra ray).",
        autocompletion=choices.engines,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="The Ray cluster to join.",
        show_default="RAY_ADDRESS, else one of this machine alone",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, metavar="INT", help="Seed of every random draw.")]
MaxErrors = Annotated[str, typer.Option("--max-errors", metavar="N|P%", help="How many bad rows the run may have.")]
MaxPixels = Annotated[
    int, typer.Option("--max-pixels", min=1, metavar="N", help="Larger images are bad rows, unopened.")
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        "--memory-limit", metavar="SIZE", help="Memory the run may use, as 4GiB.", show_default="3/4 of what is free"
    ),
]
WorkDir = Annotated[
    Path | None,
    typer.Option(
        "--work-dir",
        metavar="DIR",
        help="Keeps finished blocks for a re-run after a kill.",
        show_default="beside the output",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]
Plan = Annotated[bool, typer.Option("--plan", help="Print rows, passes, peak memory, disk and algorithm, then stop.")]
Json = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Results and errors alone.")]
Verbose = Annotated[
    int, typer.Option("-v", "--verbose", count=True, help="More; -vv shows tracebacks.", show_default=False)
]


def list_methods_option(*kinds: Kind) -> Any:
    """Return the ``--list-methods`` option of some kinds of methods; with ``--json`` beside it, one JSON object."""

    def show(context: typer.Context, wanted: bool) -> bool:
        if wanted and not context.resilient_parsing:  # which is how a shell asks for completions
            from prune_cli.cli.listing import list_methods

            list_methods(kinds, as_json="--json" in typed_words(context))
            raise typer.Exit
        return wanted

    return Annotated[
        bool,
        typer.Option(
            "--list-methods",
            is_eager=True,
            callback=show,
            help="Every method with parameters, defaults, cost, source; then stop.",
        ),
    ]


@dataclass(frozen=True)
class DataFlags:
    """Where a data manifest's columns and images are."""

    id_column: IdColumn = "id"
    label_column: LabelColumn = "label"
    image_column: ImageColumn = "image"
    embedding_column: EmbeddingColumn = "embedding"
    input: Input = None
    root: Root = None
    split: Split = None
    max_pixels: MaxPixels = 100_000_000

    def options(
        self, location: str, *, max_errors: str, image_size: str | None = None, true_label_column: str = "true_label"
    ) -> DataOptions:
        """Return how the manifest is read, from the texts of the command line."""
        from prune_cli.io.manifests.data import DataOptions
        from prune_cli.io.manifests.ledger import ErrorAllowance

        if self.input not in (None, "image", "embedding"):
            raise InputError(f"--input {self.input!r} is neither image nor embedding", "use one of them")
        if self.root is not None and not self.root.is_dir():
            raise InputError(f"--root {self.root} is not a folder", "check the path")
        return DataOptions(
            location=location,
            **dataclasses.asdict(self),
            true_label_column=true_label_column,
            image_size=parse_image_size(image_size),
            max_errors=ErrorAllowance.parse(max_errors),
        )


@dataclass(frozen=True)
class EngineFlags:
    """Where blocks of work run."""

    engine: Engine = "local"
    address: Address = None

    def named(self) -> dict[str, Any]:
        """Return the engine and its address, as a runtime takes them."""
        if self.engine not in ENGINES:
            raise InputError(f"unknown --engine '{self.engine}'", f"use one of: {', '.join(ENGINES)}")
        if self.address is not None and self.engine == "local":
            raise InputError("--address names a Ray cluster, and --engine is local", "add --engine ray")
        return {"engine": self.engine, "address": self.address}


@dataclass(frozen=True)
class MachineFlags:
    """Where and how a run goes."""

    device: Device = "auto"
    precision: Precision = "auto"
    workers: Workers = 0
    memory_limit: MemoryLimit = None

    def runtime(self, *, seed: int = 0, batch_size: int | None = None, place: EngineFlags | None = None) -> Runtime:
        """Return the runtime, from the texts of the command line."""
        from prune_cli.core.runtime import Runtime, parse_size

        limit = parse_size(self.memory_limit) if self.memory_limit is not None else None
        return Runtime(
            device=self.device,
            precision=self.precision,
            workers=self.workers,
            memory_limit=limit,
            seed=seed,
            batch_size=batch_size,
            **(place.named() if place is not None else {}),
        )


@dataclass(frozen=True)
class PrintFlags:
    """What is printed."""

    json: Json = False
    quiet: Quiet = False
    verbose: Verbose = 0


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with every flags dataclass of its signature spread into single options, as typer wants them."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            group = groups[parameter.name]
            types = get_type_hints(group, include_extras=True)
            options += [
                inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=types[f.name])
                for f in dataclasses.fields(group)
            ]
        else:
            options.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]))

    def spread_command(**values: Any) -> None:
        _require_local_paths(values)
        made = {
            name: group(**{f.name: values.pop(f.name) for f in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        command(**values, **made)

    spread_command.__doc__ = command.__doc__
    spread_command.__name__ = command.__name__
    spread_command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    spread_command.__annotations__ = {option.name: option.annotation for option in options}
    return spread_command


def _require_local_paths(values: dict[str, Any]) -> None:
    """Raise where an option that takes a path of this machine is given a location in a store."""
    from prune_cli.io.stores.locations import require_local

    for name, value in values.items():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path):
                require_local(path, f"--{name.replace('_', '-')}")


def parse_image_size(text: str | None) -> tuple[int, int] | None:
    """Return (height, width) of ``32`` or ``32x48``.

    >>> parse_image_size("32"), parse_image_size("32x48"), parse_image_size(None)
    ((32, 32), (32, 48), None)
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise InputError(f"--image-size {text!r} is not a size", "write 32, or height x width as 32x48")
    return int(parts[0]), int(parts[-1])


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Return (I, N) of ``I/N``, I from 1 to N.

    >>> parse_shard("3/16"), parse_shard(None)
    ((3, 16), None)
    """
    if text is None:
        return None
    number, slash, of = text.partition("/")
    if not (slash and number.isascii() and number.isdigit() and of.isascii() and of.isdigit()) or not (
        1 <= int(number) <= int(of)
    ):
        raise InputError(f"--shard {text!r} is not one of so many parts", "write 3/16 for the third of sixteen")
    return int(number), int(of)


def parse_numbers(text: str | None, option: str, kind: type[int] | type[float]) -> tuple[Any, ...]:
    """Return the numbers of a comma-separated list.

    >>> parse_numbers("0.1,0.3", "--fraction", float)
    (0.1, 0.3)
    """
    if text is None:
        return ()
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        wanted = "whole numbers" if kind is int else "numbers"
        raise InputError(
            f"{option} {text!r} is not a list of {wanted}", f"write {option} {'100,500' if kind is int else '0.1,0.3'}"
        ) from None


def parse_names(text: str, option: str = "--method") -> tuple[str, ...]:
    """Return the names of a comma-separated list, each once."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise InputError(f"{option} names nothing", "see --list-methods" if option == "--method" else "see --help")
    return names
