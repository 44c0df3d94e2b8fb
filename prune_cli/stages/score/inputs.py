"""What scores are computed from, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prune_cli.core.progress import Progress
from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.good_rows import drop_rows
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.methods.registry.lookup import TRAINING
from prune_cli.methods.scores.kernel.row_kinds import make_rows
from prune_cli.methods.scores.kernel.rows import zero_rows
from prune_cli.methods.training.data.augment import choose_augmentation
from prune_cli.methods.training.data.inputs import ImageSource
from prune_cli.methods.training.networks.predict import Prediction, augmentation_draws
from prune_cli.stages.score.options import Sources
from prune_cli.stages.train.run import load_inputs

SPOOL = "spool"
"""Folder within the work folder for what does not fit into memory, while the command runs."""

_SHARE_IN_MEMORY = 0.5
"""Of the memory that may be used, for inputs that are held there."""


@dataclass
class LoadedInputs:
    """The good rows: their positions, and what was asked for of each."""

    rows: np.ndarray
    inputs: np.ndarray | ImageSource | None = None
    channels: int | None = None
    probs_nc: np.ndarray | None = None
    features_nd: np.ndarray | None = None
    prediction: Prediction | None = None

    def array(self) -> np.ndarray:
        """Return the inputs, which are in memory."""
        assert isinstance(self.inputs, np.ndarray)
        return self.inputs


def load_score_inputs(
    dataset: Dataset,
    sources: Sources,
    channels: Any,
    ledger: Ledger,
    folder: Path | None,
    runtime: Runtime,
    progress: Progress,
    within: np.ndarray,
) -> LoadedInputs:
    """Return the rows that are good, with what the scores are computed from; the others go to the ledger.

    Args:
        within: (M,) int64, the rows that are meant, ascending.
    """
    if not len(within):  # a part of less work than there are parts: the first row tells the shape of nothing
        loaded = load_score_inputs(dataset, sources, channels, Ledger(), folder, runtime, progress, np.arange(1))
        _drop(loaded, np.zeros(len(loaded.rows), bool))
        return loaded
    loaded = LoadedInputs(within)
    kernels = sources.kernels
    if sources.record == "prob":
        loaded.probs_nc = dataset.load_probabilities(ledger, rows=within, progress=progress)
    spool = _embedding_spool(dataset, folder, runtime)
    if sources.features == "embedding":
        features = spool.with_name("features.npy") if spool is not None else None
        loaded.features_nd = dataset.load_embeddings(ledger, spool=features, progress=progress)
    if kernels or sources.record in {"training", "model"}:
        workers = runtime.worker_count()
        too_large = dataset.kind == "image" and len(within) * dataset.input_width() > runtime.memory_budget() // 2
        if too_large and not kernels and folder is not None:
            pictures = folder / SPOOL
            pictures.mkdir(parents=True, exist_ok=True)
            inputs, loaded.rows = load_inputs(dataset, loaded.rows, ledger, pictures, runtime, progress)
            loaded.inputs = inputs
            return loaded
        loaded.inputs = dataset.load_inputs(
            ledger,
            rows=within,
            workers=workers,
            channels=channels,
            as_float32=not kernels,
            spool=spool,
            progress=progress,
        )
    _drop(loaded, ledger.good(len(dataset))[within])
    if loaded.inputs is not None and dataset.kind == "image":
        loaded.channels = loaded.inputs.shape[-1]
    if kernels and len(loaded.rows):
        values = loaded.array().reshape(len(loaded.rows), -1)
        center = any(params.center for params in kernels.values())
        zero = zero_rows(make_rows(values, loaded.channels, center))
        if zero.any():
            after_mean = center or loaded.channels is not None
            ledger.add_all(
                loaded.rows[zero], "zero vector after the mean is subtracted" if after_mean else "zero vector"
            )
            _drop(loaded, ~zero)
    return loaded


def _embedding_spool(dataset: Dataset, folder: Path | None, runtime: Runtime) -> Path | None:
    """Return the file that embeddings are memory-mapped from where they would take too much of the memory."""
    if folder is None or dataset.options.embedding_column not in dataset.source.schema.names:
        return None
    mapped = is_mapped(len(dataset) * dataset.embedding_bytes(), runtime)
    return folder / SPOOL / "embeddings.npy" if mapped else None


def is_mapped(nbytes: int, runtime: Runtime) -> bool:
    """Return whether so many bytes of embeddings are memory-mapped from a file of the work folder."""
    return nbytes > _SHARE_IN_MEMORY * runtime.memory_budget()


def augmentation_of(
    sources: Sources, dataset: Dataset, rows: np.ndarray, input_shape: tuple[int, ...], seed: int
) -> dict[str, Any]:
    """Return how `predict` augments what features are taken of: nothing, unless it was asked for."""
    if sources.params[TRAINING].augment == "none":
        return {}
    augmentation = choose_augmentation("strong", tuple(input_shape), None, 1.0, convolutional=True)
    rank_n = np.empty(len(dataset), np.int64)
    rank_n[dataset.order_n] = np.arange(len(dataset))
    return {
        "augmentation": augmentation,
        "draws_nk": augmentation_draws(augmentation, rank_n[rows], len(dataset), seed),
    }


def _drop(loaded: LoadedInputs, good: np.ndarray) -> None:
    for name in ("rows", "inputs", "probs_nc", "features_nd"):
        array = getattr(loaded, name)
        if array is not None:
            setattr(loaded, name, drop_rows(array, good))
