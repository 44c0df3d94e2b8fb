"""``prune score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prune_cli.cli import choices
from prune_cli.cli import options as opt
from prune_cli.cli.running import run


@opt.spread
def score(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA", help="Parquet file, folder of them, or - for standard input.", show_default=False
        ),
    ] = None,
    *,
    method: Annotated[
        str,
        typer.Option("--method", metavar="NAME[,NAME]", help="Which scores.", autocompletion=choices.methods("score")),
    ] = "cg",
    arch: opt.Arch = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs", min=1, metavar="N", help="Passes of the training that scores share.", show_default="200"
        ),
    ] = None,
    batch_size: opt.BatchSize = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="RUN|torchvision:NAME",
            help="Score with a network that exists: a run folder, or torchvision's with --weights.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="FILE", help="Its weights: safetensors, or torch's.", show_default=False),
    ] = None,
    save_features: Annotated[
        str | None,
        typer.Option(
            "--save-features", metavar="FILE", help="Also write embeddings and probabilities.", show_default=False
        ),
    ] = None,
    save_dynamics: Annotated[
        str | None,
        typer.Option(
            "--save-dynamics", metavar="FILE", help="Also write what training said of each row.", show_default=False
        ),
    ] = None,
    save_kernel: Annotated[
        Path | None,
        typer.Option("--save-kernel", metavar="FILE", help="Also write the kernel of all rows.", show_default=False),
    ] = None,
    load_kernel: Annotated[
        Path | None,
        typer.Option("--load-kernel", metavar="FILE", help="Take the kernel from such a file.", show_default=False),
    ] = None,
    from_dynamics: Annotated[
        str | None,
        typer.Option(
            "--from-dynamics", metavar="FILE", help="Score from such a file: no data, no training.", show_default=False
        ),
    ] = None,
    checkpoint_seconds: opt.CheckpointSeconds = 60.0,
    report_to: opt.ReportTo = None,
    output: opt.Output = None,
    param: opt.Params = None,
    preset: opt.Preset = None,
    image_size: opt.ImageSize = None,
    seed: opt.Seed = 0,
    max_errors: opt.MaxErrors = "0",
    work_dir: opt.WorkDir = None,
    force: opt.Force = False,
    plan: opt.Plan = False,
    list_methods: opt.list_methods_option("score") = False,  # type: ignore[valid-type]
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Do the I-th of N parts of the work alone; prune manifest merge joins the parts.",
            show_default=False,
        ),
    ] = None,
    columns: opt.DataFlags,
    machine: opt.MachineFlags,
    place: opt.EngineFlags,
    printing: opt.PrintFlags,
) -> None:
    """Score every sample: how hard it is, how likely its label is wrong.

    Example: prune score photos.parquet --method forgetting,el2n --preset fast
    """
    from prune_cli.stages.score.command import score as stage
    from prune_cli.stages.score.options import ScoreOptions

    options = ScoreOptions(
        data=columns.options(data, image_size=image_size, max_errors=max_errors) if data is not None else None,
        methods=opt.parse_names(method),
        params=tuple(param or ()),
        preset=preset,
        output=output,
        architecture=arch,
        epochs=epochs,
        model=model,
        weights=weights,
        from_dynamics=from_dynamics,
        save_dynamics=save_dynamics,
        save_features=save_features,
        save_kernel=save_kernel,
        load_kernel=load_kernel,
        checkpoint_seconds=checkpoint_seconds,
        report_to=report_to,
        work_dir=work_dir,
        force=force,
        plan=plan,
        shard=opt.parse_shard(shard),
        runtime=machine.runtime(seed=seed, batch_size=batch_size, place=place),
    )
    run(lambda progress: stage(options, progress), printing)
