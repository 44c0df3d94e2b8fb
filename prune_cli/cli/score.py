"""``prune score``."""

from __future__ import annotations

from typing import Annotated

import typer

from prune_cli.cli import options as opt
from prune_cli.cli.running import run


@opt.spread
def score(
    data: opt.Data,
    *,
    method: Annotated[str, typer.Option("--method", metavar="NAME[,NAME]", help="Which scores.")] = "cg",
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
    columns: opt.DataFlags,
    machine: opt.MachineFlags,
    printing: opt.PrintFlags,
) -> None:
    """Score every sample: how hard it is, how likely its label is wrong.

    Example: prune score photos.parquet --method cg -p repeats=4
    """
    from prune_cli.stages.score import ScoreOptions
    from prune_cli.stages.score import score as stage

    options = ScoreOptions(
        data=columns.options(data, image_size=image_size, max_errors=max_errors),
        methods=opt.parse_names(method),
        params=tuple(param or ()),
        preset=preset,
        output=output,
        work_dir=work_dir,
        force=force,
        plan=plan,
        runtime=machine.runtime(seed=seed),
    )
    run(lambda progress: stage(options, progress), printing)
