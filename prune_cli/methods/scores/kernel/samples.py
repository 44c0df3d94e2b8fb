"""What every kernel score starts from: samples, their classes, their canonical order and the kernel between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import IntArray
from prune_cli.core.errors import InputError
from prune_cli.methods.scores.kernel.kernels import Kernel, ReluKernel, parse_kernel
from prune_cli.methods.scores.kernel.params import KernelParams
from prune_cli.methods.scores.kernel.rows.contract import Rows
from prune_cli.methods.scores.kernel.rows.kinds import make_rows


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples that were checked.

    Args:
        rows: as a closed form sees them.
        codes_n: (N,) int, the class of each.
        n_classes: C, one more than the largest class.
        order_n: (N,) positions in canonical order.
    """

    rows: Rows
    kernel: Kernel
    codes_n: NDArray[Any]
    n_classes: int
    order_n: IntArray

    def unit_rows(self) -> NDArray[np.float32]:
        """Return (N, D) float32 rows of unit length, as a closed form sees them."""
        return np.concatenate([self.rows.some(part) for part in self.rows.chunks(np.arange(self.rows.n_samples))])


def make_samples(
    values: NDArray[Any],
    codes_n: NDArray[Any],
    params: KernelParams,
    *,
    channels: int | None = None,
    order_n: IntArray | None = None,
    kernel: Kernel | None = None,
) -> Samples:
    """Return the samples with the kernel that the parameters name, or the one that is there already.

    Args:
        values: (N, D) or (N, H, W, C) uint8 pixels, or (N, D) float32 or float64 embeddings.
        codes_n: (N,) int class of each sample, 0 or more.
        channels: of the pixels, where they are flat; None for embeddings.
        order_n: positions in canonical order; None: as they come.
    Raises:
        InputError: arrays that do not fit each other, fewer than two classes, or an unknown kernel.
        UnavailableError: the kernel needs an extra that is missing.
    """
    name = parse_kernel(params.kernel)
    shape = values.shape[1:] if values.ndim == 4 else None
    if shape is not None:
        channels = int(shape[2])
    rows = make_rows(values.reshape(len(values), -1), channels, params.center)
    order_n = np.arange(rows.n_samples) if order_n is None else order_n
    _check(rows, codes_n, order_n)
    if kernel is not None:
        if kernel.n_samples != rows.n_samples:
            raise InputError(f"the kernel is of {kernel.n_samples} samples, and there are {rows.n_samples}", "give its own")
    elif name.network is None:
        kernel = ReluKernel(rows, name.depth)
    else:
        from prune_cli.methods.scores.kernel.neural_tangents import TangentKernel, find_network

        if shape is None and channels is not None:
            side = round((rows.n_features / channels) ** 0.5)
            if side * side * channels != rows.n_features:
                raise InputError(
                    f"rows of {rows.n_features} pixels of {channels} channel(s) are no square pictures",
                    "give pictures as (N, height, width, channels)",
                )
            shape = (side, side, channels)
        kernel = TangentKernel(rows, find_network(name.network), shape)
    return Samples(rows, kernel, codes_n, int(codes_n.max()) + 1, order_n)


def _check(rows: Rows, codes_n: NDArray[Any], order_n: IntArray) -> None:
    if codes_n.shape != (rows.n_samples,) or not np.issubdtype(codes_n.dtype, np.integer) or codes_n.min() < 0:
        raise InputError(
            f"classes are {codes_n.dtype} {codes_n.shape} for {rows.n_samples} samples", "give one whole number, 0 or more, a sample"
        )
    if order_n.shape != codes_n.shape or not np.array_equal(np.sort(order_n), np.arange(len(codes_n))):
        raise InputError("the canonical order does not name every sample once", "give np.argsort of the ids")
    if len(found := np.unique(codes_n)) < 2:
        raise InputError(
            f"scores compare each class with the others, and the data has samples of {len(found)} class(es)",
            "give data of two classes or more, or check --label-column",
        )
