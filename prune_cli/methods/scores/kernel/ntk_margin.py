"""Leave-one-out predictions of kernel ridge regression, and the ridge that predicts best: what the others say of each sample.

This module imports torch inside functions only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import FloatArray
from prune_cli.core.params import param
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.scores.kernel.kernels import write_tiles
from prune_cli.methods.scores.kernel.params import EXACT_ROWS, KernelNeeds, KernelScoreParams, resolve_mode
from prune_cli.methods.scores.kernel.samples import Samples
from prune_cli.methods.scores.kernel.solver.problem import Solution
from prune_cli.methods.scores.kernel.solver.system import class_signs

RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""What ``ridge=none`` chooses from; the kernel of a sample with itself is 1/2."""

RIDGE_ROWS = 3000
"""Samples that the ridge is chosen on at most."""


@dataclass(frozen=True)
class RidgeChoice:
    """How the ridge was chosen.

    Args:
        accuracies: of the leave-one-out predictions for each of `RIDGES`.
        rows: samples it was chosen on.
    """

    ridge: float
    accuracies: tuple[float, ...]
    rows: int


def choose_ridge(samples: Samples, device: str = "auto") -> RidgeChoice:
    """Return the ridge whose leave-one-out predictions are right most often, for up to `RIDGE_ROWS` samples.

    With ``H = U diag(l) U'``, ``G_ii = sum_k U_ik^2 / (l_k + ridge)`` and ``G Y = U ((U' Y) / (l + ridge))``: one eigendecomposition
    serves the whole grid. Of ridges that are right as often the larger one is taken.

    Args:
        samples: with their kernel; evenly spaced ones in canonical order are taken.
        device: auto, cpu, cuda or cuda:N.
    Cost:
        About 9 n^3 flops for n samples, in float64.
    """
    import torch

    at, order_n = resolve_device(device), samples.order_n
    taken = order_n[np.unique(np.linspace(0, len(order_n) - 1, min(len(order_n), RIDGE_ROWS)).round().astype(np.int64))]
    everyone = slice(0, len(taken))
    like = torch.empty((len(taken), len(taken)), dtype=torch.float64, device=at)
    write_tiles(samples.kernel.block(taken, torch.float64, at), everyone, everyone, like)
    values, vectors = torch.linalg.eigh(like)
    signs = class_signs(samples.codes_n[taken], samples.n_classes, at)
    turned, squares = vectors.T @ signs, vectors.square()
    given = torch.from_numpy(np.asarray(samples.codes_n[taken], np.int64)).to(at)
    accuracies = []
    for ridge in RIDGES:
        weight = 1.0 / (values.clamp_min(0.0) + ridge)
        predictions = signs - (vectors @ (turned * weight[:, None])) / (squares @ weight)[:, None]
        accuracies.append(float((predictions.argmax(dim=1) == given).double().mean()))
    best = max(range(len(RIDGES)), key=lambda k: (accuracies[k], k))
    return RidgeChoice(RIDGES[best], tuple(accuracies), len(taken))


@dataclass(frozen=True)
class NtkParams(KernelScoreParams):
    """Parameters of ``ntk_margin`` and ``ntk_residual``."""

    mode: Literal["auto", "exact", "partition", "nystrom"] = param(
        "auto", f"all samples at once, in blocks, or by landmarks; auto: exact up to {EXACT_ROWS:,} rows, else partition"
    )
    ridge: float | None = param(
        None, f"added to the diagonal of the kernel; none: the best of {RIDGES[0]:g} to {RIDGES[-1]:g}, left one out", low=0.0
    )

    def needs(self, n_samples: int) -> KernelNeeds:
        """Return the predictions of all classes at once."""
        return KernelNeeds(resolve_mode(self, n_samples), self.ridge, predictions=True)


