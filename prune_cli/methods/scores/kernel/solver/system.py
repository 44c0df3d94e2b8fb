"""The equations of one set of samples, and what a solver finds of them.

With ``G = (H + ridge I)^-1`` and Y the classes as +1 and -1, ``G_ii`` and ``(G Y)_i`` are all that the complexity gap and the
leave-one-out predictions need: one factorisation of a set serves every one-vs-rest problem.
This module imports torch inside functions only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import FloatArray, IntArray
from prune_cli.core.progress import Progress
from prune_cli.methods.scores.kernel.kernels import Kernel, KernelBlock
from prune_cli.methods.scores.kernel.solver.factored import Factored
from prune_cli.methods.scores.kernel.solver.problem import Problem
from prune_cli.methods.scores.kernel.solver.tile_columns import PanelStore

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class System:
    """The equations of one set, and how they are solved.

    Args:
        kernel: over all samples.
        positions: (B,) of the samples of the set, in canonical order.
        codes_b: (B,) their classes, less than ``n_classes``.
        problem: with the ridge.
        repeat, seed: what is drawn for the set follows them.
        store: keeps what is finished within the set.
    """

    kernel: Kernel
    positions: IntArray
    codes_b: NDArray[Any]
    n_classes: int
    problem: Problem
    repeat: int
    seed: int
    dtype: torch.dtype
    device: torch.device
    store: PanelStore | None
    progress: Progress

    def block(self, dtype: torch.dtype) -> KernelBlock:
        """Return the samples of the set, ready for the kernel between any two ranges of them."""
        return self.kernel.block(self.positions, dtype, self.device)

    def signs(self) -> torch.Tensor:
        """Return Y, see `class_signs`."""
        return class_signs(self.codes_b, self.n_classes, self.device)


class Inverse(NamedTuple):
    """What is wanted of ``G = (H + ridge I)^-1``.

    Args:
        diagonal_b: (B,) float64, G_ii.
        solution_bc: (B, C) float64, (G Y)_i.
        factored: how the factorisation went.
        residual: of the refined solution, relative; 0 in float64.
    """

    diagonal_b: FloatArray
    solution_bc: FloatArray
    factored: Factored
    residual: float = 0.0


def class_signs(codes_b: NDArray[Any], n_classes: int, device: torch.device) -> torch.Tensor:
    """Return Y, (B, C) float64: +1 at the sample's class, else -1."""
    import torch

    signs = torch.full((len(codes_b), n_classes), -1.0, dtype=torch.float64, device=device)
    codes = torch.from_numpy(np.asarray(codes_b, np.int64)).to(device)
    return signs.scatter_(1, codes[:, None], 1.0)
