"""Batches through a network: in which precision, and in pieces where a device has not the memory for a whole one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from prune_cli.core.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_cli.methods.training.networks.network import Network


def embed_and_classify(network: Network, inputs_b: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the embeddings (B, D) and the logits (B, C), float32 both.

    Args:
        inputs_b: (B, ...) float32 as it takes them, on its device.
        dtype: of what the embeddings are computed in; bfloat16 under autocast.
    """
    import torch

    with torch.autocast(inputs_b.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        features_bd = network.features(inputs_b)
    features_bd = features_bd.float()
    return features_bd, network.head(features_bd)


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


ResultT = TypeVar("ResultT")


@dataclass
class Pieces:
    """Into how many pieces a batch is cut on its way through a device that has not the memory for all of it at once.

    Args:
        note: told once, when the first batch is cut.
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


def in_pieces(
    inputs_b: Tensor,
    labels_b: Tensor,
    pieces: Pieces,
    work: Callable[[Tensor, Tensor], ResultT],
    restart: Callable[[], None] = lambda: None,
) -> list[ResultT]:
    """Return what ``work`` makes of each piece of a batch; where the memory runs out, all again in smaller ones."""
    import torch

    while True:
        try:
            parts = zip(inputs_b.tensor_split(pieces.count), labels_b.tensor_split(pieces.count), strict=True)
            return [work(*part) for part in parts]
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
                raise
            pieces.halve(len(labels_b), error)
        restart()


def joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Return the pieces as one tensor."""
    import torch

    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts), dim=dim)
