"""``prune compare``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from prune_cli.cli import choices
from prune_cli.cli import options as opt
from prune_cli.cli import selection_options as sel
from prune_cli.cli.running import run
from prune_cli.core.errors import InputError

if TYPE_CHECKING:
    from prune_cli.io.manifests.data import DataOptions


@opt.spread
def compare(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Selections; with --methods score manifests of the data.", show_default=False
        ),
    ],
    *,
    data: Annotated[str, typer.Option("--data", metavar="DATA", help="What they select from.", show_default=False)],
    test: Annotated[
        str, typer.Option("--test", metavar="TEST", help="Data manifest that is tested on.", show_default=False)
    ],
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="NAME[,NAME]",
            help="Select by each of these from the scores.",
            show_default=False,
            autocompletion=choices.methods("selection"),
        ),
    ] = None,
    fractions: Annotated[
        str | None,
        typer.Option("--fractions", metavar="F[,F]", help="Shares KEPT by each of the methods.", show_default=False),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(
            "--keys", metavar="NAME[,NAME]", help="Score columns that each of the methods goes by.", show_default=False
        ),
    ] = None,
    features: sel.Features = None,
    probabilities: sel.Probabilities = None,
    per_class: sel.PerClass = False,
    direction: sel.Direction = None,
    baselines: Annotated[
        str,
        typer.Option(
            "--baselines", metavar="NAME[,NAME]", help="What to compare with: random, random_per_class, full; or none."
        ),
    ] = "random,full",
    budget: Annotated[
        str, typer.Option("--budget", metavar="steps|epochs|both", help="What is equal in all trainings.")
    ] = "steps",
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, metavar="N", help="Passes over all the data.", show_default="20"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, metavar="N", help="Steps instead of passes.", show_default=False)
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, metavar="N", help="Trainings of each, paired by seed.")] = 3,
    confidence: Annotated[float, typer.Option("--confidence", metavar="P", help="Of the intervals.")] = 0.95,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            metavar="CLAIM",
            help="'accuracy >= random', 'accuracy >= full - 0.5' (points); exit code 1 where it fails. Repeatable.",
            show_default=False,
        ),
    ] = None,
    gate_undecided: Annotated[
        str, typer.Option("--gate-undecided", metavar="fail|pass", help="What a gate counts as that nobody can tell.")
    ] = "fail",
    costs: Annotated[
        list[str] | None,
        typer.Option(
            "--costs",
            metavar="FILE",
            help="What prune score --json (select, train) printed: for the break-even. Repeatable.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option("--recipe", metavar="NAME", help="How to train.", autocompletion=choices.methods("recipe")),
    ] = "standard",
    structure: Annotated[
        str | None,
        typer.Option(
            "--structure",
            metavar="NAME",
            help="Prune the network while it trains.",
            show_default="it stays whole",
            autocompletion=choices.methods("structure"),
        ),
    ] = None,
    arch: opt.Arch = None,
    jobs: Annotated[
        int,
        typer.Option("--jobs", min=0, metavar="N", help="Trainings at a time; 0 is what cores, memory and work allow."),
    ] = 0,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Leave the run folders in --work-dir.")] = False,
    checkpoint_seconds: opt.CheckpointSeconds = 60.0,
    output: opt.Output = None,
    param: opt.Params = None,
    preset: opt.Preset = None,
    test_split: Annotated[
        str | None,
        typer.Option("--test-split", metavar="NAME", help="As --split, of TEST.", show_default=False),
    ] = None,
    true_label_column: opt.TrueLabelColumn = "true_label",
    image_size: opt.ImageSize = None,
    batch_size: opt.BatchSize = None,
    seed: opt.Seed = 0,
    max_errors: opt.MaxErrors = "0",
    work_dir: opt.WorkDir = None,
    force: opt.Force = False,
    plan: opt.Plan = False,
    columns: opt.DataFlags,
    machine: opt.MachineFlags,
    printing: opt.PrintFlags,
) -> None:
    """Say whether pruning pays: train on selections, on as many random rows and on all, alike and with the same seeds.

    Exit code 1 where a gate does not hold.

    Example: prune compare kept.parquet --data photos.parquet --test test.parquet --gate "accuracy >= random"
    """
    from prune_cli.stages.compare.command import compare as stage
    from prune_cli.stages.compare.options import CompareOptions

    if gate_undecided not in {"fail", "pass"}:
        raise InputError(f"--gate-undecided {gate_undecided!r} is neither fail nor pass", "use one of them")
    if keep_runs and work_dir is None:
        raise InputError("--keep-runs needs a place", "name one with --work-dir")

    def read(location: str) -> DataOptions:
        return columns.options(
            location, max_errors=max_errors, image_size=image_size, true_label_column=true_label_column
        )

    options = CompareOptions(
        files=tuple(files),
        data=read(data),
        test=dataclasses.replace(read(test), split=test_split),
        methods=opt.parse_names(methods, "--methods") if methods is not None else (),
        fractions=opt.parse_numbers(fractions, "--fractions", float),
        keys=opt.parse_names(keys, "--keys") if keys is not None else (),
        features=features,
        probabilities=probabilities,
        per_class=per_class,
        directions=tuple(direction or ()),
        baselines=() if baselines.strip() == "none" else opt.parse_names(baselines, "--baselines"),
        budget=budget,
        epochs=epochs,
        steps=steps,
        seeds=seeds,
        confidence=confidence,
        gates=tuple(gate or ()),
        undecided=gate_undecided,  # type: ignore[arg-type]
        costs=tuple(costs or ()),
        recipe=recipe,
        structure=structure,
        architecture=arch,
        params=tuple(param or ()),
        preset=preset,
        jobs=jobs,
        keep_runs=keep_runs,
        checkpoint_seconds=checkpoint_seconds,
        work_dir=work_dir,
        output=output,
        force=force,
        plan=plan,
        runtime=machine.runtime(seed=seed, batch_size=batch_size),
    )
    run(lambda progress: stage(options, progress), printing)
