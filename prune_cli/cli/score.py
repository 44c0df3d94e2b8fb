"""``prune score``."""

from functools import partial
from pathlib import Path
from typing import Annotated

from prune_cli.cli import choices
from prune_cli.cli.command import Stage, command
from prune_cli.cli.groups import As, Flags, OwnFlags, Without, arg, named, opt
from prune_cli.cli.options.data import DataFlags
from prune_cli.cli.options.methods import Arch, MethodFlags, WatchFlags
from prune_cli.cli.options.runtime import BatchSize, BlockFlags, WorkFlags
from prune_cli.cli.options.texts import parse_names, parse_shard


class FileFlags(OwnFlags):
    """The network and the files that scores come from, and the files that are written beside them."""

    model: Annotated[
        str | None,
        opt("--model", "RUN|torchvision:NAME", "Score with a network that exists: a run folder, or torchvision's with --weights."),
    ] = None
    weights: Annotated[Path | None, opt("--weights", "FILE", "Its weights: safetensors, or torch's.")] = None
    save_features: Annotated[str | None, opt("--save-features", "FILE", "Also write embeddings and probabilities.")] = None
    save_dynamics: Annotated[str | None, opt("--save-dynamics", "FILE", "Also write what training said of each row.")] = None
    save_kernel: Annotated[Path | None, opt("--save-kernel", "FILE", "Also write the kernel of all rows.")] = None
    load_kernel: Annotated[Path | None, opt("--load-kernel", "FILE", "Take the kernel from such a file.")] = None
    from_dynamics: Annotated[str | None, opt("--from-dynamics", "FILE", "Score from such a file: no data, no training.")] = None


class ScoringFlags(Flags):
    """What is computed, by which training, and which part of that work."""

    method: Annotated[
        str, opt("--method", "NAME[,NAME]", "Which scores.", complete=choices.methods("score")), As("methods", parse_names)
    ] = "cg"
    arch: Arch = None
    epochs: Annotated[int | None, opt("--epochs", "N", "Passes of the training that scores share.", default="200", min=1)] = None
    shard: Annotated[
        str | None,
        opt("--shard", "I/N", "Do the I-th of N parts of the work alone; prune manifest merge joins the parts."),
        As(read=parse_shard),
    ] = None


@command(lists=("score",))
def score(
    data: Annotated[str | None, arg("DATA", "Parquet file, folder of them, or - for standard input.")] = None,
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
