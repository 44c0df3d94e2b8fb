"""Scores from where a sample lies among the others: features in, numbers out, without any training of ours.

Every function puts the rows in canonical order first, so that neither a draw nor a sum depends on the order they came.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError
from prune_cli.core.params import build_params, param
from prune_cli.core.progress import Progress, silent
from prune_cli.core.rng import generator, stream_seed
from prune_cli.methods.devices import numba_threads, resolve_device
from prune_cli.methods.scores.kernel.rows import FloatArray, IntArray

__all__ = [
    "ModerateParams",
    "PrototypeParams",
    "ZcoreParams",
    "moderate_scores",
    "prototype_scores",
    "zcore_scores",
]

_CHUNK_NUMBERS = 1 << 22  # numbers in a chunk: no pass over the features takes more than a few times 32 MiB
_LARGEST = 1e100  # a feature beyond this would overflow when squared and summed
_DRAWS_AT_ONCE = 256  # draws between two reports of progress; changes no bit
_PROBES = 1024  # distances that foretell how far the neighbors reach; changes the time alone


@dataclass(frozen=True)
class ModerateParams:
    """Parameters of `moderate_scores`: none."""


@dataclass(frozen=True)
class PrototypeParams:
    """Parameters of `prototype_scores`."""

    clusters: int | None = param(None, "centroids of k-means; none: as many as classes that have samples", low=1)
    metric: Literal["cosine", "euclidean"] = param("cosine", "distance to the centroid, and which k-means")
    iterations: int = param(20, "iterations of k-means", low=1)


@dataclass(frozen=True)
class ZcoreParams:
    """Parameters of `zcore_scores`; the defaults are those of the published code."""

    draws: int = param(1_000_000, "points drawn, each in a subspace of its own", low=1)
    subspace: int = param(2, "features a subspace has", low=1)
    neighbors: int = param(1000, "samples next to the chosen one that lose weight, N - 1 at most", low=1)
    exponent: int = param(
        4, "how fast the loss of a neighbor falls with its distance (0: equal losses)", low=0, high=64
    )


def moderate_scores(
    features_nd: NDArray[Any],
    codes_n: NDArray[Any],
    params: ModerateParams = ModerateParams(),
    *,
    order_n: IntArray | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, FloatArray]:
    r"""Return the distance of each sample to the median of its class.

    With ``m_c`` the coordinate-wise median of the features of class c, ``score_i = |x_i - m_(c_i)|``. The median is not
    moved by a few wrong labels, so a sample far from it is rare, hard or mislabeled, and one close to it is typical.

    Args:
        features_nd: (N, D) float32 or float64, finite.
        codes_n: (N,) int class of each sample, 0 or more; a code may have no sample.
        params: none, see `ModerateParams`.
        order_n: (N,) int64, the samples' positions in canonical order (argsort of the ids). None: as they come.
        seed: not used, nothing is drawn.
        device: checked, not used: it runs on the processor.
        progress: told of each class.
    Returns:
        ``moderate`` (N,) float64, 0 or more, in the unit of the features; higher is harder. The only sample of a class
        has 0.
    Raises:
        InputError: arrays that do not fit each other, another dtype, a feature that is not finite.
    Cost:
        N D log N time, a few chunks of 32 MiB.
    Source:
        Xia, Liu, Yu, Shen, Han, Liu, ICLR 2023 (Moderate coreset). The paper keeps the samples whose distance is
        nearest to the median distance; here is the distance, the window is the selection's. No deviation known.

    Example:
        Class 0 has its median at (1, 0); class 1 is alone.

        >>> import numpy as np
        >>> features = np.array([[0.0, 0.0], [1.0, 0.0], [4.0, 4.0], [7.0, 7.0]])
        >>> moderate_scores(features, np.array([0, 0, 0, 1]))["moderate"].tolist()
        [1.0, 0.0, 5.0, 0.0]
    """
    build_params(ModerateParams, dataclasses.asdict(params), "moderate")
    order_n = _check_samples(features_nd, codes_n, order_n, device)
    n_samples, n_features = features_nd.shape
    by_class = order_n[np.argsort(codes_n[order_n], kind="stable")]
    classes, starts = np.unique(codes_n[by_class], return_index=True)
    scores = np.empty(n_samples)
    for done, members in enumerate(np.split(by_class, starts[1:])):
        progress("moderate classes", done, len(classes), None)
        median = np.empty(n_features)
        for part in _chunks(n_features, len(members)):
            median[part] = np.median(features_nd[members, part].astype(np.float64), axis=0)
        for part in _chunks(len(members), n_features):
            scores[members[part]] = _lengths(features_nd[members[part]].astype(np.float64) - median)
    progress("moderate classes", len(classes), len(classes), None)
    return {"moderate": scores}


def prototype_scores(
    features_nd: NDArray[Any],
    codes_n: NDArray[Any],
    params: PrototypeParams = PrototypeParams(),
    *,
    order_n: IntArray | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, FloatArray]:
    r"""Return the distance of each sample to the nearest centroid of k-means.

    ``cosine``: rows and centroids have length 1 (spherical k-means), the score is ``1 - x_i . c``, computed as
    ``|x_i - c|^2 / 2``, which is exact near 0 too. ``euclidean``: the score is ``|x_i - c|``. No label is used but for
    the number of clusters.

    Args:
        features_nd: (N, D) float32 or float64, finite.
        codes_n: (N,) int class of each sample, 0 or more; a code may have no sample.
        params: see `PrototypeParams`.
        order_n: (N,) int64, the samples' positions in canonical order (argsort of the ids). None: as they come.
        seed: 0 or more; draws the first centroids.
        device: checked, not used: it runs on the processor, for the same bits with and without a card.
        progress: told of the chunks of distances, after k-means.
    Returns:
        ``prototype`` (N,) float64, 0 or more: cosine 0 to 2, euclidean in the unit of the features; higher is harder.
    Raises:
        InputError: arrays that do not fit each other, another dtype, a feature that is not finite; more clusters than
            samples; with cosine, a row of zeros.
    Cost:
        2 (iterations + 1) N D clusters flops, one N x D float32 matrix. 50,000 x 512, 10 clusters: 1 s on two cores.
    Source:
        Sorscher, Geirhos, Shekhar, Ganguli, Morcos, NeurIPS 2022, arXiv:2206.14486 (self-supervised prototypes). FAISS
        does the k-means, in float32, on all samples: its limit of 256 a centroid is lifted, since 10 centroids would
        rest on 2,560 samples. The 20 iterations are ours. Final distances are computed again, in float64.

    Example:
        Two clusters on a line: their means are 2 and 100.

        >>> import numpy as np
        >>> line = np.array([[0.0], [1.0], [5.0], [100.0]])
        >>> params = PrototypeParams(clusters=2, metric="euclidean")
        >>> prototype_scores(line, np.zeros(4, np.int64), params)["prototype"].tolist()
        [2.0, 1.0, 3.0, 0.0]
    """
    build_params(PrototypeParams, dataclasses.asdict(params), "prototype")
    order_n = _check_samples(features_nd, codes_n, order_n, device)
    n_samples, n_features = features_nd.shape
    clusters = len(np.unique(codes_n)) if params.clusters is None else params.clusters
    if clusters > n_samples:
        raise InputError(
            f"prototype: {clusters} clusters of {n_samples} samples", f"pass -p clusters={n_samples} or fewer"
        )
    spherical = params.metric == "cosine"
    if spherical:
        zero = np.flatnonzero(~features_nd.any(axis=1))
        if len(zero):
            raise InputError(
                f"prototype: {len(zero)} row(s) are zero and have no direction, the first at position {zero[0]}",
                "leave these rows out before scoring, or pass -p metric=euclidean",
            )
    scale = 1.0 if spherical else _power_of_two(features_nd)

    def rows(part: slice) -> FloatArray:
        values = features_nd[order_n[part]].astype(np.float64)
        return _unit(values) if spherical else values * scale

    parts = list(_chunks(n_samples, max(n_features, clusters)))
    rows_nd = np.empty((n_samples, n_features), np.float32)
    for part in parts:
        rows_nd[part] = rows(part)
    centroids_kd = _centroids(rows_nd, clusters, params.iterations, spherical, stream_seed(seed, "prototype"))
    del rows_nd
    scores = np.empty(n_samples)
    for done, part in enumerate(parts):
        progress("prototype distances", done, len(parts), None)
        scores[order_n[part]] = _nearest_distances(rows(part), centroids_kd, spherical) / scale
    progress("prototype distances", len(parts), len(parts), None)
    return {"prototype": scores}


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

    ``score_i = start_i + gains_i - losses_i``, with the rows in canonical order and S = ``params.subspace``:

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

    So, but for N = 1, the scores sum to what ``start`` sums to: a sample in a crowd is chosen rarely and pays often, a
    sample that stands for a region by itself gains. No label is used.

    Args:
        features_nd: (N, D) float32 or float64, finite.
        codes_n: (N,) int class of each sample, 0 or more; checked, not used.
        params: see `ZcoreParams`.
        order_n: (N,) int64, the samples' positions in canonical order (argsort of the ids). None: as they come.
        seed: 0 or more.
        device: checked, not used: it runs on all cores of the processor.
        progress: told every few hundred draws.
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
    order_n = _check_samples(features_nd, codes_n, order_n, device)
    n_samples, n_features = features_nd.shape
    if params.subspace > n_features:
        raise InputError(
            f"zcore: a subspace of {params.subspace} features out of {n_features}",
            f"pass -p subspace={n_features} or less",
        )
    columns_dn = np.empty((n_features, n_samples), features_nd.dtype)
    for part in _chunks(n_samples, n_features):
        columns_dn[:, part] = features_nd[order_n[part]].T
    modes_d = np.empty(n_features)
    for part in _chunks(n_features, n_samples):
        modes_d[part] = np.median(columns_dn[part].astype(np.float64), axis=1)
    ranges_3d = np.stack([columns_dn.min(axis=1), modes_d, columns_dn.max(axis=1)])

    neighbors = min(params.neighbors, n_samples - 1)
    draw_block, stream = _compile_draw_block(), generator(seed, "zcore", "draws")
    gains, losses = np.zeros(n_samples, np.int64), np.zeros(n_samples)
    for first in range(0, params.draws, _DRAWS_AT_ONCE):
        progress("zcore draws", first, params.draws, None)
        size = min(_DRAWS_AT_ONCE, params.draws - first)
        axes_bs, points_bs = _draw_points(stream.random((size, 2 * params.subspace)), ranges_3d)
        chosen_b = np.empty(size, np.int64)
        near_bk, loss_bk = np.empty((size, neighbors), np.int64), np.empty((size, neighbors))
        with numba_threads():
            draw_block(columns_dn, axes_bs, points_bs, params.exponent, _PROBES, chosen_b, near_bk, loss_bk)
        np.add.at(gains, chosen_b, 1)
        np.add.at(losses, near_bk.ravel(), loss_bk.ravel())  # one by one in the order of the draws, so every bit is set
    progress("zcore draws", params.draws, params.draws, None)
    scores = np.empty(n_samples)
    scores[order_n] = generator(seed, "zcore", "start").random(n_samples) + gains - losses
    return {"zcore": scores}


def _check_samples(
    features_nd: NDArray[Any], codes_n: NDArray[Any], order_n: IntArray | None, device: str
) -> NDArray[np.int64]:
    """Return the canonical order, once everything fits."""
    if features_nd.ndim != 2 or 0 in features_nd.shape:
        raise InputError(f"the features have shape {features_nd.shape}", "give a (samples, features) array, not empty")
    if features_nd.dtype not in (np.float32, np.float64):
        raise InputError(f"the features are {features_nd.dtype}", "give float32 or float64")
    n_samples, n_features = features_nd.shape
    if codes_n.shape != (n_samples,) or codes_n.dtype.kind not in "iu":
        raise InputError(
            f"the class codes have shape {codes_n.shape} and dtype {codes_n.dtype} for {n_samples} samples",
            "give one integer for each sample",
        )
    if codes_n.min() < 0:
        raise InputError(f"a class code is {codes_n.min()}", "give codes of 0 or more")
    largest = min(_LARGEST, float(np.finfo(features_nd.dtype).max))
    for part in _chunks(n_samples, n_features):
        bad = ~(np.abs(features_nd[part]) <= largest).all(axis=1)
        if bad.any():
            raise InputError(
                f"the features at position {part.start + int(bad.argmax())} are NaN, infinite or beyond {_LARGEST:g}",
                "leave such rows out before scoring, or scale the features",
            )
    resolve_device(device)
    if order_n is None:
        return np.arange(n_samples)
    if not np.array_equal(np.sort(order_n), np.arange(n_samples)):
        raise InputError(
            f"the order is not one of {n_samples} positions",
            "give each position from 0 to N - 1 once (np.argsort(ids))",
        )
    return order_n


def _chunks(length: int, width: int) -> Iterator[slice]:
    """Yield slices that cover ``length`` items of ``width`` numbers each, a chunk at a time."""
    step = max(1, _CHUNK_NUMBERS // width)
    for first in range(0, length, step):
        yield slice(first, min(first + step, length))


def _lengths(rows_bd: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(np.einsum("bd,bd->b", rows_bd, rows_bd)))


def _unit(rows_bd: FloatArray) -> FloatArray:
    """Return the rows, none of them zero, with length 1; neither tiny nor huge ones lose a digit."""
    rows_bd = rows_bd / np.abs(rows_bd).max(axis=1, keepdims=True)
    return np.asarray(rows_bd / _lengths(rows_bd)[:, None])


def _power_of_two(features_nd: NDArray[Any]) -> float:
    """Return the factor that brings all features to [-1, 1], where float32 holds them; exact, as a power of two."""
    largest = max(abs(float(features_nd.min())), abs(float(features_nd.max())))
    return float(2.0 ** -np.frexp(largest)[1]) if largest else 1.0


def _centroids(
    rows_nd: NDArray[np.float32], clusters: int, iterations: int, spherical: bool, seed: int
) -> NDArray[np.float64]:
    """Return the (K, D) float64 centroids of k-means; spherical ones have length 1, or 0 where directions cancel."""
    import faiss

    kmeans = faiss.Kmeans(
        rows_nd.shape[1],
        clusters,
        niter=iterations,
        seed=seed % 2**31,
        spherical=spherical,
        min_points_per_centroid=1,  # no warning about few samples
        max_points_per_centroid=len(rows_nd),  # no sub-sample
    )
    kmeans.train(rows_nd)
    centroids = np.asarray(kmeans.centroids, np.float64)
    if spherical:
        lengths = _lengths(centroids)[:, None]
        np.divide(centroids, lengths, out=centroids, where=lengths > 0)
    return centroids


def _nearest_distances(rows_bd: FloatArray, centroids_kd: FloatArray, spherical: bool) -> FloatArray:
    """Return the (B,) distances to the nearest centroid, from differences; products only tell which it is.

    The two best of the products are measured, so that rounding between equals decides nothing. A centroid of length 0
    has the cosine 0 with everything.
    """
    squares = np.einsum("kd,kd->k", centroids_kd, centroids_kd)
    penalty = np.zeros_like(squares) if spherical else squares / 2.0
    ranks = penalty - rows_bd @ centroids_kd.T
    count = min(2, len(centroids_kd))
    best = np.argpartition(ranks, count - 1, axis=1)[:, :count]
    distances = []
    for nearest in best.T:
        differences = rows_bd - centroids_kd[nearest]
        lengths = _lengths(differences)
        distances.append(lengths**2 / 2.0 + np.where(squares[nearest] > 0, 0.0, 0.5) if spherical else lengths)
    return np.asarray(np.min(distances, axis=0))


def _draw_points(uniform_bu: FloatArray, ranges_3d: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return (B, S) different features and (B, S) coordinates of a point, from (B, 2 S) uniform numbers."""
    size = uniform_bu.shape[1] // 2
    n_features = ranges_3d.shape[1]
    axes = np.empty((len(uniform_bu), size), np.int64)
    for j in range(size):
        last = n_features - size + j
        axis = (uniform_bu[:, j] * (last + 1)).astype(np.int64)
        axes[:, j] = np.where((axes[:, :j] == axis[:, None]).any(axis=1), last, axis)
    low, mode, high = ranges_3d[:, axes]
    u, width = uniform_bu[:, size:], high - low
    rising = low + np.sqrt(u * width * (mode - low))
    falling = high - np.sqrt((1.0 - u) * width * (high - mode))
    return axes, np.where(u * width < mode - low, rising, falling)


