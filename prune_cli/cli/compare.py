"""``prune compare``."""

import dataclasses
from functools import partial
from typing import Annotated

from prune_cli.cli import choices
from prune_cli.cli.command import Stage, command
from prune_cli.cli.groups import As, Flags, Only, OwnFlags, arg, named, opt
from prune_cli.cli.options.data import DataFlags
from prune_cli.cli.options.methods import Arch, ChoiceFlags, MethodFlags, PerClass, VectorFlags, WatchFlags
from prune_cli.cli.options.runtime import RuntimeFlags, WorkFlags
from prune_cli.cli.options.texts import parse_names, parse_numbers
from prune_cli.core.errors import InputError


class DataSetFlags(Flags):
    """The data that selections are of, and the data that networks are tested on."""

    data: Annotated[str, opt("--data", "DATA", "What they select from.")]
    test: Annotated[str, opt("--test", "TEST", "Data manifest that is tested on.")]
    test_split: Annotated[str | None, opt("--test-split", "NAME", "As --split, of TEST.")] = None


class GridFlags(OwnFlags):
    """Selections that the comparison makes itself."""

    methods: Annotated[
        str | None,
        opt("--methods", "NAME[,NAME]", "Select by each of these from the scores.", complete=choices.methods("selection")),
        As(read=partial(parse_names, option="--methods")),
    ] = None
    fractions: Annotated[
        str | None,
        opt("--fractions", "F[,F]", "Shares KEPT by each of the methods."),
        As(read=partial(parse_numbers, option="--fractions", kind=float)),
    ] = None
    keys: Annotated[
        str | None,
        opt("--keys", "NAME[,NAME]", "Score columns that each of the methods goes by."),
        As(read=partial(parse_names, option="--keys")),
    ] = None


def parse_baselines(text: str) -> tuple[str, ...]:
    """Return the baselines of a comma-separated list; of ``none``, none."""
    return () if text.strip() == "none" else parse_names(text, "--baselines")


class TrialFlags(OwnFlags):
    """What selections are compared with, and how often and how long each is trained on."""

    baselines: Annotated[
        str, opt("--baselines", "NAME[,NAME]", "What to compare with: random, random_per_class, full; or none."), As(read=parse_baselines)
    ] = "random,full"
    budget: Annotated[str, opt("--budget", "steps|epochs|both", "What is equal in all trainings.")] = "steps"
    epochs: Annotated[int | None, opt("--epochs", "N", "Passes over all the data.", default="20", min=1)] = None
    steps: Annotated[int | None, opt("--steps", "N", "Steps instead of passes.", min=1)] = None
    seeds: Annotated[int, opt("--seeds", "N", "Trainings of each, paired by seed.", min=1)] = 3


class JudgingFlags(OwnFlags):
    """What the results must show, and what they are set against."""

    confidence: Annotated[float, opt("--confidence", "P", "Of the intervals.")] = 0.95
    gate: Annotated[
        list[str] | None,
        opt("--gate", "CLAIM", "'accuracy >= random', 'accuracy >= full - 0.5' (points); exit code 1 where it fails. Repeatable."),
        As("gates"),
    ] = None
    gate_undecided: Annotated[str, opt("--gate-undecided", "fail|pass", "What a gate counts as that nobody can tell."), As("undecided")] = (
        "fail"
    )
    costs: Annotated[
        list[str] | None, opt("--costs", "FILE", "What prune score --json (select, train) printed: for the break-even. Repeatable.")
    ] = None


class NetworkFlags(OwnFlags):
    """What is trained, and how many at a time."""

    recipe: Annotated[str, opt("--recipe", "NAME", "How to train.", complete=choices.methods("recipe"))] = "standard"
    structure: Annotated[
        str | None,
        opt("--structure", "NAME", "Prune the network while it trains.", default="it stays whole", complete=choices.methods("structure")),
    ] = None
    arch: Arch = None
    jobs: Annotated[int, opt("--jobs", "N", "Trainings at a time; 0 is what cores, memory and work allow.", min=0)] = 0
    keep_runs: Annotated[bool, opt("--keep-runs", None, "Leave the run folders in --work-dir.")] = False


@command()
def compare(
    files: Annotated[list[str], arg("FILE...", "Selections; with --methods score manifests of the data.")],
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
