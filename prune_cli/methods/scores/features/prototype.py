"""The score ``prototype``: how far a sample lies from the nearest centroid of k-means.

This module imports faiss inside functions only.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import FloatArray, IntArray, chunks, power_of_two
from prune_cli.core.errors import InputError
from prune_cli.core.params import build_params, param
from prune_cli.core.progress import Progress, silent
from prune_cli.core.rng import stream_seed
from prune_cli.methods.scores.features.samples import check_samples, row_lengths


@dataclass(frozen=True)
class PrototypeParams:
    """Parameters of `prototype_scores`."""

    clusters: int | None = param(None, "centroids of k-means; none: as many as classes that have samples", low=1)
    metric: Literal["cosine", "euclidean"] = param("cosine", "distance to the centroid, and which k-means")
    iterations: int = param(20, "iterations of k-means", low=1)

    def by_angle(self) -> bool:
        """Return whether vectors are divided by their lengths."""
        return self.metric == "cosine"


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
        order_n: (N,) int64, the samples' positions in canonical order (argsort of the ids). None: as they come.
        seed: 0 or more; draws the first centroids.
        device: checked, not used: it runs on the processor, for the same bits with and without a card.
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
    order_n = check_samples(features_nd, codes_n, order_n, device)
    n_samples, n_features = features_nd.shape
    clusters = len(np.unique(codes_n)) if params.clusters is None else params.clusters
    if clusters > n_samples:
        raise InputError(f"prototype: {clusters} clusters of {n_samples} samples", f"pass -p clusters={n_samples} or fewer")
    spherical = params.metric == "cosine"
    if spherical:
        _refuse_zeros(features_nd)
    center_d = (features_nd.min(axis=0).astype(np.float64) + features_nd.max(axis=0)) / 2  # any order gives the same bits
    scale = 1.0 if spherical else power_of_two(features_nd, center_d)

    def rows(part: slice) -> FloatArray:
        values = features_nd[order_n[part]].astype(np.float64)
        return _unit(values) if spherical else (values - center_d) * scale

    parts = list(chunks(n_samples, max(n_features, clusters)))
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


def _refuse_zeros(features_nd: NDArray[Any]) -> None:
    """Raise where a row is zero."""
    zero = np.flatnonzero(~features_nd.any(axis=1))
    if len(zero):
        raise InputError(
            f"prototype: {len(zero)} row(s) are zero and have no direction, the first at position {zero[0]}",
            "leave these rows out before scoring, or pass -p metric=euclidean",
        )


def _unit(rows_bd: FloatArray) -> FloatArray:
    """Return the rows, none of them zero, with length 1; neither tiny nor huge ones lose a digit."""
    rows_bd = rows_bd / np.abs(rows_bd).max(axis=1, keepdims=True)
    return np.asarray(rows_bd / row_lengths(rows_bd)[:, None])


def _centroids(rows_nd: NDArray[np.float32], clusters: int, iterations: int, spherical: bool, seed: int) -> NDArray[np.float64]:
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
        lengths = row_lengths(centroids)[:, None]
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
        lengths = row_lengths(differences)
        distances.append(lengths**2 / 2.0 + np.where(squares[nearest] > 0, 0.0, 0.5) if spherical else lengths)
    return np.asarray(np.min(distances, axis=0))