@functools.cache
def _compile_draw_block() -> Callable[..., None]:
    """Return the function that does a block of draws on all threads; each draw writes to rows of its own."""
    import numba

    compiled = numba.njit(nogil=True)

    @compiled  # type: ignore[untyped-decorator, unused-ignore]
    def write_distances(columns_dn, axes_s, point_s, distances_n):  # type: ignore[no-untyped-def]
        for j in range(len(axes_s)):
            column, at = columns_dn[axes_s[j]], point_s[j]
            if j == 0:
                for i in range(len(column)):
                    distances_n[i] = abs(column[i] - at)
            else:
                for i in range(len(column)):
                    distances_n[i] += abs(column[i] - at)

    @compiled  # type: ignore[untyped-decorator, unused-ignore]
    def select(values, rank):  # type: ignore[no-untyped-def]
        """Return the value of this rank (0 = least), by Hoare's selection; ``values`` are moved about."""
        low, high = 0, len(values) - 1
        while low < high:
            pivot = values[(low + high) // 2]
            i, j = low, high
            while i <= j:
                while values[i] < pivot:
                    i += 1
                while values[j] > pivot:
                    j -= 1
                if i <= j:
                    values[i], values[j] = values[j], values[i]
                    i += 1
                    j -= 1
            if rank <= j:
                high = j
            elif rank >= i:
                low = i
            else:
                break
        return values[rank]

    @compiled  # type: ignore[untyped-decorator, unused-ignore]
    def nearest_within(distances_n, limit, wanted, near_n, scratch_n):  # type: ignore[no-untyped-def]
        """Return how many distances are up to the limit, and the ``wanted``-th of them (infinite if there is none)."""
        found = 0
        for i in range(len(distances_n)):
            near_n[found] = i
            found += distances_n[i] <= limit
        if found < wanted:
            return found, np.inf
        for i in range(found):
            scratch_n[i] = distances_n[near_n[i]]
        return found, select(scratch_n[:found], wanted - 1)

    @compiled  # type: ignore[untyped-decorator, unused-ignore]
    def draw(columns_dn, axes_s, point_s, exponent, probes, near_k, loss_k, distances_n, near_n, scratch_n):  # type: ignore[no-untyped-def]
        n_samples, wanted = len(distances_n), len(near_k)
        write_distances(columns_dn, axes_s, point_s, distances_n)
        chosen = 0
        for i in range(n_samples):
            if distances_n[i] < distances_n[chosen]:
                chosen = i
        if wanted == 0:
            return chosen
        for j in range(len(axes_s)):
            point_s[j] = columns_dn[axes_s[j], chosen]
        write_distances(columns_dn, axes_s, point_s, distances_n)
        distances_n[chosen] = np.inf

        limit, step = np.inf, n_samples // probes
        if step >= 8:  # a few distances tell roughly how far the neighbors reach, so that most samples drop out at once
            count = 0
            for i in range(0, n_samples, step):
                scratch_n[count] = distances_n[i]
                count += 1
            expected = wanted / step
            rank = int(expected + 4.0 * np.sqrt(expected) + 4.0)
            if rank < count:
                limit = select(scratch_n[:count], rank)
        found, edge = nearest_within(distances_n, limit, wanted, near_n, scratch_n)
        if found < wanted:
            found, edge = nearest_within(distances_n, np.inf, wanted, near_n, scratch_n)

        equals, least = wanted, np.inf
        for i in range(found):
            distance = distances_n[near_n[i]]
            equals -= distance < edge
            least = min(least, distance)
        count, total = 0, 0.0
        for i in range(found):
            distance = distances_n[near_n[i]]
            if distance > edge or (distance == edge and equals == 0):
                continue
            equals -= distance == edge
            near_k[count] = near_n[i]
            if least == 0.0:
                loss_k[count] = 1.0 if distance == 0.0 else 0.0
            else:
                loss_k[count] = (least / distance) ** exponent
            total += loss_k[count]
            count += 1
        for i in range(wanted):
            loss_k[i] /= total
        return chosen

    @numba.njit(nogil=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
    def draw_lanes(lanes, columns_dn, axes_bs, points_bs, exponent, probes, chosen_b, near_bk, loss_bk):  # type: ignore[no-untyped-def]
        n_samples = columns_dn.shape[1]
        for lane in numba.prange(lanes):
            distances_n, scratch_n = np.empty(n_samples), np.empty(n_samples)
            near_n = np.empty(n_samples, np.int64)
            for b in range(lane, len(chosen_b), lanes):
                chosen_b[b] = draw(
                    columns_dn,
                    axes_bs[b],
                    points_bs[b],
                    exponent,
                    probes,
                    near_bk[b],
                    loss_bk[b],
                    distances_n,
                    near_n,
                    scratch_n,
                )

    def draw_block(*arguments: Any) -> None:
        draw_lanes(numba.get_num_threads(), *arguments)

    return draw_block
