"""Which trainings several processes may share."""

from __future__ import annotations

from prune_cli.core.errors import InputError
from prune_cli.methods.registry.lookup import methods_of


def require_shareable(recipe: str, structure: bool, size: int, smallest: int | None = None) -> None:
    """Raise where several processes cannot share the batches of a training.

    Args:
        recipe: its name.
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
            f"a batch of {smallest} for {size} processes",
            f"give --batch-size {2 * size} or more: it is that of all processes together",
        )
