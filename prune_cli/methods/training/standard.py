"""Standard training: cross-entropy with SGD, on any selection of a data set."""

from __future__ import annotations

from dataclasses import dataclass

from prune_cli.core.params import param
from prune_cli.core.runtime import Runtime
from prune_cli.methods.training.inputs import TrainingSet
from prune_cli.methods.training.learner import CrossEntropy
from prune_cli.methods.training.observer import Checkpoint, Observer
from prune_cli.methods.training.recipe import SgdParams, TrainedModel, run_recipe
from prune_cli.methods.training.record import Watch
from prune_cli.methods.training.timetable import Budget


@dataclass(frozen=True)
class StandardParams(SgdParams):
    """Parameters of standard training."""

    label_smoothing: float = param(0.0, "share of each label spread over all classes", low=0.0, high=0.999)


def train_standard(
    data: TrainingSet,
    architecture: str,
    params: StandardParams,
    budget: Budget,
    *,
    runtime: Runtime,
    observer: Observer,
    resume: Checkpoint | None = None,
    watch: Watch | None = None,
    stop_epoch: int | None = None,
) -> TrainedModel:
    """Return a network trained by cross-entropy and SGD on the selected samples.

    The order of the samples and their augmentation are drawn over the whole data set, so that trainings on two
    selections are paired. Inputs are normalised by the statistics of what is trained on.

    Args:
        data: the selected samples.
        architecture: ``NAME[:WIDTH]``, see `prune_cli.methods.training.architectures`.
        params: see `StandardParams`.
        budget: passes over the selection or steps.
        runtime: device, seed, batch size (default 128), decoding processes, and precision: ``float32``, ``bfloat16``
            (convolutions and matrix products alone) or ``auto`` (see `choose_precision`).
        observer: see `Observer`; its checkpoints go back in as ``resume``.
        resume: go on from a checkpoint of the same run.
        watch: what to record of every sample; recording changes not one bit of the network.
        stop_epoch: stop after that many passes, with the schedule of the whole budget; None for all of it.
    Returns:
        The network after the last step, never "the best" one. The same arguments, device and number of threads give
        the same bytes, with or without interruptions.
    Raises:
        InputError: an architecture that does not fit the inputs, a precision that is not known, a batch below 2, or a
            checkpoint of another run.
        NumericalError: the loss is no longer finite.
        InterruptedRun: the observer asked to stop.
    Cost:
        Three forward passes a presentation; the set itself as uint8 on the device unless it is streamed.
    Source:
        He 2016; label smoothing, Szegedy 2016; cosine decay, Loshchilov 2017. Deviations: learning rates are ours,
        measured on short budgets; the batches of one pass are of equal size.
    """
    from prune_cli.methods.training.networks import export_tensors

    learned = run_recipe(
        "standard",
        data,
        architecture,
        params,
        budget,
        lambda device, networks: CrossEntropy(params.label_smoothing),
        runtime=runtime,
        observer=observer,
        resume=resume,
        watch=watch,
        stop_epoch=stop_epoch,
    )
    return TrainedModel(export_tensors(learned.networks[0]), learned.model)
