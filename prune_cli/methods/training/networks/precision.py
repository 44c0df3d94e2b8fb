"""Which precision a network computes in: convolutions and matrix products alone, the head is always float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
