"""What a command comes to: the data, the sources of its scores, and what is refused before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.runs.events import EventFolder
from prune_cli.io.stores.atomic import check_output
from prune_cli.io.stores.locations import STDIN, local_twin
from prune_cli.stages.score.contract import Job, Source
from prune_cli.stages.score.options import ScoreOptions
from prune_cli.stages.score.output import score_output, work_path
from prune_cli.stages.score.reading import Channels
from prune_cli.stages.score.request import request_of
from prune_cli.stages.score.shards import require_divisible
from prune_cli.stages.score.sources.columns import ColumnSource
from prune_cli.stages.score.sources.kernel.source import kernel_source
from prune_cli.stages.score.sources.model.networks import read_network
from prune_cli.stages.score.sources.model.source import ModelSource
from prune_cli.stages.score.sources.training.source import training_source
from prune_cli.stages.train.reporting import event_folder


def open_job(
    options: ScoreOptions, params: Mapping[str, Any], note: Callable[[str], None]
) -> tuple[Job, list[Source[Any]]]:
    """Return what is scored, and from where: kernels first, then what gives records and features.

    Args:
        options: of the command.
        params: of every owner.
        note: told what the user should know.
    Raises:
        InputError: bad input, or options that do not go together.
    """
    if options.data is None:
        raise InputError("DATA is missing", "name a Parquet file, or a record with --from-dynamics")
    network = read_network(options.model, options.weights) if options.model is not None else None
    if options.weights is not None and network is None:
        raise InputError("--weights is given without --model", "say which network: --model torchvision:resnet18")
    channels: Channels = "auto"
    data = options.data
    if network is not None:
        data, channels = network.reads(data)
    dataset = Dataset(data)
    request = request_of(options, params, dataset)
    require_divisible(options, request)
    output = score_output(options, dataset.source.stem)
    if not options.plan:
        for path in (output, options.save_dynamics, options.save_features, options.save_kernel):
            if path is not None:
                check_output(path, options.force)
    trains = request.record == "training"
    _check_classes(dataset, trains or bool(request.kernels), note)
    events = _events(options, output, dataset.source.stem) if trains else None
    job = Job(options, request, dataset, output, channels, events)
    of_record = [training_source(job)] if trains else []
    if options.report_to is not None and not trains:
        raise InputError("--report-to is given and nothing here trains", "leave it out")
    sources: list[Source[Any]] = [*([kernel_source(job)] if request.kernels else []), *of_record]
    if network is not None:
        sources.append(ModelSource(job, network))
    if request.record == "prob" or request.features == "embedding":
        sources.append(ColumnSource(job))
    return job, sources


def _check_classes(dataset: Dataset, compares: bool, note: Callable[[str], None]) -> None:
    """Tell of ids that are made up and classes without a row; raise where classes are compared and there is one."""
    if dataset.ids_made_up:
        note(f"no column '{dataset.options.id_column}': ids are the positions, row-00000000 and on")
    labels = dataset.labels
    counts = np.bincount(labels.codes_n[labels.codes_n >= 0], minlength=len(labels.classes))
    empty = [name for name, count in zip(labels.display_names(), counts, strict=True) if count == 0]
    if empty:
        note(f"{len(empty)} class(es) have no row here: {', '.join(empty[:5])}")
    if compares and (there := len(labels.classes) - len(empty)) < 2:
        raise InputError(
            f"scores compare each class with the others, and the data has samples of {there} class(es)",
            "give data of two classes or more, or check --label-column",
        )


def _events(options: ScoreOptions, output: str, stem: str) -> EventFolder | None:
    """Return where events go, once it is sure that they may; a training that is gone on from has some already."""
    beside = output if output != STDIN else f"{stem}.scores.parquet"
    events = event_folder(options.report_to, local_twin(beside))
    if events is not None and not options.plan:
        events.check(replace=options.force or work_path(options, output).is_dir())
    return events
