"""How alike two samples are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_cli.methods.selection.neighbors.nearest import Metric

Precision = Literal["auto", "float32", "float64", "bfloat16"]

FLOAT64_ROWS = 16_384
"""Up to this many samples ``auto`` computes similarities in float64: every digit counts in a short order."""

_CHUNK = 65_536


@dataclass(frozen=True)
class Similarity:
    """How alike two samples are: ``s(x, v) = 1 - h_x - h_v + x . v / 2``, 1 for a sample and itself.

    Args:
        rows_nd: (N, D) float32 or float64: at length 1 (cosine), or less their mean and divided by their scale.
        half_n: (N,) of the same dtype, a quarter of the squared length of each row.
        device: where products run.
        half_precision: compute products in bfloat16.
    """

    rows_nd: np.ndarray
    half_n: np.ndarray
    device: str = "auto"
    half_precision: bool = False

    def __len__(self) -> int:
        return len(self.rows_nd)

    def take(self, order_n: np.ndarray) -> Similarity:
        """Return the same of the samples in another order."""
        return dataclasses.replace(self, rows_nd=self.rows_nd[order_n], half_n=self.half_n[order_n])


def resolve_precision(precision: Precision, n_samples: int) -> Precision:
    """Return what ``auto`` means for so many samples: float64 up to 16,384 and float32 beyond."""
    if precision != "auto":
        return precision
    return "float64" if n_samples <= FLOAT64_ROWS else "float32"


def prepare_similarity(
    features_nd: np.ndarray,
    metric: Metric = "cosine",
    precision: Precision = "auto",
    device: str = "auto",
    spread: tuple[np.ndarray, float] | None = None,
) -> Similarity:
    """Return the rows scaled so that one formula gives both similarities.

    Cosine: ``s = 1/2 + cos / 2``. Euclidean: ``s = 1 - |x - v|^2 / (4 r^2)`` with r the root mean square distance to the mean:
    the same number as the cosine's where the samples lie on a sphere around their mean.

    Args:
        features_nd: (N, D) float32, finite, no row of zeros for the cosine.
        metric: ``cosine`` or ``euclidean``.
        precision: of the products; ``auto`` is float64 up to 16,384 samples and float32 beyond.
        device: where products run.
        spread: for the euclidean, (D,) mean and r^2 of the samples that these are some of; None: these are all.
    Example:
        >>> found = prepare_similarity(np.array([[2.0, 0.0], [0.0, 3.0]], np.float32))
        >>> float(1 - found.half_n.sum() + found.rows_nd[0] @ found.rows_nd[1] / 2)
        0.5
    """
    n_samples = len(features_nd)
    in_float64 = resolve_precision(precision, n_samples) == "float64"
    rows_nd = np.array(features_nd, np.float64 if in_float64 else np.float32)
    half_n = np.full(n_samples, 0.25, rows_nd.dtype)
    if metric == "cosine":
        for start in range(0, n_samples, _CHUNK):
            part = rows_nd[start : start + _CHUNK]
            lengths = np.linalg.norm(part.astype(np.float64), axis=1, keepdims=True)
            np.divide(part, np.where(lengths > 0, lengths, 1.0).astype(rows_nd.dtype), out=part)
    elif n_samples:
        if spread is None:
            total = sum(rows_nd[s : s + _CHUNK].sum(axis=0, dtype=np.float64) for s in range(0, n_samples, _CHUNK))
        mean_d = total / n_samples if spread is None else spread[0]
        np.subtract(rows_nd, mean_d.astype(rows_nd.dtype), out=rows_nd)
        squares = np.concatenate(
            [(rows_nd[s : s + _CHUNK].astype(np.float64) ** 2).sum(axis=1) for s in range(0, n_samples, _CHUNK)]
        )
        scale = (squares.mean() if spread is None else spread[1]) or 1.0
        np.divide(rows_nd, rows_nd.dtype.type(np.sqrt(scale)), out=rows_nd)
        half_n = (squares / scale / 4).astype(rows_nd.dtype)
    return Similarity(rows_nd, half_n, device, precision == "bfloat16")
