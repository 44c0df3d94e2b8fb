"""What a recipe is asked for, what it hands back, as plain data, and which trainings several processes may share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError
from prune_cli.core.launch import ALONE, Launch
from prune_cli.core.runtime import Runtime
from prune_cli.methods.registry.lookup import methods_of
from prune_cli.methods.training.data.inputs import TrainingSet
from prune_cli.methods.training.loop.contract import Checkpoint, Observer, StructureMaker
from prune_cli.methods.training.loop.recording import Watch
from prune_cli.methods.training.loop.timetable import Budget


def require_shareable(recipe: str, structure: bool, size: int, smallest: int | None = None) -> None:
    """Raise where several processes cannot share the batches of a training.

    Args:
        structure: whether the network shrinks.
        size: processes.
        smallest: samples of the smallest batch, once it is known.
    Raises:
        InputError: a recipe that keeps something of every sample, a network that shrinks, or fewer than two samples for each.
    """
    if size == 1:
        return
    shareable = [method.name for method in methods_of("recipe").values() if method.shares_batches]
    if structure or recipe not in shareable:
        what = "a network that shrinks (--structure)" if structure else f"--recipe {recipe}"
        raise InputError(
            f"{what} trains in one process, not in {size}",
            f"start it without torchrun; several share the batches of: {', '.join(shareable)}",
        )
    if smallest is not None and smallest < 2 * size:
        raise InputError(
            f"a batch of {smallest} for {size} processes", f"give --batch-size {2 * size} or more: it is that of all processes together"
        )


Tensors = Mapping[str, NDArray[np.float32]]
"""Weights and batch-norm statistics by name."""


@dataclass(frozen=True)
class TrainingJob:
    """One training, whatever the recipe.

    Args:
        data: the selected samples.
        architecture: ``NAME[:WIDTH]``, see `prune_cli.methods.training.networks.architectures`.
        budget: passes over the selection or steps.
        runtime: device, seed, batch size (default 128), decoding processes, and precision: ``float32``, ``bfloat16``
            (convolutions and matrix products alone) or ``auto`` (see `prune_cli.methods.training.networks.network.choose_precision`).
        observer: see `Observer`; its checkpoints go back in as ``resume``.
        resume: go on from a checkpoint of the same job.
        watch: what to record of every sample; recording changes not one bit of the network.
        stop_epoch: stop after that many passes, with the schedule of the whole budget; None for all of it.
        structure: what becomes of the networks' units and layers while they train; None: they stay.
        launch: which of the processes that train one network this is; the batch is that of all together.
        initial: weights the networks begin with, the first network's first; the rest begin from the seed.
    """

    data: TrainingSet
    architecture: str
    budget: Budget
    runtime: Runtime
    observer: Observer
    resume: Checkpoint | None = None
    watch: Watch | None = None
    stop_epoch: int | None = None
    initial: Sequence[Tensors] = ()
    structure: StructureMaker | None = None
    launch: Launch = ALONE


@dataclass(frozen=True)
class Relabels:
    """What a re-labeling recipe says of each of M samples.

    Args:
        codes_m: (M,) int64 the label it would give: the one it has, unless another is more likely than not.
        p_clean_m: (M,) float64 how likely the given label is right, 0 to 1.
        confidence_m: (M,) float64 the probability of the class the networks hold most likely.
    """

    codes_m: NDArray[np.int64]
    p_clean_m: NDArray[np.float64]
    confidence_m: NDArray[np.float64]


@dataclass(frozen=True)
class TrainedModel:
    """A trained network as plain data.

    Args:
        tensors: weights and batch-norm statistics by name, float32; names as in the network's original, so that
            torchvision's own class loads a torchvision model.
        model: JSON values: ``architecture``, ``input_size`` ([H, W, C] or [D]), ``normalization`` (``mean`` and
            ``std`` for each channel, pixels from 0 to 1), ``parameters``, ``flops`` (one forward pass of one sample; a
            multiply-add counts two), ``n_classes``, ``memory_format``, ``precision``; of a network that shrank ``structure``:
            ``removed`` (residual blocks without their branch), ``units`` (layer -> live, whole), ``whole`` (its cost before).
        relabels: what a re-labeling recipe says of every sample it was trained on; None of others.
    """

    tensors: dict[str, NDArray[np.float32]]
    model: dict[str, Any]
    relabels: Relabels | None = None
