"""``prune score``."""

from __future__ import annotations

from typing import Annotated

import typer

from prune_cli.cli import app
from prune_cli.cli import options as opt


def score(
    data: opt.Data,
    method: Annotated[str, typer.Option("--method", metavar="NAME[,NAME]", help="Which scores.")] = "cg",
    output: opt.Output = None,
    param: opt.Params = None,
    preset: opt.Preset = None,
    id_column: opt.IdColumn = "id",
    label_column: opt.LabelColumn = "label",
    image_column: opt.ImageColumn = "image",
    embedding_column: opt.EmbeddingColumn = "embedding",
    input: opt.Input = None,
    root: opt.Root = None,
    split: opt.Split = None,
    image_size: opt.ImageSize = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    workers: opt.Workers = 0,
    seed: opt.Seed = 0,
    max_errors: opt.MaxErrors = "0",
    max_pixels: opt.MaxPixels = 100_000_000,
    memory_limit: opt.MemoryLimit = None,
    work_dir: opt.WorkDir = None,
    force: opt.Force = False,
    plan: opt.Plan = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
    list_methods: opt.list_methods_option("score") = False,  # type: ignore[valid-type]
) -> None:
    """Score every sample: how hard it is, how likely its label is wrong.

    Example: prune score photos.parquet --method cg -p repeats=4
    """
    from prune_cli.stages.score import ScoreOptions
    from prune_cli.stages.score import score as stage

    options = ScoreOptions(
        data=opt.make_data_options(
            data,
            id_column=id_column,
            label_column=label_column,
            image_column=image_column,
            embedding_column=embedding_column,
            input=input,
            root=root,
            split=split,
            image_size=image_size,
            max_pixels=max_pixels,
            max_errors=max_errors,
        ),
        methods=opt.parse_names(method),
        params=tuple(param or ()),
        preset=preset,
        output=output,
        work_dir=work_dir,
        force=force,
        plan=plan,
        runtime=opt.make_runtime(
            device=device, precision=precision, batch_size=None, workers=workers, seed=seed, memory_limit=memory_limit
        ),
    )
    app.run(lambda progress: stage(options, progress), json=json, quiet=quiet, verbose=verbose)
