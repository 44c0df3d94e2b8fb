"""What all recipes share: SGD and its parameters, networks from the seed, precision, and the loop they run on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError
from prune_cli.core.params import param
from prune_cli.core.rng import stream_seed
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.training.data.augment import AugmentName, choose_augmentation
from prune_cli.methods.training.data.inputs import TrainingSet, channel_statistics
from prune_cli.methods.training.loop.data_parallel import joined, require_shareable
from prune_cli.methods.training.loop.job import Relabels, Tensors, TrainingJob
from prune_cli.methods.training.loop.loop import Course, look, train_networks
from prune_cli.methods.training.loop.pieces import Pieces
from prune_cli.methods.training.loop.structure import Structure
from prune_cli.methods.training.loop.timetable import Schedule, StepPlan, plan_steps
from prune_cli.methods.training.networks.architectures import TORCHVISION, parse_architecture
from prune_cli.methods.training.recipes.learner import Learner

if TYPE_CHECKING:
    import torch

    from prune_cli.methods.training.networks.networks import Network

BATCH_SIZE = 128
"""Samples a step where ``--batch-size`` says nothing."""

_RATES: Mapping[str, float] = {
    "linear": 0.05,
    "mlp": 0.05,
    "lenet5": 0.05,
    "resnet9": 0.4,
    "resnet18": 0.1,
    "resnet20": 0.1,
    "resnet56": 0.1,
    "preactresnet18": 0.05,
    "vgg16": 0.05,
    TORCHVISION: 0.05,
}
"""Learning rate where the parameter says nothing, for batches of about 128."""


@dataclass(frozen=True)
class SgdParams:
    """Parameters that every recipe has: SGD, its learning rates, augmentation."""

    lr: float | None = param(None, "highest learning rate; none: by architecture, for batches of about 128", low=0.0)
    momentum: float = param(0.9, "momentum of SGD", low=0.0, high=0.999)
    nesterov: bool = param(True, "Nesterov's form of the momentum")
    weight_decay: float = param(5e-4, "weight of half the squared norm of all parameters", low=0.0)
    schedule: Literal["cosine", "constant"] = param("cosine", "learning rate after the warm-up")
    warmup_fraction: float = param(0.1, "share of the steps in which the rate rises from 0", low=0.0, high=0.99)
    final_lr_fraction: float = param(0.0, "where the cosine ends, as a share of lr", low=0.0, high=1.0)
    augment: AugmentName = param("auto", "auto: by picture size, mirrored only in colour; strong: RandAugment, Cutout")  # noqa: RUF009
    crop_padding: int | None = param(None, "most pixels of shift; none: a sixteenth of the shorter side", low=0)
    min_crop_area: float = param(0.35, "smallest share of the area that a resized crop keeps", low=0.01, high=1.0)


@dataclass(frozen=True)
class RelabelParams(SgdParams):
    """Parameters that every recipe that re-labels has."""

    change_above: float = param(0.5, "probability another class must exceed to be the new label", low=0.5, high=1.0)


@dataclass(frozen=True)
class Learned:
    """What `run_recipe` leaves: the networks, and a look at the samples with each.

    Args:
        networks: as they are after the last step.
        probs: a network (or a copy of it) and its number (0) -> (M, C) float64 probabilities of all samples it was trained on,
            un-augmented.
        model: see `TrainedModel`.
    """

    networks: Sequence[Network]
    probs: Callable[..., NDArray[np.float64]]
    model: dict[str, Any]


def run_recipe(
    recipe: str,
    job: TrainingJob,
    params: SgdParams,
    make_learner: Callable[[torch.device, Sequence[Network]], Learner],
    *,
    views: Sequence[AugmentName] | None = None,
    n_networks: int = 1,
) -> Learned:
    """Build networks and train them by SGD on the selected samples, as the learner of a recipe says.

    The order of the samples and their augmentation are drawn over the whole data set, so that trainings on two
    selections are paired. Inputs are normalised by the statistics of what is trained on.

    Args:
        recipe: its name.
        job: see `TrainingJob`.
        params: of the recipe, all that SGD needs among them.
        make_learner: device and networks -> what the recipe makes of a batch.
        views: the augmentations a sample is seen with, or None for that of the parameters.
        n_networks: networks with first weights of their own.
    Raises:
        InputError: an architecture that does not fit the inputs, a precision that is not known, a batch below 2,
            a checkpoint of another run, first weights of another network or for more networks than there are, or several
            processes for a recipe or a structure that trains in one, with a batch too small, or with different data.
        NumericalError: the loss is no longer finite.
        InterruptedRun: the observer asked to stop.
    """
    import torch

    from prune_cli.methods.training.networks.networks import build_network, load_tensors, network_cost

    data, runtime = job.data, job.runtime
    kind = parse_architecture(job.architecture)
    plan = plan_steps(job.budget, len(data), BATCH_SIZE if runtime.batch_size is None else runtime.batch_size)
    _check_shares(recipe, job, plan)
    device = resolve_device(runtime.device)
    seeds = [runtime.seed, *(stream_seed(runtime.seed, "network", k) >> 16 for k in range(1, n_networks))]
    networks = [build_network(str(kind), data.input_shape, data.n_classes, seed) for seed in seeds]
    if len(job.initial) > n_networks:
        raise InputError(
            f"first weights for {len(job.initial)} networks, and {recipe} trains {n_networks}", "leave some out"
        )
    for network, tensors in zip(networks, job.initial, strict=False):
        load_tensors(network, tensors)
    cost = network_cost(networks[0], data.input_shape)
    convolutional = networks[0].is_convolutional
    dtype = choose_precision(runtime.precision, device, networks[0].gains_from_tiles)
    structure = Structure()
    if job.structure is not None:
        structure = job.structure(networks, data.input_shape, plan.n_steps, runtime.seed, device)
    memory_format = torch.channels_last if convolutional else torch.contiguous_format
    networks = [n.to(device=device, memory_format=memory_format) for n in networks]  # type: ignore[call-overload]
    mean, std = channel_statistics(data.inputs, data.order_m(), runtime.worker_count())
    peak = _RATES[kind.name] if params.lr is None else params.lr
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
        augmentations=tuple(
            choose_augmentation(name, data.input_shape, params.crop_padding, params.min_crop_area, convolutional)
            for name in views or (params.augment,)
        ),
        mean=mean,
        std=std,
        learner=make_learner(device, networks),
        structure=structure,
        seed=runtime.seed,
        device=device,
        dtype=dtype,
        workers=runtime.worker_count(),
        settings={
            "recipe": recipe,
            "params": dataclasses.asdict(params),
            "architecture": str(kind),
            "seed": runtime.seed,
            "steps": plan.n_steps,
            "samples": plan.n_samples,
            "precision": str(dtype).removeprefix("torch."),
            "data": _fingerprint(data),
            "stop_epoch": job.stop_epoch,
            "initial": [_digest(tensors) for tensors in job.initial],
        },
        watch=job.watch,
        last_step=None if job.stop_epoch is None else plan.step_of(job.stop_epoch),
    )
    optimizers = [
        torch.optim.SGD(
            network.parameters(),
            lr=peak,
            momentum=params.momentum,
            nesterov=params.nesterov and params.momentum > 0,
            weight_decay=params.weight_decay,
            fused=True,
        )
        for network in networks
    ]
    with joined(job.launch, device) as ranks:
        ranks.check_alike(repr((course.settings, course.mean.tolist(), course.std.tolist())))
        train_networks(networks, optimizers, dataclasses.replace(course, ranks=ranks), job.observer, job.resume)

    def probs(network: Network, number: int = 0) -> NDArray[np.float64]:
        logits_mc = look(network, course, Pieces(job.observer.on_note), number)
        found: NDArray[np.float64] = logits_mc.double().softmax(1).cpu().numpy()
        return found

    model = {
        "architecture": str(kind),
        "input_size": list(data.input_shape),
        "normalization": {"mean": mean.tolist(), "std": std.tolist()},
        "parameters": cost.parameters,
        "flops": cost.flops,
        "n_classes": data.n_classes,
        "memory_format": "channels_last" if convolutional else "contiguous",
        "precision": course.settings["precision"],
        **structure.described(),
    }
    return Learned(networks, probs, model)


def _check_shares(recipe: str, job: TrainingJob, plan: StepPlan) -> None:
    size, smallest = job.launch.size, plan.n_samples // plan.n_steps
    require_shareable(recipe, job.structure is not None, size)
    if size > 1 and smallest < 2 * size:
        raise InputError(
            f"a batch of {smallest} for {size} processes",
            f"give --batch-size {2 * size} or more: it is that of all processes together",
        )


def weak_and_strong(data: TrainingSet, params: SgdParams) -> tuple[AugmentName, AugmentName]:
    """Return the augmentations of two views: the recipe's, and the strong one for pictures that it fits."""
    pictures = len(data.input_shape) == 3 and data.input_shape[2] in {1, 3}
    return params.augment, "strong" if pictures else params.augment


