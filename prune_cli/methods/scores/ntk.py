"""The neural tangent kernel of a two-layer ReLU network, in closed form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

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
