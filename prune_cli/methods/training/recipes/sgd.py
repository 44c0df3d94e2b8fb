"""SGD, by which all recipes train: its parameters, networks from the seed, the loop they run on; and the plain recipe."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError
from prune_cli.core.params import param
from prune_cli.core.rng import stream_seed
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.training.data.augment import AugmentName, choose_augmentation
from prune_cli.methods.training.data.inputs import channel_statistics
from prune_cli.methods.training.loop.contract import Forward, Learner, StepSamples, Structure
from prune_cli.methods.training.loop.course import Course
from prune_cli.methods.training.loop.data_parallel import process_group
from prune_cli.methods.training.loop.steps import all_logits, train_networks
from prune_cli.methods.training.loop.timetable import BATCH_SIZE, Schedule, StepPlan, plan_steps
from prune_cli.methods.training.networks.architectures import Architecture, parse_architecture
from prune_cli.methods.training.networks.forward import Pieces, choose_precision
from prune_cli.methods.training.recipes.job import TrainedModel, TrainingJob, require_shareable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_cli.methods.training.networks.network import Network, NetworkCost

LearnerT = TypeVar("LearnerT", bound=Learner)


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
class Learned(Generic[LearnerT]):
    """What `run_recipe` leaves: the networks, what the recipe knows, and a look at the samples with each.

    Args:
        networks: as they are after the last step.
        probs: a network (or a copy of it) and its number (0) -> (M, C) float64 probabilities of all samples it was trained on,
            un-augmented.
        model: see `TrainedModel`.
    """

    networks: Sequence[Network]
    learner: LearnerT
    probs: Callable[..., NDArray[np.float64]]
    model: dict[str, Any]


def run_recipe(
    recipe: str,
    job: TrainingJob,
    params: SgdParams,
    make_learner: Callable[[torch.device, Sequence[Network]], LearnerT],
    *,
    views: Sequence[AugmentName] | None = None,
    n_networks: int = 1,
) -> Learned[LearnerT]:
    """Build networks and train them by SGD on the selected samples, as the learner of a recipe says.

    The order of the samples and their augmentation are drawn over the whole data set, so that trainings on two
    selections are paired. Inputs are normalised by the statistics of what is trained on.

    Args:
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

    from prune_cli.methods.training.networks.network import network_cost

    data, runtime = job.data, job.runtime
    kind = parse_architecture(job.architecture)
    plan = plan_steps(job.budget, len(data), BATCH_SIZE if runtime.batch_size is None else runtime.batch_size)
    require_shareable(recipe, job.structure is not None, job.launch.size, plan.n_samples // plan.n_steps)
    device = resolve_device(runtime.device)
    networks = _first_networks(recipe, job, kind, n_networks)
    cost, convolutional = network_cost(networks[0], data.input_shape), networks[0].is_convolutional
    dtype = choose_precision(runtime.precision, device, networks[0].gains_from_tiles)
    structure = Structure()
    if job.structure is not None:
        structure = job.structure(networks, data.input_shape, plan.n_steps, runtime.seed, device)
    memory_format = torch.channels_last if convolutional else torch.contiguous_format
    networks = [n.to(device=device, memory_format=memory_format) for n in networks]  # type: ignore[call-overload]
    mean, std = channel_statistics(data.inputs, data.order_m(), runtime.worker_count())
    learner = make_learner(device, networks)
    course = Course(
        data=data,
        plan=plan,
        schedule=_schedule(params, kind, plan),
        augmentations=tuple(
            choose_augmentation(name, data.input_shape, params.crop_padding, params.min_crop_area, convolutional)
            for name in views or (params.augment,)
        ),
        mean=mean,
        std=std,
        learner=learner,
        structure=structure,
        seed=runtime.seed,
        device=device,
        dtype=dtype,
        workers=runtime.worker_count(),
        settings=_settings(recipe, job, params, kind, plan, dtype),
        watch=job.watch,
        last_step=None if job.stop_epoch is None else plan.step_of(job.stop_epoch),
    )
    nesterov, decay = params.nesterov and params.momentum > 0, params.weight_decay
    how: dict[str, Any] = {"momentum": params.momentum, "weight_decay": decay, "nesterov": nesterov, "fused": True}
    optimizers = [torch.optim.SGD(network.parameters(), course.schedule.peak, **how) for network in networks]
    with process_group(job.launch, device) as ranks:
        ranks.check_alike(repr((course.settings, mean.tolist(), std.tolist())))
        train_networks(networks, optimizers, dataclasses.replace(course, ranks=ranks), job.observer, job.resume)

    def probs(network: Network, number: int = 0) -> NDArray[np.float64]:
        logits_mc = all_logits(network, course, Pieces(job.observer.on_note), number)
        found: NDArray[np.float64] = logits_mc.double().softmax(1).cpu().numpy()
        return found

    return Learned(networks, learner, probs, _described(course, cost, convolutional))


def _first_networks(recipe: str, job: TrainingJob, kind: Architecture, n_networks: int) -> list[Network]:
    """Return networks on the CPU, with the first weights that the job has for them or weights from the seed."""
    from prune_cli.methods.training.networks.building import build_network
    from prune_cli.methods.training.networks.network import load_tensors

    seed = job.runtime.seed
    seeds = [seed, *(stream_seed(seed, "network", k) >> 16 for k in range(1, n_networks))]
    networks = [build_network(str(kind), job.data.input_shape, job.data.n_classes, seed) for seed in seeds]
    if len(job.initial) > n_networks:
        raise InputError(f"first weights for {len(job.initial)} networks, and {recipe} trains {n_networks}", "leave some out")
    for network, tensors in zip(networks, job.initial, strict=False):
        load_tensors(network, tensors)
    return networks


def _schedule(params: SgdParams, kind: Architecture, plan: StepPlan) -> Schedule:
    peak = kind.known.rate if params.lr is None else params.lr
    n_warmup = round(params.warmup_fraction * plan.n_steps)
    return Schedule(peak, plan.n_steps, n_warmup, params.final_lr_fraction, params.schedule == "cosine")


def _settings(recipe: str, job: TrainingJob, params: SgdParams, kind: Architecture, plan: StepPlan, dtype: torch.dtype) -> dict[str, Any]:
    """Return the JSON values that a checkpoint must agree with; those of the data do not depend on the order of the rows."""
    data, order_m = job.data, job.data.order_m()
    return {
        "recipe": recipe,
        "params": dataclasses.asdict(params),
        "architecture": str(kind),
        "seed": job.runtime.seed,
        "steps": plan.n_steps,
        "samples": plan.n_samples,
        "precision": str(dtype).removeprefix("torch."),
        "data": _digest([str(data.input_shape).encode(), data.labels_m[order_m].tobytes(), data.ranks_m[order_m].tobytes()]),
        "stop_epoch": job.stop_epoch,
        "initial": [_digest(part for n in sorted(t) for part in (n.encode(), np.asarray(t[n], np.float32).tobytes())) for t in job.initial],
    }


def _described(course: Course, cost: NetworkCost, convolutional: bool) -> dict[str, Any]:
    """Return what `TrainedModel` says of a network."""
    return {
        "architecture": course.settings["architecture"],
        "input_size": list(course.data.input_shape),
        "normalization": {"mean": course.mean.tolist(), "std": course.std.tolist()},
        "parameters": cost.parameters,
        "flops": cost.flops,
        "n_classes": course.data.n_classes,
        "memory_format": "channels_last" if convolutional else "contiguous",
        "precision": course.settings["precision"],
        **course.structure.described(),
    }


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class StandardParams(SgdParams):
    """Parameters of standard training."""

    label_smoothing: float = param(0.0, "share of each label spread over all classes", low=0.0, high=0.999)


class CrossEntropy(Learner):
    """Cross-entropy with the given labels."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self._label_smoothing = label_smoothing

    def losses(self, turn: int, forward: Forward, samples: StepSamples) -> tuple[Tensor, Tensor]:
        """Return the logits and the cross-entropy of each sample."""
        import torch.nn.functional as F

        logits_bc = forward(turn, samples.views[0])
        return logits_bc, F.cross_entropy(logits_bc, samples.labels_b, reduction="none", label_smoothing=self._label_smoothing)


def train_standard(job: TrainingJob, params: StandardParams) -> TrainedModel:
    """Return a network trained by cross-entropy and SGD on the selected samples.

    The order of the samples and their augmentation are drawn over the whole data set, so that trainings on two
    selections are paired. Inputs are normalised by the statistics of what is trained on.

    Args:
        job: what is trained on what, see `TrainingJob`.
    Returns:
        The network after the last step, never "the best" one. The same arguments, device and number of threads give
        the same bytes, with or without interruptions.
    Raises:
        InputError, NumericalError, InterruptedRun: as `run_recipe`.
    Cost:
        Three forward passes a presentation; the set itself as uint8 on the device unless it is streamed.
    Source:
        He 2016; label smoothing, Szegedy 2016; cosine decay, Loshchilov 2017. Deviations: learning rates are ours,
        measured on short budgets; the batches of one pass are of equal size.
    """
    from prune_cli.methods.training.networks.network import export_tensors

    learned = run_recipe("standard", job, params, lambda device, networks: CrossEntropy(params.label_smoothing))
    return TrainedModel(export_tensors(learned.networks[0]), learned.model)
