"""Leave-one-out predictions of kernel ridge regression: what the other samples say of each, without any training.

This module imports torch inside functions only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.params import param
from prune_cli.core.progress import Progress, silent
from prune_cli.methods.arrays import FloatArray, IntArray
from prune_cli.methods.scores.kernel.kernels import Kernel, write_tiles
from prune_cli.methods.scores.kernel.params import EXACT_ROWS, KernelParams, resolve_mode
from prune_cli.methods.scores.kernel.problem import problem_of
from prune_cli.methods.scores.kernel.samples import make_samples
from prune_cli.methods.scores.kernel.solver import solve_all
from prune_cli.methods.scores.kernel.system import class_signs

RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""What ``ridge=none`` chooses from; the kernel of a sample with itself is 1/2."""

RIDGE_ROWS = 3000
"""Samples that the ridge is chosen on at most."""


@dataclass(frozen=True)
class NtkParams(KernelParams):
    """Parameters of ``ntk_margin`` and ``ntk_residual``."""

    mode: Literal["auto", "exact", "partition", "nystrom"] = param(
        "auto",
        f"all samples at once, in blocks, or by landmarks; auto: exact up to {EXACT_ROWS:,} rows, else partition",
    )
    ridge: float | None = param(
        None,
        f"added to the diagonal of the kernel; none: the best of {RIDGES[0]:g} to {RIDGES[-1]:g}, left one out",
        low=0.0,
    )


@dataclass(frozen=True)
class RidgeChoice:
    """How the ridge was chosen.

    Args:
        ridge: the one chosen.
        accuracies: of the leave-one-out predictions for each of `RIDGES`.
        rows: samples it was chosen on.
    """

    ridge: float
    accuracies: tuple[float, ...]
    rows: int


def ntk_margin_scores(
    values_nd: NDArray[Any],
    codes_n: NDArray[Any],
    params: NtkParams = NtkParams(),
    *,
    channels: int | None = None,
    order_n: IntArray | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress = silent,
) -> dict[str, FloatArray]:
    r"""Return by how much the given class leads the best other one, for a regression on all other samples.

    With ``G = (H + ridge I)^-1`` and Y one-vs-rest, +1 and -1, the prediction for a sample by the kernel ridge regression on all the
    others is ``f_{-i}(x_i) = Y_i - (G Y)_i / G_ii``: one factorisation gives it for every sample and every class. The margin is ``f_y -
    max_{c != y} f_c``. A sample whose label is wrong is pulled to another class by its neighbors, and its margin is below 0.

    Args:
        values_nd: (N, D) or (N, H, W, C) uint8 pixels, or (N, D) float32 or float64 embeddings.
        codes_n: (N,) int class of each sample, 0 or more.
        params: see `NtkParams`.
        channels, order_n, seed, device, precision, progress: as `complexity_gap_scores` takes them.
    Returns:
        ``ntk_margin`` (N,) float64, about -2 to 2: higher is easier, below 0 where another class is predicted.
    Raises:
        InputError: fewer than two classes, arrays that do not fit each other, an unknown kernel.
        NumericalError: rows that are zero or not finite, or a kernel that stays singular with a jitter.
        UnavailableError: ``kernel=nt`` and the extra is missing.
    Cost:
        2/3 N^3 flops and N^2 / 2 numbers (on disk in the command), for all classes together; N B^2 in blocks of B.
    Source:
        Ours, with the leave-one-out formula of ridge regression (Allen 1974; Cook 1977) and the kernel of `deep_relu_kernel`.

    Example:
        Two classes at right angles say nothing of each other: H = I / 2, all predictions are 0 but for the class left out.

        >>> import numpy as np
        >>> ntk_margin_scores(np.eye(2), np.array([0, 1]), NtkParams(ridge=0.5))["ntk_margin"].round(12).tolist()
        [0.0, 0.0]
    """
    predictions_nc = _predictions(values_nd, codes_n, params, channels, order_n, seed, device, precision, progress)
    return {"ntk_margin": margins(predictions_nc, codes_n)}


