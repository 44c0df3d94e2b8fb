"""Which trainings several processes may share."""

from __future__ import annotations

from prune_cli.core.errors import InputError
from prune_cli.methods.registry.lookup import methods_of
from prune_cli.methods.training.loop.timetable import StepPlan
from prune_cli.methods.training.recipes.job import TrainingJob


def require_shareable(recipe: str, structure: bool, size: int) -> None:
    """Raise where a training runs in one process alone.

    Args:
        recipe: its name.
        structure: whether the network shrinks.
        size: processes.
    Raises:
        InputError: several processes for a recipe that keeps something of every sample, or for a network that shrinks.
    """
    shareable = [method.name for method in methods_of("recipe").values() if method.shares_batches]
    if size == 1 or (recipe in shareable and not structure):
        return
    what = "a network that shrinks (--structure)" if structure else f"--recipe {recipe}"
    raise InputError(
        f"{what} trains in one process, not in {size}",
        f"start it without torchrun; several share the batches of: {', '.join(shareable)}",
    )


def require_shares(recipe: str, job: TrainingJob, plan: StepPlan) -> None:
    """Raise where the processes of a training cannot share its batches.

    Raises:
        InputError: as `require_shareable`, or batches of fewer than two samples for each.
    """
    size, smallest = job.launch.size, plan.n_samples // plan.n_steps
    require_shareable(recipe, job.structure is not None, size)
    if size > 1 and smallest < 2 * size:
        raise InputError(
            f"a batch of {smallest} for {size} processes",
            f"give --batch-size {2 * size} or more: it is that of all processes together",
        )
