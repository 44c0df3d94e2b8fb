"""One training as values: what decides its bytes, what changes while it runs, and the checkpoints of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError, NumericalError
from prune_cli.methods.training.data.augment import Augmentation
from prune_cli.methods.training.data.inputs import FloatArray, TrainingSet
from prune_cli.methods.training.loop.contract import Checkpoint, Learner, Structure
from prune_cli.methods.training.loop.data_parallel import ALONE, Ranks
from prune_cli.methods.training.loop.recording import PassLedger, Watch
from prune_cli.methods.training.loop.timetable import Schedule, StepPlan
from prune_cli.methods.training.networks.forward import Pieces

if TYPE_CHECKING:
    import torch

    from prune_cli.methods.training.networks.network import Network


@dataclass(frozen=True)
class Course:
    """One training run without its networks: data, plan, and everything that decides the bytes of the result.

    Args:
        augmentations: of the pictures, one for each view of a sample that the recipe wants; none for vectors.
        mean, std: (C,) float64, see `channel_statistics`.
        dtype: of convolutions and matrix products; float32, or bfloat16 under autocast. The head and the loss are always float32.
        workers: processes that decode a stream.
        settings: JSON values that a checkpoint must agree with.
        watch: what is recorded of every sample; None for nothing.
        last_step: where to stop, at the end of a pass, with the schedule of the whole plan; None for the plan's end.
        ranks: the processes that share every batch.
    """

    data: TrainingSet
    plan: StepPlan
    schedule: Schedule
    augmentations: tuple[Augmentation, ...]
    mean: FloatArray
    std: FloatArray
    learner: Learner
    structure: Structure
    seed: int
    device: torch.device
    dtype: torch.dtype
    workers: int
    settings: Mapping[str, Any]
    watch: Watch | None = None
    last_step: int | None = None
    ranks: Ranks = ALONE

    @property
    def n_steps(self) -> int:
        """Return the steps that are taken."""
        return self.plan.n_steps if self.last_step is None else min(self.last_step, self.plan.n_steps)


@dataclass(frozen=True)
class TrainingState:
    """Everything that changes while networks train, which is what a checkpoint holds.

    Args:
        networks: on the course's device, in its memory format; as many as the learner wants.
        optimizers: SGD over each network's parameters.
        course: its learner and its structure change with them.
    """

    networks: Sequence[Network]
    optimizers: Sequence[torch.optim.Optimizer]
    course: Course
    ledger: PassLedger
    pieces: Pieces


def take_snapshot(training: TrainingState, step: int) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return arrays by name and JSON values, from which `restore` goes on to the same bytes.

    Raises:
        NumericalError: a weight is NaN or infinite.
    """
    check_weights(training, step)
    course, ledger = training.course, training.ledger
    tensors = {f"sample/{name}": tensor for name, tensor in course.learner.arrays().items()}
    tensors |= {f"structure/{name}": tensor for name, tensor in course.structure.arrays().items()}
    for number, network, optimizer in _numbered(training):
        tensors |= {f"network{number}/{name}": tensor for name, tensor in network.state_dict().items()}
        for name, parameter in network.named_parameters():
            momentum = optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum{number}/{name}"] = momentum
    arrays = {name: np.array(tensor.detach().cpu().numpy(), order="C") for name, tensor in tensors.items()}
    state = {"step": step, "sums": ledger.sums(), "pieces": training.pieces.count, "settings": dict(course.settings)}
    state["structure"] = course.structure.state()
    if ledger.recorder is not None:
        recorded, state["record"] = ledger.recorder.state()
        arrays |= recorded
    return arrays, state


def restore(training: TrainingState, resume: Checkpoint) -> int:
    """Put a checkpoint into everything that trains, and return the step to go on with.

    Raises:
        InputError: it is of another run.
    """
    import torch

    learner, structure, settings = training.course.learner, training.course.structure, training.course.settings
    found = resume.state.get("settings", {})
    differing = [name for name in settings if found.get(name) != settings[name]]
    if differing:
        named = ", ".join(f"{name} (then {found.get(name)}, now {settings[name]})" for name in differing)
        raise InputError(f"the checkpoint is of another run: {named}", "repeat the settings of that run, or start anew")

    def stored(prefix: str) -> dict[str, torch.Tensor]:
        return {n.removeprefix(prefix): torch.from_numpy(np.array(t)) for n, t in resume.tensors.items() if n.startswith(prefix)}

    with torch.no_grad():
        gates = stored("structure/")
        for turn, (number, network, optimizer) in enumerate(_numbered(training)):
            shapes = {name: tensor.shape for name, tensor in stored(f"network{number}/").items()}
            change = structure.restore(turn, network, gates, resume.state.get("structure"), shapes)
            if change is not None:
                change(network, optimizer)
                learner.reshape(turn, change)
        learner.load(stored("sample/"))
        for number, network, optimizer in _numbered(training):
            weights, momenta = stored(f"network{number}/"), stored(f"momentum{number}/")
            for name, tensor in network.state_dict().items():
                tensor.copy_(weights[name])
            for name, parameter in network.named_parameters():
                if name in momenta:
                    momentum = torch.empty_like(parameter)  # the same memory format, which the fused update relies on
                    momentum.copy_(momenta[name])
                    optimizer.state[parameter]["momentum_buffer"] = momentum
    training.ledger.take_up(resume.state["sums"])
    training.pieces.count = int(resume.state.get("pieces", 1))
    if training.ledger.recorder is not None:
        training.ledger.recorder.take_up(resume.tensors, resume.state["record"])
    return int(resume.state["step"])


def _numbered(training: TrainingState) -> Iterator[tuple[str, Network, torch.optim.Optimizer]]:
    """Yield the networks and their optimisers with the number in their names: none for the first, then 2 and on."""
    for turn, (network, optimizer) in enumerate(zip(training.networks, training.optimizers, strict=True)):
        yield str(turn + 1) if turn else "", network, optimizer


def check_weights(training: TrainingState, step: int) -> None:
    """Raise where a weight is no longer finite.

    Raises:
        NumericalError: a weight is NaN or infinite.
    """
    import torch

    if not all(bool(torch.isfinite(t).all()) for n in training.networks for t in n.state_dict().values()):
        raise NumericalError(
            f"a weight is no longer finite after step {step} (epoch {training.ledger.number + 1})",
            "lower the learning rate (-p lr=), or warm up longer (-p warmup_fraction=)",
        )
