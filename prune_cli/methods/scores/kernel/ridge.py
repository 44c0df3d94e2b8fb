"""The ridge of a kernel regression, chosen by its leave-one-out predictions.

This module imports torch inside functions only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prune_cli.methods.devices import resolve_device
from prune_cli.methods.scores.kernel.kernels import write_tiles
from prune_cli.methods.scores.kernel.samples import Samples
from prune_cli.methods.scores.kernel.solver.system import class_signs

RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""What ``ridge=none`` chooses from; the kernel of a sample with itself is 1/2."""

RIDGE_ROWS = 3000
"""Samples that the ridge is chosen on at most."""


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
