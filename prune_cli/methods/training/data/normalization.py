"""Inputs of mean 0 and deviation 1: the statistics of what is trained on, and batches normalised by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from prune_cli.methods.training.data.inputs import FloatArray, Inputs, IntArray, picture_blocks

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STATISTICS_SAMPLES = 16_384
"""Most samples that the mean and standard deviation are taken from; enough for four digits of either."""

_STATISTICS_BLOCK = 64  # samples at a time


def channel_statistics(inputs: Inputs, order_m: IntArray, workers: int) -> tuple[FloatArray, FloatArray]:
    """Return the mean and the standard deviation of each channel (pictures) or feature (vectors).

    Up to `STATISTICS_SAMPLES` samples all are taken, above that as many, evenly spaced in the canonical order: in
    memory or streamed, and whatever the order of the rows, the numbers are the same.

    Args:
        inputs: what is trained on.
        order_m: (M,) positions in canonical order.
        workers: processes that decode a stream.
    Returns:
        Two (C,) or (D,) float64 arrays, pictures in units of the full scale (0 to 1); a deviation of 0 becomes 1.
    """
    m = len(order_m)
    n_taken = min(m, STATISTICS_SAMPLES)
    positions = order_m[np.arange(n_taken) * m // n_taken]
    blocks = np.array_split(positions, -(-n_taken // _STATISTICS_BLOCK))
    if isinstance(inputs, np.ndarray) and inputs.ndim == 2:
        mean = sum(inputs[block].sum(axis=0, dtype=np.float64) for block in blocks) / n_taken
        std = np.sqrt(sum(((inputs[block] - mean) ** 2).sum(axis=0) for block in blocks) / n_taken)
    else:
        channels = inputs.shape[-1]
        counts = np.zeros((channels, 256), dtype=np.int64)
        for pictures in picture_blocks(inputs, blocks, workers):
            for channel in range(channels):
                counts[channel] += np.bincount(pictures[..., channel].ravel(), minlength=256)
        levels = np.arange(256) / 255.0
        shares = counts / counts.sum(axis=1, keepdims=True)
        mean = shares @ levels
        std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(axis=1))
    return mean, np.where(std > 1e-6 * np.abs(mean), std, 1.0)  # below that it is rounding


def input_preparation(
    input_shape: tuple[int, ...], mean: FloatArray, std: FloatArray, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Return the function from a batch as `input_batches` yields it to what a network takes, normalised.

    Args:
        input_shape: (H, W, C) or (D,).
        mean, std: as `channel_statistics` gives them.
        device: where the batches are.
    """
    import torch

    full_scale = 255.0 if len(input_shape) == 3 else 1.0
    mean_c = torch.tensor(mean * full_scale, dtype=torch.float32, device=device)
    scale_c = torch.tensor(1.0 / (std * full_scale), dtype=torch.float32, device=device)
    if len(input_shape) == 3:
        return lambda images_bhwc: normalize(images_bhwc, mean_c, scale_c)
    return lambda vectors_bd: (vectors_bd - mean_c).mul_(scale_c)


def normalize(images_bhwc: Tensor, mean_c: Tensor, scale_c: Tensor) -> Tensor:
    """Return (pixel - mean) * scale as (B, C, H, W) float32, laid out channels-last.

    Args:
        images_bhwc: (B, H, W, C) uint8, or float32 in 0 to 255.
        mean_c: (C,) float32 in 0 to 255.
        scale_c: (C,) float32, one over the standard deviation.
    """
    import torch

    pixels = images_bhwc.to(torch.float32) - mean_c
    return pixels.mul_(scale_c).permute(0, 3, 1, 2)
