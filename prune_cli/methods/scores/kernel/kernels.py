"""Kernels of samples, tile by tile: a closed form of the cosines, or a matrix that is there already.

Every kernel here has 1/2 on its diagonal, and 1/2 between equal rows exactly, so that duplicates are seen and a ridge means the same
for all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError
from prune_cli.methods.arrays import IntArray
from prune_cli.methods.scores.kernel.ntk import DIAGONAL, deep_relu_kernel, relu_kernel
from prune_cli.methods.scores.kernel.rows.contract import RowBlock, Rows

if TYPE_CHECKING:
    import torch

SIDE = 512
"""Rows of a tile that is computed at once: its float64 scratch stays in the cache of a core."""


class KernelBlock(Protocol):
    """Some of the samples, ready for the kernel between any two ranges of them."""

    def load(self, part: slice) -> Any:
        """Return these samples of the block in the form that `tile` takes."""

    def tile(self, left: Any, right: Any, out: torch.Tensor) -> None:
        """Write the kernel of two loaded ranges to ``out``, float64; equal rows have exactly 1/2."""


class Kernel(Protocol):
    """A kernel over all samples."""

    @property
    def rows(self) -> Rows | None:
        """The samples, where the kernel is computed of them."""

    @property
    def n_samples(self) -> int:
        """Number of samples, N."""

    def block(self, positions: IntArray, dtype: torch.dtype, device: torch.device) -> KernelBlock:
        """Return the samples at ``positions``, made ready on the device."""


@dataclass(frozen=True)
class ReluKernel:
    """The kernel of a fully connected ReLU network whose last layer is not trained; see `deep_relu_kernel`.

    Args:
        rows: the samples.
        depth: hidden layers, 1 or more.
    """

    rows: Rows
    depth: int = 1

    @property
    def n_samples(self) -> int:
        return self.rows.n_samples

    def block(self, positions: IntArray, dtype: torch.dtype, device: torch.device) -> KernelBlock:
        return _ReluBlock(self.rows.block(positions, dtype, device), self.depth, device)


class _ReluBlock:
    def __init__(self, block: RowBlock, depth: int, device: torch.device) -> None:
        import torch

        self._block, self._depth = block, depth
        self._scratch = torch.empty(SIDE * SIDE if depth == 1 else 0, dtype=torch.float64, device=device)
        self.load = block.load

    def tile(self, left: Any, right: Any, out: torch.Tensor) -> None:
        self._block.cosines(left, right, out)
        if self._depth == 1:
            scratch = self._scratch[: out.numel()].view(out.shape) if out.numel() <= len(self._scratch) else None
            relu_kernel(out, self._block.rounding, scratch)
        else:
            deep_relu_kernel(out, self._block.rounding, self._depth)


class MatrixKernel:
    """A kernel that was computed before.

    Args:
        matrix_mm: (M, M) float32 or float64, symmetric, 1/2 on its diagonal; may be memory-mapped.
        places_n: (N,) int64, the matrix's row of each sample; None: sample by sample.
    """

    rows = None

    def __init__(self, matrix_mm: NDArray[Any], places_n: IntArray | None = None) -> None:
        if matrix_mm.ndim != 2 or len(set(matrix_mm.shape)) != 1 or matrix_mm.dtype not in (np.float32, np.float64):
            raise InputError(
                f"the kernel is {matrix_mm.dtype} {matrix_mm.shape}", "give a square matrix of float32 or float64"
            )
        self._matrix_mm = matrix_mm
        self._places_n = np.arange(len(matrix_mm)) if places_n is None else places_n

    @property
    def n_samples(self) -> int:
        return len(self._places_n)

    def block(self, positions: IntArray, dtype: torch.dtype, device: torch.device) -> KernelBlock:
        return _MatrixBlock(self._matrix_mm, self._places_n[positions])


class _MatrixBlock:
    def __init__(self, matrix_mm: NDArray[Any], places: IntArray) -> None:
        self._matrix_mm, self._places = matrix_mm, places

    def load(self, part: slice) -> IntArray:
        return self._places[part]

    def tile(self, left: IntArray, right: IntArray, out: torch.Tensor) -> None:
        import torch

        rows, columns = (_as_slice(places) for places in (left, right))
        found = self._matrix_mm[rows]
        out.copy_(torch.from_numpy(np.array(found[:, columns], dtype=np.float64)))


def _as_slice(places: IntArray) -> slice | IntArray:
    """Return places that follow one another as a slice, which reads a file in one go."""
    if len(places) and bool((np.diff(places) == 1).all()):
        return slice(int(places[0]), int(places[-1]) + 1)
    return places


def write_tiles(block: KernelBlock, rows: slice, columns: slice, out: torch.Tensor) -> torch.Tensor:
    """Write the kernel between two ranges of a block into ``out``, in its dtype, and return which rows equal an earlier one.

    Args:
        rows, columns: of the block.
        out: (rows, columns), on the block's device.
    Returns:
        (rows,) bool: the row has kernel 1/2 with a sample of a smaller number among the columns.
    """
    import torch

    repeated = torch.zeros(out.shape[0], dtype=torch.bool, device=out.device)
    scratch = torch.empty(SIDE * SIDE, dtype=torch.float64, device=out.device)
    for top in range(0, out.shape[0], SIDE):
        ours = slice(rows.start + top, min(rows.start + top + SIDE, rows.stop))
        left = block.load(ours)
        for first in range(0, out.shape[1], SIDE):
            theirs = slice(columns.start + first, min(columns.start + first + SIDE, columns.stop))
            right = left if theirs == ours else block.load(theirs)
            part = out[top : top + SIDE, first : first + SIDE]
            tile = scratch[: part.numel()].view(part.shape)
            block.tile(left, right, tile)
            equal = tile >= DIAGONAL
            if theirs.stop > ours.start:
                equal = equal.tril_(ours.start - theirs.start - 1)
            repeated[top : top + SIDE] |= equal.any(dim=1)
            part.copy_(tile)
    return repeated


def fill_matrix(
    kernel: Kernel, order_n: IntArray, matrix_nn: NDArray[Any], first: int, last: int, device: str = "auto"
) -> None:
    """Write rows ``first`` to ``last`` of the kernel up to the diagonal, and their mirror image, into a matrix.

    Args:
        kernel: over all samples.
        order_n: the samples in the order of the matrix.
        matrix_nn: (N, N) float32 or float64.
    """
    import torch

    from prune_cli.methods.devices import resolve_device

    at = resolve_device(device)
    block = kernel.block(order_n[:last], torch.float64, at)
    tile = torch.empty((last - first, last), dtype=torch.float64, device=at)
    write_tiles(block, slice(first, last), slice(0, last), tile)
    found = tile.cpu().numpy()
    found[:, first:] = np.tril(found[:, first:]) + np.tril(found[:, first:], -1).T
    matrix_nn[first:last, :last] = found
    matrix_nn[:first, first:last] = found[:, :first].T


_RELU = re.compile(r"relu(?::([1-9][0-9]*))?")
_NEURAL_TANGENTS = re.compile(r"nt:(.+)")


@dataclass(frozen=True)
class KernelName:
    """What ``-p kernel=`` says: a depth of the closed form, or the name of a network for neural-tangents."""

    depth: int = 1
    network: str | None = None


def parse_kernel(text: str) -> KernelName:
    """Return what a kernel's name means.

    Raises:
        InputError: no such kernel.

    >>> parse_kernel("relu"), parse_kernel("relu:3").depth, parse_kernel("nt:cnn5").network
    (KernelName(depth=1, network=None), 3, 'cnn5')
    """
    if found := _RELU.fullmatch(text):
        return KernelName(int(found[1] or 1))
    if found := _NEURAL_TANGENTS.fullmatch(text):
        return KernelName(network=found[1])
    raise InputError(
        f"unknown kernel '{text}'",
        "use relu, relu:L for L hidden layers, nt:fc3, nt:cnn5, nt:myrtle5, or nt:FILE.py:FUNCTION for a network of your own",
    )
