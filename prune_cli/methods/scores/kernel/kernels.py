"""Kernels of samples, tile by tile: the closed form of fully connected ReLU networks, or a matrix that is there already."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import IntArray
from prune_cli.core.errors import InputError
from prune_cli.methods.scores.kernel.rows.contract import RowBlock, Rows

if TYPE_CHECKING:
    import torch

DIAGONAL = 0.5
"""H_ii: the kernel of a row with itself."""


def relu_kernel(cosines: torch.Tensor, rounding: float, scratch: torch.Tensor | None = None) -> torch.Tensor:
    r"""Return the kernel ``H_ij = c (pi - arccos c) / (2 pi)`` of the cosines ``c``, written over them.

    It is the inner product of the gradients of two outputs by the first layer's weights, averaged over Gaussian
    weights: ``H_ij = E_w[x_i . x_j 1{w . x_i > 0} 1{w . x_j > 0}]`` for rows of unit length.

    Rounding makes a cosine step over 1 (``arccos`` is then NaN) or stop short of it: for two equal rows
    ``1 - 1e-16`` is an angle of 1e-8, which hides that H is singular. So cosines are clamped to [-1, 1], and those
    within ``rounding`` of 1 are taken as 1: equal rows have the kernel 1/2 exactly.

    Args:
        cosines: any shape, float64 or float32, about -1 to 1; overwritten.
        rounding: 0 or more, the error of a cosine that was computed.
        scratch: same shape, dtype and device, overwritten; left out, it is allocated.
    Returns:
        ``cosines`` itself, now 0 to 1/2 (or slightly negative, down to -0.09, for obtuse angles).
    Cost:
        One arccos an entry.
    Source:
        Cho, Saul, NeurIPS 2009, order 0 and 1; Ki, Choi, Chung, ICLR 2023, arXiv:2301.00930, equation of H.
        In neural-tangents: ``D * (ntk - nngp)`` of Dense-Relu-Dense, as its 'ntk' trains both layers.

    Example:
        >>> import torch
        >>> relu_kernel(torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64), 0.0).tolist()
        [0.5, 0.0, 0.0]
    """
    import torch

    cosines.clamp_(-1.0, 1.0).masked_fill_(cosines >= 1.0 - rounding, 1.0)
    angles = torch.acos(cosines, out=scratch)
    return cosines.mul_(angles.sub_(math.pi).mul_(-1.0 / (2.0 * math.pi)))


def deep_relu_kernel(cosines: torch.Tensor, rounding: float, depth: int) -> torch.Tensor:
    r"""Return the kernel of a network of ``depth`` hidden ReLU layers whose last layer stays as it is, over the cosines.

    With ``s_0 = t_0 = c``, and for every hidden layer ``s_l = k1(s_{l-1})``, ``t_l = s_l + t_{l-1} k0(s_{l-1})``, where ``k0(s) = (pi
    - arccos s) / pi`` and ``k1(s) = (sqrt(1 - s^2) + s (pi - arccos s)) / pi``, it is ``H = t_{L-1} k0(s_{L-1}) / (2 L)``. Each of the L
    trained layers adds as much to the diagonal, which is 1/2 for every depth, so that a ridge means the same.

    Args:
        cosines, rounding: as `relu_kernel`, which this is for ``depth`` 1.
        depth: hidden layers, L, 1 or more.
    Returns:
        ``cosines`` itself, now 1/2 for equal rows.
    Cost:
        L arccos an entry; three tensors of that shape for L above 1.
    Source:
        Jacot, Gabriel, Hongler, NeurIPS 2018, arXiv:1806.07572; Cho, Saul, NeurIPS 2009. In neural-tangents with ``W_std`` sqrt(2):
        ``D (ntk - nngp) / (4 L)`` of L times Dense-Relu, then Dense, for rows of unit length.

    Example:
        At right angles two hidden layers leave s_1 = t_1 = 1/pi, whose angle is 1.2468: 1/pi (pi - 1.2468) / pi / 4.

        >>> import torch
        >>> deep_relu_kernel(torch.tensor([1.0, 0.0], dtype=torch.float64), 0.0, 2).round(decimals=4).tolist()
        [0.5, 0.048]
    """
    import torch

    if depth == 1:
        return relu_kernel(cosines, rounding)
    cosines.clamp_(-1.0, 1.0).masked_fill_(cosines >= 1.0 - rounding, 1.0)
    tangent, like = cosines.clone(), cosines
    for _ in range(depth - 1):
        open_share = torch.acos(like).sub_(math.pi).mul_(-1.0 / math.pi)
        next_like = (1.0 - like * like).clamp_(min=0.0).sqrt_().div_(math.pi).addcmul_(like, open_share).clamp_(max=1.0)
        tangent.mul_(open_share).add_(next_like)
        like = next_like
    open_share = torch.acos(like).sub_(math.pi).mul_(-1.0 / math.pi)
    return cosines.copy_(tangent.mul_(open_share).div_(2.0 * depth))


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
            raise InputError(f"the kernel is {matrix_mm.dtype} {matrix_mm.shape}", "give a square matrix of float32 or float64")
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


def fill_matrix(kernel: Kernel, order_n: IntArray, matrix_nn: NDArray[Any], first: int, last: int, device: str = "auto") -> None:
    """Write rows ``first`` to ``last`` of the kernel up to the diagonal, and their mirror image, into a matrix.

    Args:
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
