"""CG-score: how much the complexity of the labels drops when a sample leaves, without any training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from prune_cli.core.arrays import FloatArray
from prune_cli.core.params import param
from prune_cli.methods.scores.kernel.params import EXACT_ROWS, KernelNeeds, KernelScoreParams, resolve_mode
from prune_cli.methods.scores.kernel.solver.problem import Solution


@dataclass(frozen=True)
class ComplexityGapParams(KernelScoreParams):
    """Parameters of `complexity_gap_scores`."""

    mode: Literal["auto", "sampled", "exact", "partition", "nystrom"] = param(
        "auto",
        "a class against draws of the others, as published (sampled); or all classes: at once, in blocks, by landmarks; "
        f"auto: exact up to {EXACT_ROWS:,} rows, else sampled, and sampled where ratio or repeats are given",
    )
    ratio: float = param(1.0, "sampled: samples of other classes drawn for each sample of the class", low=1e-6)
    ridge: float = param(0.0, "added to the diagonal of the kernel", low=0.0)
    terms: bool = param(False, "also return the terms cg_a2, cg_ab (high = mislabeled) and cg_b2, whose sum is cg")

    def needs(self, n_samples: int) -> KernelNeeds:
        """Return the gaps alone: of a draw of the others, or of all classes at once."""
        drawn = self.mode == "auto" and (self.repeats is not None or self.ratio != 1.0)
        mode = None if drawn else resolve_mode(self, n_samples, otherwise=None)
        return KernelNeeds(mode, self.ridge, predictions=False, ratio=self.ratio)


def complexity_gap_scores(
    solution: Solution, codes_n: NDArray[Any], params: ComplexityGapParams = ComplexityGapParams()
) -> dict[str, FloatArray]:
    r"""Return how much the label complexity ``y' H^-1 y`` drops when each sample leaves.

    With ``G = H^-1`` and ``a = G y`` the drop equals ``a_i^2 / G_ii`` (block inverse), so one factorisation gives all.
    The rows of the other classes go first and those to score last: with ``H = L L'``, the part of G that belongs to
    the last P rows is ``(L_PP L_PP')^-1``, so only the last P x P triangle of L is inverted,

        G_ii = |column i of L_PP^-1|^2,    a_P = L_PP'^-1 (L^-1 y)_P,

    and of H itself only the lower triangle is ever stored. The score is the sum of three terms, with ``b = a - G_ii``:
    ``a2 = b^2 / G_ii``, ``ab = 2 b``, ``b2 = G_ii``; a high ``ab`` marks wrong labels better than the sum.

    H does not depend on the labels, so that with ``mode=exact`` one factorisation of the kernel of all samples serves every class
    against all others, without a draw: the default where that takes minutes. Beyond, 10 draws of the others are averaged.

    Args:
        solution: of the kernel, as `ComplexityGapParams.needs` asks for it; see `kernel_solution`.
        codes_n: not used, the solution is of these classes.
    Returns:
        ``cg`` (N,) float64, 0 or more, in units of 1 / kernel: higher is harder (irregular or mislabeled). With
        ``params.terms`` also ``cg_a2``, ``cg_ab`` (any sign) and ``cg_b2``.
    Cost:
        n^3 / 3 + P^3 / 3 flops, n^2 D for the kernel, and n^2 / 2 numbers, for each class of P samples and each repeat;
        n = (1 + ratio) P. Exact: 2/3 N^3 flops in all.
    Source:
        Ki, Choi, Chung, ICLR 2023, arXiv:2301.00930. Deviations: no draw where all rows can be had at once, and beyond that 10 draws
        where the published code has one; the closed form instead of a leave-one-out loop; equal rows make H singular, which is
        detected and met with a stated jitter of sqrt(machine epsilon) on its diagonal.

    Example:
        Two classes of one sample each at right angles: H = I / 2, each sample costs y_i^2 / H_ii = 2.

        >>> import numpy as np
        >>> from prune_cli.methods.scores.kernel.pieces.solving import kernel_solution
        >>> codes = np.array([0, 1])
        >>> complexity_gap_scores(kernel_solution(np.eye(2), codes, ComplexityGapParams()), codes)["cg"].round(12).tolist()
        [2.0, 2.0]
    """
    columns = {"cg": solution.gap_n, "cg_a2": solution.a2_n, "cg_ab": solution.ab_n, "cg_b2": solution.b2_n}
    return columns if params.terms else {"cg": solution.gap_n}