def ntk_margin_scores(solution: Solution, codes_n: NDArray[Any], params: NtkParams = NtkParams()) -> dict[str, FloatArray]:
    r"""Return by how much the given class leads the best other one, for a regression on all other samples.

    With ``G = (H + ridge I)^-1`` and Y one-vs-rest, +1 and -1, the prediction for a sample by the kernel ridge regression on all the
    others is ``f_{-i}(x_i) = Y_i - (G Y)_i / G_ii``: one factorisation gives it for every sample and every class. The margin is ``f_y -
    max_{c != y} f_c``. A sample whose label is wrong is pulled to another class by its neighbors, and its margin is below 0.

    Args:
        solution: of the kernel, as `NtkParams.needs` asks for it; see `kernel_solution`.
        codes_n: (N,) int class of each sample.
        params: see `NtkParams`; not used beyond the solution.
    Returns:
        ``ntk_margin`` (N,) float64, about -2 to 2: higher is easier, below 0 where another class is predicted.
    Raises:
        ValueError: a solution without predictions.
    Cost:
        2/3 N^3 flops and N^2 / 2 numbers (on disk in the command), for all classes together; N B^2 in blocks of B.
    Source:
        Ours, with the leave-one-out formula of ridge regression (Allen 1974; Cook 1977) and the kernel of `deep_relu_kernel`.

    Example:
        Two classes at right angles say nothing of each other: H = I / 2, all predictions are 0 but for the class left out.

        >>> import numpy as np
        >>> from prune_cli.methods.scores.kernel.pieces.solving import kernel_solution
        >>> codes = np.array([0, 1])
        >>> solution = kernel_solution(np.eye(2), codes, NtkParams(ridge=0.5))
        >>> ntk_margin_scores(solution, codes)["ntk_margin"].round(12).tolist()
        [0.0, 0.0]
    """
    return {"ntk_margin": margins(predictions_of(solution), codes_n)}


def ntk_residual_scores(solution: Solution, codes_n: NDArray[Any], params: NtkParams = NtkParams()) -> dict[str, FloatArray]:
    """Return how far the given class is from being predicted by all other samples.

    It is ``1 - f_y`` with the prediction f of `ntk_margin_scores`, which takes the other classes into account, too.

    Args:
        solution, codes_n, params: as `ntk_margin_scores` takes them.
    Returns:
        ``ntk_residual`` (N,) float64, about 0 to 2: higher is harder.
    Raises:
        ValueError: a solution without predictions.
    Cost:
        That of `ntk_margin_scores`; both together cost as much as one.
    Source:
        As `ntk_margin_scores`.
    """
    return {"ntk_residual": residuals(predictions_of(solution), codes_n)}


def predictions_of(solution: Solution) -> FloatArray:
    """Return (N, C) what the other samples predict for each.

    Raises:
        ValueError: they were not asked for.
    """
    if solution.loo_nc is None:
        raise ValueError("a solution without predictions: the needs of the score do not ask for them")
    return solution.loo_nc


def margins(predictions_nc: FloatArray, codes_n: NDArray[Any]) -> FloatArray:
    """Return (N,) the prediction of the given class less that of the best other one."""
    everyone = np.arange(len(codes_n))
    others_nc = predictions_nc.copy()
    others_nc[everyone, codes_n] = -np.inf
    return np.asarray(predictions_nc[everyone, codes_n] - others_nc.max(axis=1))


def residuals(predictions_nc: FloatArray, codes_n: NDArray[Any]) -> FloatArray:
    """Return (N,) 1 less the prediction of the given class."""
    return np.asarray(1.0 - predictions_nc[np.arange(len(codes_n)), codes_n])


def fit_temperature(predictions_nc: FloatArray, codes_n: NDArray[Any]) -> float:
    """Return the temperature T at which ``softmax(f / T)`` makes the given labels likeliest, each predicted without itself.

    Cost:
        Some thirty passes over the predictions.
    """
    from scipy.optimize import minimize_scalar

    everyone = np.arange(len(codes_n))
    shifted_nc = predictions_nc - predictions_nc.max(axis=1, keepdims=True)
    given_n = shifted_nc[everyone, codes_n]

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float(np.mean(np.log(np.exp(shifted_nc * inverse).sum(axis=1)) - given_n * inverse))

    found = minimize_scalar(loss, bounds=(-5.0, 4.0), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def probabilities(predictions_nc: FloatArray, temperature: float) -> FloatArray:
    """Return (N, C) ``softmax(f / T)``."""
    scaled = predictions_nc / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled
