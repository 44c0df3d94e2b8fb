"""Networks that exist: of a run folder, or torchvision's with weights from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import Labels
from prune_cli.io.manifests.data import DataOptions
from prune_cli.io.parquet.provenance import InputFile, hash_stream
from prune_cli.io.runs.folder import FinishedRun, read_run, read_safetensors, run_files
from prune_cli.methods.training.networks.exchange import pretrained_model, tensors_of_torch_file
from prune_cli.stages.evaluate.command import as_trained
from prune_cli.stages.score.reading import Channels


@dataclass(frozen=True)
class Model:
    """A network that fits its inputs.

    Args:
        model: what `predict` must know of it.
        classes, names: those it tells apart, None where they are not known.
    """

    tensors: Mapping[str, np.ndarray]
    model: Mapping[str, Any]
    classes: tuple[Any, ...] | None
    names: tuple[str, ...] | None
    inputs: tuple[InputFile, ...]

    def codes(self, labels: Labels, where: str, methods: Mapping[str, Any]) -> np.ndarray | None:
        """Return (N,) classes as the network counts them, or None where its classes are not those of the data.

        Raises:
            InputError: scores of the record are wanted, and the network tells other classes apart.
        """
        n_classes = int(self.model["n_classes"])
        if self.classes is not None:
            return labels.recoded(self.classes, self.names, where).codes_n
        if n_classes == len(labels.classes):
            return labels.codes_n
        if methods:
            raise InputError(
                f"the network tells {n_classes} classes apart and the data has {len(labels.classes)}: "
                f"{', '.join(methods)} cannot be taken from it",
                "its features can: --save-features FILE, or --method moderate; or train: leave out --model",
            )
        return None


@dataclass(frozen=True)
class RunNetwork:
    """The network of a run folder."""

    run: FinishedRun

    @cached_property
    def inputs(self) -> tuple[InputFile, ...]:
        """Return its files."""
        return run_files(self.run)

    def reads(self, data: DataOptions) -> tuple[DataOptions, Channels]:
        """Return how data is read for it: as the run was trained on."""
        return as_trained(data, self.run)

    def fit(self, input_shape: tuple[int, ...]) -> Model:
        """Return it, for inputs of that shape."""
        run, names = self.run, self.run.model["class_names"]
        return Model(run.tensors, run.model, tuple(run.model["classes"]), tuple(names) if names else None, self.inputs)


@dataclass(frozen=True)
class PublishedNetwork:
    """One of torchvision's, which takes pictures of many sizes, with weights from a file."""

    name: str
    tensors: Mapping[str, np.ndarray]
    file: InputFile

    @property
    def inputs(self) -> tuple[InputFile, ...]:
        """Return its files."""
        return (self.file,)

    def reads(self, data: DataOptions) -> tuple[DataOptions, Channels]:
        """Return how data is read for it: as it is."""
        return data, "auto"

    def fit(self, input_shape: tuple[int, ...]) -> Model:
        """Return it, for pictures of that size."""
        tensors, model = pretrained_model(self.name, dict(self.tensors), input_shape)
        return Model(tensors, model, None, None, self.inputs)


Network: TypeAlias = RunNetwork | PublishedNetwork
"""A network before its inputs are known."""


def read_network(name: str, weights: Path | None) -> Network:
    """Return the network of a run folder, or one of torchvision's with its weights.

    Raises:
        InputError: no such folder or file, damaged, or a pickle.
    """
    if weights is None:
        if not Path(name).is_dir() and name.startswith("torchvision:"):
            raise InputError(f"--model {name} has no weights", "name their file: --weights resnet18.safetensors")
        return RunNetwork(read_run(Path(name)))
    if not weights.is_file():
        raise InputError(f"--weights {weights} does not exist", "check the path")
    with weights.open("rb") as handle:
        file = InputFile(weights.name, hash_stream(handle))
    if weights.suffix == ".safetensors":
        return PublishedNetwork(name, read_safetensors(weights), file)
    return PublishedNetwork(name, tensors_of_torch_file(weights.read_bytes(), weights.name), file)
