"""``prune score``."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from prune_cli.cli import choices
from prune_cli.cli.command import Stage, command
from prune_cli.cli.groups import As, Flags, OwnFlags, Without, named
from prune_cli.cli.options.data import DataFlags
from prune_cli.cli.options.methods import Arch, MethodFlags, WatchFlags
from prune_cli.cli.options.runtime import BatchSize, BlockFlags, WorkFlags
from prune_cli.cli.options.texts import parse_names, parse_shard


class FileFlags(OwnFlags):
    """The network and the files that scores come from, and the files that are written beside them."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="RUN|torchvision:NAME",
            help="Score with a network that exists: a run folder, or torchvision's with --weights.",
            show_default=False,
        ),
    ] = None
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="Its weights: safetensors, or torch's.", show_default=False)
    ] = None
    save_features: Annotated[
        str | None, typer.Option("--save-features", metavar="FILE", help="Also write embeddings and probabilities.", show_default=False)
    ] = None
    save_dynamics: Annotated[
        str | None, typer.Option("--save-dynamics", metavar="FILE", help="Also write what training said of each row.", show_default=False)
    ] = None
    save_kernel: Annotated[
        Path | None, typer.Option("--save-kernel", metavar="FILE", help="Also write the kernel of all rows.", show_default=False)
    ] = None
    load_kernel: Annotated[
        Path | None, typer.Option("--load-kernel", metavar="FILE", help="Take the kernel from such a file.", show_default=False)
    ] = None
    from_dynamics: Annotated[
        str | None,
        typer.Option("--from-dynamics", metavar="FILE", help="Score from such a file: no data, no training.", show_default=False),
    ] = None


class ScoringFlags(Flags):
    """What is computed, by which training, and which part of that work."""

    method: Annotated[
        str,
        typer.Option("--method", metavar="NAME[,NAME]", help="Which scores.", autocompletion=choices.methods("score")),
        As("methods", parse_names),
    ] = "cg"
    arch: Arch = None
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, metavar="N", help="Passes of the training that scores share.", show_default="200")
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Do the I-th of N parts of the work alone; prune manifest merge joins the parts.",
            show_default=False,
        ),
        As(read=parse_shard),
    ] = None


@command(lists=("score",))
def score(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Parquet file, folder of them, or - for standard input.", show_default=False)
    ] = None,
    *,
    scoring: ScoringFlags,
    batch_size: BatchSize = None,
    files: FileFlags,
    watch: WatchFlags,
    params: MethodFlags,
    columns: Annotated[DataFlags, Without("true_label_column")],
    machine: Annotated[BlockFlags, Without("batch_size")],
    output: WorkFlags,
) -> Stage:
    """Score every sample: how hard it is, how likely its label is wrong.

    Example: prune score photos.parquet --method forgetting,el2n --preset fast
    """
    from prune_cli.stages.score.command import score as stage
    from prune_cli.stages.score.request import ScoreOptions

    options = ScoreOptions(
        columns.options(data) if data is not None else None,
        runtime=machine.runtime(batch_size=batch_size),
        **named(scoring, files, watch, params, output),
    )
    return partial(stage, options)