def ntk_residual_scores(
    values_nd: NDArray[Any],
    codes_n: NDArray[Any],
    params: NtkParams = NtkParams(),
    *,
    channels: int | None = None,
    order_n: IntArray | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress = silent,
) -> dict[str, FloatArray]:
    """Return how far the given class is from being predicted by all other samples.

    It is ``1 - f_y`` with the prediction f of `ntk_margin_scores`, which takes the other classes into account, too.

    Args:
        values_nd, codes_n, params, channels, order_n, seed, device, precision, progress: as `ntk_margin_scores` takes them.
    Returns:
        ``ntk_residual`` (N,) float64, about 0 to 2: higher is harder.
    Raises:
        InputError, NumericalError, UnavailableError: as `ntk_margin_scores`.
    Cost:
        That of `ntk_margin_scores`; both together cost as much as one.
    Source:
        As `ntk_margin_scores`.
    """
    predictions_nc = _predictions(values_nd, codes_n, params, channels, order_n, seed, device, precision, progress)
    return {"ntk_residual": residuals(predictions_nc, codes_n)}


def margins(predictions_nc: FloatArray, codes_n: NDArray[Any]) -> FloatArray:
    """Return (N,) the prediction of the given class less that of the best other one."""
    everyone = np.arange(len(codes_n))
    others_nc = predictions_nc.copy()
    others_nc[everyone, codes_n] = -np.inf
    return np.asarray(predictions_nc[everyone, codes_n] - others_nc.max(axis=1))


def residuals(predictions_nc: FloatArray, codes_n: NDArray[Any]) -> FloatArray:
    """Return (N,) 1 less the prediction of the given class."""
    return np.asarray(1.0 - predictions_nc[np.arange(len(codes_n)), codes_n])


def _predictions(
    values_nd: NDArray[Any],
    codes_n: NDArray[Any],
    params: NtkParams,
    channels: int | None,
    order_n: IntArray | None,
    seed: int,
    device: str,
    precision: str,
    progress: Progress,
) -> FloatArray:
    samples = make_samples(values_nd, codes_n, params, channels=channels, order_n=order_n)
    ridge = params.ridge
    if ridge is None:
        ridge = choose_ridge(samples.kernel, codes_n, samples.n_classes, samples.order_n, device).ridge
    mode = resolve_mode(params, len(codes_n))
    assert mode is not None
    problem = problem_of(params, mode, ridge, True)
    solution = solve_all(samples, problem, seed=seed, device=device, precision=precision, progress=progress)
    assert solution.loo_nc is not None
    return solution.loo_nc


def choose_ridge(
    kernel: Kernel, codes_n: NDArray[Any], n_classes: int, order_n: IntArray, device: str = "auto"
) -> RidgeChoice:
    """Return the ridge whose leave-one-out predictions are right most often, for up to `RIDGE_ROWS` samples.

    With ``H = U diag(l) U'``, ``G_ii = sum_k U_ik^2 / (l_k + ridge)`` and ``G Y = U ((U' Y) / (l + ridge))``: one eigendecomposition
    serves the whole grid. Of ridges that are right as often the larger one is taken.

    Args:
        kernel: over all samples.
        codes_n: (N,) given classes.
        order_n: the samples in canonical order, of which evenly spaced ones are taken.
    Cost:
        About 9 n^3 flops for n samples, in float64.
    """
    import torch

    from prune_cli.methods.devices import resolve_device

    at = resolve_device(device)
    taken = order_n[np.unique(np.linspace(0, len(order_n) - 1, min(len(order_n), RIDGE_ROWS)).round().astype(np.int64))]
    everyone = slice(0, len(taken))
    like = torch.empty((len(taken), len(taken)), dtype=torch.float64, device=at)
    write_tiles(kernel.block(taken, torch.float64, at), everyone, everyone, like)
    values, vectors = torch.linalg.eigh(like)
    signs = class_signs(codes_n[taken], n_classes, at)
    turned, squares = vectors.T @ signs, vectors.square()
    given = torch.from_numpy(np.asarray(codes_n[taken], np.int64)).to(at)
    accuracies = []
    for ridge in RIDGES:
        weight = 1.0 / (values.clamp_min(0.0) + ridge)
        predictions = signs - (vectors @ (turned * weight[:, None])) / (squares @ weight)[:, None]
        accuracies.append(float((predictions.argmax(dim=1) == given).double().mean()))
    best = max(range(len(RIDGES)), key=lambda k: (accuracies[k], k))
    return RidgeChoice(RIDGES[best], tuple(accuracies), len(taken))


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
