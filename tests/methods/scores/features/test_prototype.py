"""The score ``prototype``: by hand, then against its definition in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from feature_problems import blobs, only, problem

from prune_cli.core.errors import InputError
from prune_cli.methods.scores.features import prototype as module
from prune_cli.methods.scores.features.prototype import PrototypeParams, prototype_scores


def reference_nearest(rows, centroids, spherical) -> list[float]:
    if spherical:
        return [min(1.0 - sum(x * y for x, y in zip(row, c, strict=True)) for c in centroids) for row in rows]
    return [min(math.dist(row, c) for c in centroids) for row in rows]


def test_prototype_by_hand():
    # any two of the four as first centroids lead to the means 2 and 100
    features = np.array([[0.0, 3.0], [1.0, 3.0], [5.0, 3.0], [100.0, 3.0]])
    params = PrototypeParams(clusters=2, metric="euclidean")
    for seed in range(5):
        scores = only(prototype_scores(features, np.zeros(4, np.int64), params, seed=seed))
        np.testing.assert_allclose(scores, [2.0, 1.0, 3.0, 0.0], atol=1e-12)


def test_prototype_cosine_by_hand():
    # one cluster: the mean direction of 0 and 90 degrees is 45; lengths do not matter
    features = np.array([[3.0, 0.0], [0.0, 1e-200], [5e90, 5e90], [-1.0, -1.0]])
    codes = np.array([0, 1, 1, 1])
    scores = only(prototype_scores(features, codes, PrototypeParams(clusters=1)))
    np.testing.assert_allclose(scores, [1 - math.sqrt(0.5), 1 - math.sqrt(0.5), 0.0, 2.0], atol=1e-7)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_prototypes_of_separate_classes_are_their_means(metric):
    features, codes = blobs()
    rows = features / np.linalg.norm(features, axis=1, keepdims=True) if metric == "cosine" else features
    means = np.array([rows[codes == c].mean(axis=0) for c in range(3)])
    if metric == "cosine":
        means /= np.linalg.norm(means, axis=1, keepdims=True)
    expected = reference_nearest(rows, means, metric == "cosine")
    # a seed whose first centroids lie in one class may end elsewhere: the best of eight does not
    runs = [only(prototype_scores(features, codes, PrototypeParams(metric=metric), seed=s)) for s in range(8)]
    best = min(runs, key=lambda scores: scores.sum())
    np.testing.assert_allclose(best, expected, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("spherical", [True, False])
def test_centroids_are_the_means_of_the_samples_next_to_them(spherical):
    rows = np.random.default_rng(4).normal(loc=[1.0, 0.0, 0.0, 0.0], size=(400, 4))
    if spherical:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    centroids = module._centroids(rows.astype(np.float32), 6, 100, spherical, 1)
    if spherical:
        np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1.0, rtol=0, atol=1e-15)
    nearest = np.linalg.norm(rows[:, None] - centroids, axis=2).argmin(axis=1)
    means = np.array([rows[nearest == k].mean(axis=0) for k in range(6)])
    if spherical:
        means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(centroids, means, rtol=0, atol=1e-6)


@pytest.mark.parametrize("spherical", [True, False])
@pytest.mark.parametrize("clusters", [1, 2, 9])
def test_distances_are_those_of_plain_loops(spherical, clusters):
    rng = np.random.default_rng(clusters)
    rows, centroids = rng.normal(size=(50, 7)), rng.normal(size=(clusters, 7))
    if spherical:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    fast = module._nearest_distances(rows, centroids, spherical)
    np.testing.assert_allclose(fast, reference_nearest(rows, centroids, spherical), rtol=1e-12, atol=1e-15)


def test_a_centroid_without_direction_has_the_cosine_0_with_everything():
    rows = np.array([[1.0, 0.0], [-0.6, 0.8]])
    centroids = np.array([[0.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(module._nearest_distances(rows, centroids, True), [1.0, 0.2], atol=1e-15)


def test_distances_near_zero_keep_their_digits():
    angle = 1e-9
    rows, centroids = np.array([[math.cos(angle), math.sin(angle)]]), np.array([[1.0, 0.0]])
    assert module._nearest_distances(rows, centroids, True)[0] == pytest.approx(angle**2 / 2, rel=1e-6)
    far = np.array([[1e8, 1.0]])
    assert module._nearest_distances(far, np.array([[1e8, 0.0]]), False).tolist() == [1.0]


def test_the_scale_of_the_features_changes_nothing_but_the_unit():
    features, codes = problem(1)
    params = PrototypeParams(metric="euclidean")
    scores = only(prototype_scores(features, codes, params))
    np.testing.assert_array_equal(only(prototype_scores(features * 2.0**200, codes, params)), scores * 2.0**200)


def test_as_many_clusters_as_samples_leave_no_distance(capfd):
    features, codes = problem(2, n=20)
    for metric in ("cosine", "euclidean"):
        scores = only(prototype_scores(features, codes, PrototypeParams(clusters=20, metric=metric)))
        np.testing.assert_allclose(scores, 0.0, atol=1e-6)
    assert only(prototype_scores(np.zeros((4, 2)), codes[:4], PrototypeParams(metric="euclidean"))).tolist() == [0.0] * 4
    assert capfd.readouterr() == ("", "")  # no warning about few samples


def test_all_samples_take_part_in_k_means():
    # 600 samples of one cluster are more than the 256 that FAISS takes by itself
    features = np.random.default_rng(0).normal(size=(600, 3))
    scores = only(prototype_scores(features, np.zeros(600, np.int64), PrototypeParams(metric="euclidean")))
    np.testing.assert_allclose(scores, np.linalg.norm(features - features.mean(axis=0), axis=1), atol=1e-5)


def test_the_seed_draws_the_first_centroids():
    features, codes = problem(3, n=200)
    params = PrototypeParams(clusters=15)
    assert (only(prototype_scores(features, codes, params)) != only(prototype_scores(features, codes, params, seed=1))).any()


def test_rows_of_zeros_have_no_cosine():
    features = np.array([[1.0, 0.0], [0.0, -0.0], [0.0, 0.0], [1.0, 1.0]])
    codes = np.zeros(4, np.int64)
    with pytest.raises(InputError, match=r"2 row\(s\) are zero.*position 1") as caught:
        prototype_scores(features, codes)
    assert "metric=euclidean" in str(caught.value.cure)
    assert np.isfinite(only(prototype_scores(features, codes, PrototypeParams(metric="euclidean")))).all()
