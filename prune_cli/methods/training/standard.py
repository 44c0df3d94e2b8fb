"""Standard training: cross-entropy with SGD, on any selection of a data set."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError
from prune_cli.core.params import param
from prune_cli.core.runtime import Runtime
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.training.architectures import TORCHVISION, parse_architecture
from prune_cli.methods.training.augment import AugmentName, choose_augmentation
from prune_cli.methods.training.inputs import TrainingSet, channel_statistics
from prune_cli.methods.training.loop import Budget, Checkpoint, Course, Observer, Schedule, plan_steps, train_network
from prune_cli.methods.training.record import Watch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BATCH_SIZE = 128
"""Samples a step where ``--batch-size`` says nothing."""

_RATES: Mapping[str, float] = {
    "linear": 0.05,
    "mlp": 0.05,
    "lenet5": 0.05,
    "resnet9": 0.4,
    "resnet18": 0.1,
    "preactresnet18": 0.05,
    "vgg16": 0.05,
    TORCHVISION: 0.05,
}
"""Learning rate where the parameter says nothing, for batches of about 128."""


@dataclass(frozen=True)
class StandardParams:
    """Parameters of standard training."""

    lr: float | None = param(None, "highest learning rate; none: by architecture, for batches of about 128", low=0.0)
    momentum: float = param(0.9, "momentum of SGD", low=0.0, high=0.999)
    nesterov: bool = param(True, "Nesterov's form of the momentum")
    weight_decay: float = param(5e-4, "weight of half the squared norm of all parameters", low=0.0)
    label_smoothing: float = param(0.0, "share of each label spread over all classes", low=0.0, high=0.999)
    schedule: Literal["cosine", "constant"] = param("cosine", "learning rate after the warm-up")
    warmup_fraction: float = param(0.1, "share of the steps in which the rate rises from 0", low=0.0, high=0.99)
    final_lr_fraction: float = param(0.0, "where the cosine ends, as a share of lr", low=0.0, high=1.0)
    augment: AugmentName = param("auto", "auto: by picture size, mirrored only in colour; strong: RandAugment, Cutout")  # noqa: RUF009
    crop_padding: int | None = param(None, "most pixels of shift; none: a sixteenth of the shorter side", low=0)
    min_crop_area: float = param(0.35, "smallest share of the area that a resized crop keeps", low=0.01, high=1.0)


@dataclass(frozen=True)
class TrainedModel:
    """A trained network as plain data.

    Args:
        tensors: weights and batch-norm statistics by name, float32; names as in the network's original, so that
            torchvision's own class loads a torchvision model.
        model: JSON values: ``architecture``, ``input_size`` ([H, W, C] or [D]), ``normalization`` (``mean`` and
            ``std`` for each channel, pixels from 0 to 1), ``parameters``, ``flops`` (one forward pass of one sample; a
            multiply-add counts two), ``n_classes``, ``memory_format``, ``precision``.
    """

    tensors: dict[str, NDArray[np.float32]]
    model: dict[str, Any]


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
    import torch
    import torch.nn.functional as F

    from prune_cli.methods.training.networks import build_network, export_tensors, network_cost

    kind = parse_architecture(architecture)
    batch_size = BATCH_SIZE if runtime.batch_size is None else runtime.batch_size
    plan = plan_steps(budget, len(data), batch_size)
    device = resolve_device(runtime.device)
    network = build_network(str(kind), data.input_shape, data.n_classes, runtime.seed)
    cost = network_cost(network, data.input_shape)
    augmentation = choose_augmentation(
        params.augment, data.input_shape, params.crop_padding, params.min_crop_area, network.is_convolutional
    )
    dtype = choose_precision(runtime.precision, device, network.gains_from_tiles)
    memory_format = torch.channels_last if network.is_convolutional else torch.contiguous_format
    network = network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]
    mean, std = channel_statistics(data.inputs, data.order_m(), runtime.worker_count())
    peak = _RATES[kind.name] if params.lr is None else params.lr

    def objective(logits_bc: Tensor, labels_b: Tensor) -> Tensor:
        return F.cross_entropy(logits_bc, labels_b, reduction="none", label_smoothing=params.label_smoothing)

    course = Course(
        data=data,
        plan=plan,
        schedule=Schedule(
            peak,
            plan.n_steps,
            round(params.warmup_fraction * plan.n_steps),
            params.final_lr_fraction,
            params.schedule == "cosine",
        ),
        augmentation=augmentation,
        mean=mean,
        std=std,
        objective=objective,
        seed=runtime.seed,
        device=device,
        dtype=dtype,
        workers=runtime.worker_count(),
        settings={
            "recipe": "standard",
            "params": dataclasses.asdict(params),
            "architecture": str(kind),
            "seed": runtime.seed,
            "steps": plan.n_steps,
            "samples": plan.n_samples,
            "precision": str(dtype).removeprefix("torch."),
            "data": _fingerprint(data),
            "stop_epoch": stop_epoch,
        },
        watch=watch,
        last_step=None if stop_epoch is None else plan.step_of(stop_epoch),
    )
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=peak,
        momentum=params.momentum,
        nesterov=params.nesterov and params.momentum > 0,
        weight_decay=params.weight_decay,
        fused=True,
    )
    train_network(network, optimizer, course, observer, resume)
    model = {
        "architecture": str(kind),
        "input_size": list(data.input_shape),
        "normalization": {"mean": mean.tolist(), "std": std.tolist()},
        "parameters": cost.parameters,
        "flops": cost.flops,
        "n_classes": data.n_classes,
        "memory_format": "channels_last" if network.is_convolutional else "contiguous",
        "precision": course.settings["precision"],
    }
    return TrainedModel(export_tensors(network), model)


def choose_precision(precision: str, device: torch.device, gains_from_tiles: bool) -> torch.dtype:
    """Return the dtype of convolutions and matrix products in training.

    ``auto`` is bfloat16 on a CUDA device that has it, and on a CPU with matrix tiles (AMX) for networks that gain from
    them, up to twice as fast as measured in docs/results/memory_format.md; float32 elsewhere. It depends on the
    machine and the network, never on a timing, so that a run repeats itself.

    Raises:
        InputError: another name.
    """
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if precision in known:
        return known[precision]
    if precision != "auto":
        raise InputError(f"training does not run in precision {precision!r}", f"use one of: auto, {', '.join(known)}")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    has_tiles = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return torch.bfloat16 if has_tiles and gains_from_tiles else torch.float32


def _fingerprint(data: TrainingSet) -> str:
    """Return a digest of what is selected and how it is labeled, whatever the order of the rows."""
    digest = hashlib.sha256(str(data.input_shape).encode())
    order_m = data.order_m()
    digest.update(data.labels_m[order_m].tobytes())
    digest.update(data.ranks_m[order_m].tobytes())
    return digest.hexdigest()[:16]
