"""``prune compare``."""

import dataclasses
from functools import partial
from typing import Annotated

import typer

from prune_cli.cli import choices
from prune_cli.cli.command import Stage, command
from prune_cli.cli.groups import As, Flags, Only, OwnFlags, named
from prune_cli.cli.options.data import DataFlags
from prune_cli.cli.options.methods import Arch, ChoiceFlags, MethodFlags, PerClass, VectorFlags, WatchFlags
from prune_cli.cli.options.runtime import RuntimeFlags, WorkFlags
from prune_cli.cli.options.texts import parse_names, parse_numbers
from prune_cli.core.errors import InputError


class DataSetFlags(Flags):
    """The data that selections are of, and the data that networks are tested on."""

    data: Annotated[str, typer.Option("--data", metavar="DATA", help="What they select from.", show_default=False)]
    test: Annotated[str, typer.Option("--test", metavar="TEST", help="Data manifest that is tested on.", show_default=False)]
    test_split: Annotated[str | None, typer.Option("--test-split", metavar="NAME", help="As --split, of TEST.", show_default=False)] = None


class GridFlags(OwnFlags):
    """Selections that the comparison makes itself."""

    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="NAME[,NAME]",
            help="Select by each of these from the scores.",
            show_default=False,
            autocompletion=choices.methods("selection"),
        ),
        As(read=partial(parse_names, option="--methods")),
    ] = None
    fractions: Annotated[
        str | None,
        typer.Option("--fractions", metavar="F[,F]", help="Shares KEPT by each of the methods.", show_default=False),
        As(read=partial(parse_numbers, option="--fractions", kind=float)),
    ] = None
    keys: Annotated[
        str | None,
        typer.Option("--keys", metavar="NAME[,NAME]", help="Score columns that each of the methods goes by.", show_default=False),
        As(read=partial(parse_names, option="--keys")),
    ] = None


def parse_baselines(text: str) -> tuple[str, ...]:
    """Return the baselines of a comma-separated list; of ``none``, none."""
    return () if text.strip() == "none" else parse_names(text, "--baselines")


class TrialFlags(OwnFlags):
    """What selections are compared with, and how often and how long each is trained on."""

    baselines: Annotated[
        str,
        typer.Option("--baselines", metavar="NAME[,NAME]", help="What to compare with: random, random_per_class, full; or none."),
        As(read=parse_baselines),
    ] = "random,full"
    budget: Annotated[str, typer.Option("--budget", metavar="steps|epochs|both", help="What is equal in all trainings.")] = "steps"
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, metavar="N", help="Passes over all the data.", show_default="20")] = None
    steps: Annotated[int | None, typer.Option("--steps", min=1, metavar="N", help="Steps instead of passes.", show_default=False)] = None
    seeds: Annotated[int, typer.Option("--seeds", min=1, metavar="N", help="Trainings of each, paired by seed.")] = 3


class JudgingFlags(OwnFlags):
    """What the results must show, and what they are set against."""

    confidence: Annotated[float, typer.Option("--confidence", metavar="P", help="Of the intervals.")] = 0.95
    gate: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            metavar="CLAIM",
            help="'accuracy >= random', 'accuracy >= full - 0.5' (points); exit code 1 where it fails. Repeatable.",
            show_default=False,
        ),
        As("gates"),
    ] = None
    gate_undecided: Annotated[
        str, typer.Option("--gate-undecided", metavar="fail|pass", help="What a gate counts as that nobody can tell."), As("undecided")
    ] = "fail"
    costs: Annotated[
        list[str] | None,
        typer.Option(
            "--costs",
            metavar="FILE",
            help="What prune score --json (select, train) printed: for the break-even. Repeatable.",
            show_default=False,
        ),
    ] = None


class NetworkFlags(OwnFlags):
    """What is trained, and how many at a time."""

    recipe: Annotated[str, typer.Option("--recipe", metavar="NAME", help="How to train.", autocompletion=choices.methods("recipe"))] = (
        "standard"
    )
    structure: Annotated[
        str | None,
        typer.Option(
            "--structure",
            metavar="NAME",
            help="Prune the network while it trains.",
            show_default="it stays whole",
            autocompletion=choices.methods("structure"),
        ),
    ] = None
    arch: Arch = None
    jobs: Annotated[
        int, typer.Option("--jobs", min=0, metavar="N", help="Trainings at a time; 0 is what cores, memory and work allow.")
    ] = 0
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Leave the run folders in --work-dir.")] = False


@command()
def compare(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Selections; with --methods score manifests of the data.", show_default=False)
    ],
    *,
    sets: DataSetFlags,
    grid: GridFlags,
    vectors: VectorFlags,
    per_class: PerClass = None,
    choice: Annotated[ChoiceFlags, Only("direction")],
    trials: TrialFlags,
    judging: JudgingFlags,
    network: NetworkFlags,
    watch: Annotated[WatchFlags, Only("checkpoint_seconds")],
    params: MethodFlags,
    columns: DataFlags,
    machine: RuntimeFlags,
    output: WorkFlags,
) -> Stage:
    """Say whether pruning pays: train on selections, on as many random rows and on all, alike and with the same seeds.

    Exit code 1 where a gate does not hold.

    Example: prune compare kept.parquet --data photos.parquet --test test.parquet --gate "accuracy >= random"
    """
    from prune_cli.stages.compare.command import compare as stage
    from prune_cli.stages.compare.options import CompareOptions

    if judging.gate_undecided not in {"fail", "pass"}:
        raise InputError(f"--gate-undecided {judging.gate_undecided!r} is neither fail nor pass", "use one of them")
    if network.keep_runs and output.work_dir is None:
        raise InputError("--keep-runs needs a place", "name one with --work-dir")
    options = CompareOptions(
        files=tuple(files),
        data=columns.options(sets.data),
        test=dataclasses.replace(columns.options(sets.test), split=sets.test_split),
        per_class=per_class,
        directions=tuple(choice.direction or ()),
        checkpoint_seconds=watch.checkpoint_seconds,
        runtime=machine.runtime(),
        **named(vectors, grid, trials, judging, network, params, output),
    )
    return partial(stage, options)