def relabel(
    probs_mc: NDArray[np.float64],
    labels_m: NDArray[np.int64],
    change_above: float = 0.5,
    p_clean_m: NDArray[np.float64] | None = None,
) -> Relabels:
    """Return the labels that probabilities speak for: another one where it is likely enough, and the given one is not likely.

    Args:
        probs_mc: (M, C) rows that sum to 1.
        labels_m: (M,) given labels.
        change_above: what the probability of another class must exceed.
        p_clean_m: (M,) how likely they are right; None: their probability.
    Example:
        >>> found = relabel(np.array([[0.2, 0.7, 0.1], [0.3, 0.4, 0.3]]), np.array([0, 0]))
        >>> found.codes_m.tolist(), found.p_clean_m.tolist(), found.confidence_m.tolist()
        ([1, 0], [0.2, 0.3], [0.7, 0.4])
    """
    of_label = probs_mc[np.arange(len(labels_m)), labels_m]
    p_clean = of_label if p_clean_m is None else p_clean_m
    best, confidence = probs_mc.argmax(axis=1), probs_mc.max(axis=1)
    return Relabels(np.where((confidence > change_above) & (p_clean < 0.5), best, labels_m), p_clean, confidence)


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


def _digest(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.asarray(tensors[name], np.float32).tobytes())
    return digest.hexdigest()[:16]
