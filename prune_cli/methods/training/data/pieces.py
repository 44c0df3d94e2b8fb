"""Batches in pieces: what happens where a device has not the memory for a whole one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from prune_cli.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

ResultT = TypeVar("ResultT")


@dataclass
class Pieces:
    """Into how many pieces a batch is cut on its way through a device that has not the memory for all of it at once.

    Args:
        note: told once, when the first batch is cut.
        count: pieces of a batch.
    """

    note: Callable[[str], None]
    count: int = 1

    def halve(self, size: int, error: Exception) -> None:
        """Cut the pieces in halves, and tell the user the first time.

        Raises:
            InputError: a piece is down to two samples already.
        """
        if self.count * 4 > size:
            raise InputError(
                f"the device has not the memory for {-(-size // self.count)} samples: {str(error).splitlines()[0]}",
                "use a smaller network, smaller pictures (--image-size), or another --device",
            ) from error
        self.count *= 2
        if self.count == 2:
            self.note(
                "the device's memory does not hold a batch: batches go through it in pieces, their gradients added"
                " up (batch-norm sees each piece by itself)"
            )


def is_out_of_memory(error: Exception) -> bool:
    """Return whether torch says that a device, or the machine, has not the memory."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def in_pieces(
    inputs_b: Tensor,
    labels_b: Tensor,
    pieces: Pieces,
    work: Callable[[Tensor, Tensor], ResultT],
    restart: Callable[[], None] = lambda: None,
) -> list[ResultT]:
    """Return what ``work`` makes of each piece of a batch; where the memory runs out, all again in smaller ones."""
    while True:
        try:
            parts = zip(inputs_b.tensor_split(pieces.count), labels_b.tensor_split(pieces.count), strict=True)
            return [work(*part) for part in parts]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            pieces.halve(len(labels_b), error)
        restart()


def joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Return the pieces as one tensor."""
    import torch

    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts), dim=dim)
