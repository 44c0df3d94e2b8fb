"""The two kinds of rows, pixels and embeddings, made from samples as they are stored or from packed arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError
from prune_cli.methods.scores.kernel.rows.contract import Rows
from prune_cli.methods.scores.kernel.rows.embeddings import EmbeddingRows, column_means
from prune_cli.methods.scores.kernel.rows.pixels import PixelRows, channel_moments


def make_rows(values_nd: NDArray[Any], channels: int | None = None, center: bool = False) -> Rows:
    """Return the samples with what standardises them: exact, and the same whatever the order of the rows.

    Pixels: (x - mean) / standard deviation, both of the whole data set for each channel, from whole-number sums; a
    channel that never varies does not count. Embeddings: as they are, or minus their mean with ``center``.

    Args:
        values_nd: (N, D) uint8 pixels, each row a flattened H x W x C picture, channel last; or (N, D) float32 or
            float64 embeddings, finite. Kept, not copied.
        channels: C for pixels, None for embeddings.
        center: subtract the mean of the embeddings.
    Raises:
        InputError: another shape or dtype, or ``center`` with pixels.
    Cost:
        One pass for pixels, none for embeddings, a sort of each column with ``center``.
    """
    if values_nd.ndim != 2 or 0 in values_nd.shape:
        raise InputError(f"the samples have shape {values_nd.shape}", "give a (samples, features) array, not empty")
    if channels is None:
        if values_nd.dtype not in (np.float32, np.float64):
            raise InputError(f"embeddings are {values_nd.dtype}", "give float32 or float64")
        return EmbeddingRows(values_nd, column_means(values_nd) if center else None)
    if values_nd.dtype != np.uint8 or channels < 1 or values_nd.shape[1] % channels:
        raise InputError(
            f"pixels are {values_nd.dtype} in rows of {values_nd.shape[1]} with {channels} channel(s)",
            "give uint8 rows of height x width x channels numbers, channel last",
        )
    if center:
        raise InputError("center=true was given with pixels", "leave it out: pixels are always standardised")
    mean, variance = channel_moments(values_nd, channels)
    return PixelRows(values_nd, mean, np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0))


def unpack_rows(arrays: Mapping[str, NDArray[Any]]) -> Rows:
    """Return the rows that `Rows.pack` made arrays of: standardised as they were among all of them."""
    if "weight" in arrays:
        return PixelRows(arrays["rows"], arrays["mean"], arrays["weight"])
    return EmbeddingRows(arrays["rows"], arrays.get("mean"))
