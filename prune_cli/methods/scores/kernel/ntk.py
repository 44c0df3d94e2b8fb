"""The neural tangent kernel of fully connected ReLU networks, in closed form."""

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
