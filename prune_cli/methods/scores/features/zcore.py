"""The score ``zcore``: how much of the feature space a sample covers that others do not.

With the rows in canonical order and S features a subspace, ``score_i = start_i + gains_i - losses_i``:

1. ``start_i`` is uniform in [0, 1), from the stream ("zcore", "start").
2. Each of ``draws`` draws takes the next 2 S uniform numbers of the stream ("zcore", "draws").
   The first S choose S different features (Floyd): for j = 0 .. S - 1, feature ``floor(u_j (D - S + j + 1))``, or
   ``D - S + j`` where that one is chosen already.
   The other S give a point in this subspace, each coordinate from the triangular distribution over (least value,
   median, greatest value) of its feature, by inversion: with a, m, b these three,
   ``a + sqrt(u (b - a) (m - a))`` if ``u (b - a) < m - a``, else ``b - sqrt((1 - u) (b - a) (b - m))``.
3. Coverage: the sample k nearest to the point (sum of absolute differences in the subspace; of equals the first in
   canonical order) gains 1.
4. Redundancy: the ``neighbors`` samples nearest to k (the same distance d, without k; of equals at the edge the
   first) lose 1 together, each in proportion to ``d^-exponent``. Where some of them are at distance 0, these
   share the loss equally, which is the limit.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import FloatArray, IntArray, chunks
from prune_cli.core.errors import InputError
from prune_cli.core.params import build_params, param
from prune_cli.core.progress import Progress, silent
from prune_cli.core.rng import generator
from prune_cli.methods.devices import numba_threads
from prune_cli.methods.scores.features.samples import check_samples
from prune_cli.methods.scores.features.zcore_draws import compile_draw_block, draw_points

_DRAWS_AT_ONCE = 256  # draws between two reports of progress; changes no bit
_PROBES = 1024  # distances that foretell how far the neighbors reach; changes the time alone


@dataclass(frozen=True)
class ZcoreParams:
    """Parameters of `zcore_scores`; the defaults are those of the published code."""

    draws: int = param(1_000_000, "points drawn, each in a subspace of its own", low=1)
    subspace: int = param(2, "features a subspace has", low=1)
    neighbors: int = param(1000, "samples next to the chosen one that lose weight, N - 1 at most", low=1)
    exponent: int = param(4, "how fast the loss of a neighbor falls with its distance (0: equal losses)", low=0, high=64)


def zcore_scores(
    features_nd: NDArray[Any],
    codes_n: NDArray[Any],
    params: ZcoreParams = ZcoreParams(),
    *,
    order_n: IntArray | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, FloatArray]:
    r"""Return how much of the feature space each sample covers that others do not.

    ``score_i = start_i + gains_i - losses_i``, each defined at the head of this module. But for N = 1, the scores sum to what
    ``start`` sums to: a sample in a crowd is chosen rarely and pays often, a sample that stands for a region by itself gains. No label
    is used.

    Args:
        features_nd: (N, D) float32 or float64, finite.
        codes_n: (N,) int class of each sample, 0 or more; checked, not used.
        order_n: (N,) int64, the samples' positions in canonical order (argsort of the ids). None: as they come.
        seed: 0 or more.
        device: checked, not used: it runs on all cores of the processor.
    Returns:
        ``zcore`` (N,) float64, any sign. High = covers what others do not, to be kept first; the direction "harder"
        stands for just this (what is kept first by "hardest first"), not for a difficulty of learning.
    Raises:
        InputError: arrays that do not fit each other, another dtype, a feature that is not finite; a subspace with more
            features than there are.
    Cost:
        ``draws`` times a few passes over N numbers; a transposed copy of the features. The 1,000,000 draws of 50,000 x
        512 float32 take 50 s on two cores, after 3 s of compilation; time grows as draws x N.
    Source:
        Griffin, Marks, Corso, arXiv:2411.15349 (ZCore). Rule and constants follow public copies of the authors' code;
        the paper's text was not compared. Deviations: the score is not scaled to [0, 1] afterwards (same order); of
        several neighbors at distance 0 all share the loss, not one of them has it; a feature that never varies is
        allowed; the draws are one stream instead of one a process.

    Example:
        Four samples close together and one far away: this one and the one next to the gap stand for most of the line.

        >>> import numpy as np
        >>> line = np.array([[0.0], [0.1], [0.2], [0.3], [8.0]])
        >>> params = ZcoreParams(draws=500, subspace=1)
        >>> scores = zcore_scores(line, np.zeros(5, np.int64), params)["zcore"]
        >>> sorted(scores.argsort()[-2:].tolist())
        [3, 4]
    """
    build_params(ZcoreParams, dataclasses.asdict(params), "zcore")
    order_n = check_samples(features_nd, codes_n, order_n, device)
    if params.subspace > features_nd.shape[1]:
        raise InputError(
            f"zcore: a subspace of {params.subspace} features out of {features_nd.shape[1]}",
            f"pass -p subspace={features_nd.shape[1]} or less",
        )
    gains, losses = _drawn(_transposed(features_nd, order_n), params, seed, progress)
    scores = np.empty(len(order_n))
    scores[order_n] = generator(seed, "zcore", "start").random(len(order_n)) + gains - losses
    return {"zcore": scores}


def _transposed(features_nd: NDArray[Any], order_n: IntArray) -> NDArray[Any]:
    """Return the (D, N) features, the samples in canonical order."""
    columns_dn = np.empty(features_nd.shape[::-1], features_nd.dtype)
    for part in chunks(*features_nd.shape):
        columns_dn[:, part] = features_nd[order_n[part]].T
    return columns_dn


def _drawn(columns_dn: NDArray[Any], params: ZcoreParams, seed: int, progress: Progress) -> tuple[IntArray, FloatArray]:
    """Return what each sample gains and loses, (N,) each, over all draws."""
    n_samples, modes = columns_dn.shape[1], []
    for part in chunks(*columns_dn.shape):
        modes.append(np.median(columns_dn[part].astype(np.float64), axis=1))
    ranges_3d = np.stack([columns_dn.min(axis=1), np.concatenate(modes), columns_dn.max(axis=1)])
    neighbors = min(params.neighbors, n_samples - 1)
    draw_block, stream = compile_draw_block(), generator(seed, "zcore", "draws")
    gains, losses = np.zeros(n_samples, np.int64), np.zeros(n_samples)
    for first in range(0, params.draws, _DRAWS_AT_ONCE):
        progress("zcore draws", first, params.draws, None)
        size = min(_DRAWS_AT_ONCE, params.draws - first)
        axes_bs, points_bs = draw_points(stream.random((size, 2 * params.subspace)), ranges_3d)
        chosen_b = np.empty(size, np.int64)
        near_bk, loss_bk = np.empty((size, neighbors), np.int64), np.empty((size, neighbors))
        with numba_threads():
            draw_block(columns_dn, axes_bs, points_bs, params.exponent, _PROBES, chosen_b, near_bk, loss_bk)
        np.add.at(gains, chosen_b, 1)
        np.add.at(losses, near_bk.ravel(), loss_bk.ravel())  # one by one in the order of the draws, so every bit is set
    progress("zcore draws", params.draws, params.draws, None)
    return gains, losses
