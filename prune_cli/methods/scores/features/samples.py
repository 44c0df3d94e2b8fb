"""What every score from features asks of its samples, and the lengths of their rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import FloatArray, IntArray, chunks
from prune_cli.core.errors import InputError
from prune_cli.methods.devices import resolve_device

_LARGEST = 1e100  # a feature beyond this would overflow when squared and summed


def check_samples(features_nd: NDArray[Any], codes_n: NDArray[Any], order_n: IntArray | None, device: str) -> NDArray[np.int64]:
    """Return the canonical order, once everything fits.

    Args:
        features_nd: (N, D) float32 or float64, finite.
        codes_n: (N,) int class of each sample, 0 or more.
        order_n: (N,) positions in canonical order; None: as they come.
        device: as ``--device`` names it.
    Raises:
        InputError: arrays that do not fit each other, another dtype, a feature that is not finite, an unknown device.
        UnavailableError: a device that is not there.
    """
    if features_nd.ndim != 2 or 0 in features_nd.shape:
        raise InputError(f"the features have shape {features_nd.shape}", "give a (samples, features) array, not empty")
    if features_nd.dtype not in (np.float32, np.float64):
        raise InputError(f"the features are {features_nd.dtype}", "give float32 or float64")
    n_samples, n_features = features_nd.shape
    if codes_n.shape != (n_samples,) or codes_n.dtype.kind not in "iu":
        raise InputError(
            f"the class codes have shape {codes_n.shape} and dtype {codes_n.dtype} for {n_samples} samples",
            "give one integer for each sample",
        )
    if codes_n.min() < 0:
        raise InputError(f"a class code is {codes_n.min()}", "give codes of 0 or more")
    largest = min(_LARGEST, float(np.finfo(features_nd.dtype).max))
    for part in chunks(n_samples, n_features):
        bad = ~(np.abs(features_nd[part]) <= largest).all(axis=1)
        if bad.any():
            raise InputError(
                f"the features at position {part.start + int(bad.argmax())} are NaN, infinite or beyond {_LARGEST:g}",
                "leave such rows out before scoring, or scale the features",
            )
    resolve_device(device)
    if order_n is None:
        return np.arange(n_samples)
    if not np.array_equal(np.sort(order_n), np.arange(n_samples)):
        raise InputError(f"the order is not one of {n_samples} positions", "give each position from 0 to N - 1 once (np.argsort(ids))")
    return order_n


def row_lengths(rows_bd: FloatArray) -> FloatArray:
    """Return the (B,) Euclidean lengths of the rows."""
    return np.asarray(np.sqrt(np.einsum("bd,bd->b", rows_bd, rows_bd)))
