"""One training as values: what decides its bytes, and what changes while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prune_cli.methods.training.data.augment import Augmentation
from prune_cli.methods.training.data.inputs import FloatArray, TrainingSet
from prune_cli.methods.training.data.pieces import Pieces
from prune_cli.methods.training.loop.contract import Learner, Structure
from prune_cli.methods.training.loop.data_parallel import ALONE, Ranks
from prune_cli.methods.training.loop.recording import PassLedger, Watch
from prune_cli.methods.training.loop.timetable import Schedule, StepPlan

if TYPE_CHECKING:
    import torch

    from prune_cli.methods.training.networks.network import Network


@dataclass(frozen=True)
class Course:
    """One training run without its networks: data, plan, and everything that decides the bytes of the result.

    Args:
        data: what is trained on.
        plan: how the stream is cut.
        augmentations: of the pictures, one for each view of a sample that the recipe wants; none for vectors.
        mean, std: (C,) float64, see `channel_statistics`.
        learner: what the recipe makes of a batch.
        structure: what becomes of the networks' units and layers.
        device: where it runs.
        dtype: of convolutions and matrix products; float32, or bfloat16 under autocast. The head and the loss are
            always float32.
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
        ledger: of the pass under way.
        pieces: into which a batch is cut.
    """

    networks: Sequence[Network]
    optimizers: Sequence[torch.optim.Optimizer]
    course: Course
    ledger: PassLedger
    pieces: Pieces
