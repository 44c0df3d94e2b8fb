"""What a training starts from: the rows, their labels, the sizes of the network, and runs that it goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import Labels, locate
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.manifests.selection import selected_ids
from prune_cli.io.parquet.provenance import InputFile
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.runs.folder import FinishedRun, read_run, run_files
from prune_cli.methods.training.networks.architectures import default_architecture
from prune_cli.stages.evaluate.command import as_trained
from prune_cli.stages.train.options import TrainOptions

Channels = Literal["auto", 1, 3]


@dataclass(frozen=True)
class NetworkSizes:
    """A network, and what goes into it.

    Args:
        architecture: ``NAME[:WIDTH]``.
        input_shape: (H, W, C) or (D,).
    """

    architecture: str
    input_shape: tuple[int, ...]
    row_bytes: int


def network_sizes(dataset: Dataset, rows: np.ndarray, architecture: str | None, channels: Channels = "auto") -> NetworkSizes:
    """Return the sizes of a network for some rows, by a look at the first few; the default one where none is named."""
    first = dataset.load_inputs(Ledger(), rows=rows[:64], channels=channels, as_float32=True)
    shape = first.shape[1:]
    return NetworkSizes(architecture or default_architecture(shape), shape, int(np.prod(shape)) * first.itemsize)


@dataclass(frozen=True)
class OpenedData:
    """The data set of a training, opened, and the runs that it goes on from; their classes and sizes hold."""

    dataset: Dataset
    begun: Sequence[FinishedRun]
    channels: Channels


def open_data(options: TrainOptions) -> OpenedData:
    """Return the data set, read as the first of ``--init`` was trained."""
    begun = [read_run(path) for path in options.init]
    if not begun:
        return OpenedData(Dataset(options.data), begun, "auto")
    data, channels = as_trained(options.data, begun[0])
    return OpenedData(Dataset(data), begun, channels)


@dataclass(frozen=True)
class TrainInputs:
    """All that a training starts from.

    Args:
        labels: of the whole data set.
        rows: (M,) int64 positions of what is selected, in order.
        files: all of it came from.
        streamed: whether the inputs stay on the disk.
    """

    opened: OpenedData
    labels: Labels
    rows: np.ndarray
    files: Sequence[InputFile]
    sizes: NetworkSizes
    streamed: bool


def read_inputs(options: TrainOptions, opened: OpenedData) -> TrainInputs:
    """Return the selected rows with their labels, and what a network for them is like.

    Raises:
        InputError: a selection of other data, or a run that this training cannot go on from.
    """
    dataset, begun = opened.dataset, opened.begun
    labels = dataset.labels
    architecture = options.architecture
    if begun:
        labels = labels.recoded(begun[0].model["classes"], begun[0].model["class_names"], options.data.location)
        architecture = architecture or begun[0].model["architecture"]
    rows, subset_inputs = _selected_rows(options, dataset)
    sizes = network_sizes(dataset, rows, architecture, opened.channels)
    for run in begun:
        _check_initial(run, sizes, labels.classes)
    in_memory = sizes.row_bytes * len(rows)
    return TrainInputs(
        opened,
        labels,
        rows,
        [*dataset.source.inputs, *subset_inputs, *(file for run in begun for file in run_files(run))],
        sizes,
        streamed=dataset.kind == "image" and in_memory > options.runtime.memory_budget() // 2,
    )


def _check_initial(run: FinishedRun, sizes: NetworkSizes, classes: Sequence[Any]) -> None:
    """Raise where a run has another architecture, input size or list of classes than the network that goes on from it."""
    for what, theirs, ours in (
        ("structure", "shrunk" if "structure" in run.model else "whole", "whole"),
        ("architecture", run.model["architecture"], sizes.architecture),
        ("input size", list(run.model["input_size"]), list(sizes.input_shape)),
        ("classes", list(run.model["classes"]), list(classes)),
    ):
        if theirs != ours:
            raise InputError(
                f"--init {run.path} has another {what}: {theirs}, and here it is {ours}",
                "begin from a run with the same network and classes, or leave out --init",
            )


def _selected_rows(options: TrainOptions, dataset: Dataset) -> tuple[np.ndarray, tuple[InputFile, ...]]:
    if options.subset is None:
        return np.arange(len(dataset)), ()
    selection = ParquetSource(options.subset)
    ids = selected_ids(selection)
    return np.sort(locate(ids, dataset.ids, options.subset, options.data.location)), selection.inputs
