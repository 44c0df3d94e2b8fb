"""Scores from features: by hand, then against their definitions in plain loops, then their laws."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import faiss
import numba
import numpy as np
import pytest
import torch
from scipy import stats

from prune_cli.core.errors import InputError, UnavailableError
from prune_cli.core.rng import generator
from prune_cli.methods.scores.features import geometry as module
from prune_cli.methods.scores.features.geometry import (
    ModerateParams,
    PrototypeParams,
    ZcoreParams,
    moderate_scores,
    prototype_scores,
    zcore_scores,
)

NONE = ModerateParams()
FEW_DRAWS = ZcoreParams(draws=300, neighbors=7)
EVERY = [
    pytest.param(moderate_scores, NONE, id="moderate"),
    pytest.param(prototype_scores, PrototypeParams(clusters=6), id="prototype-cosine"),
    pytest.param(prototype_scores, PrototypeParams(clusters=6, metric="euclidean"), id="prototype-euclidean"),
    pytest.param(zcore_scores, FEW_DRAWS, id="zcore"),
]


def problem(seed: int, n: int = 60, d: int = 5, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.choice([0, 1, 4], size=n)
    return (rng.normal(size=(n, d)) + 2.0 * rng.normal(size=(5, d))[codes]).astype(dtype), codes


def blobs(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Three classes in three directions, far from each other."""
    codes = np.arange(n) % 3
    return np.random.default_rng(5).normal(scale=0.3, size=(n, 6)) + 10.0 * np.eye(6)[codes], codes


def only(scores: dict[str, np.ndarray]) -> np.ndarray:
    assert len(scores) == 1
    return next(iter(scores.values()))


# The slow twins: the definitions, in plain loops.


def reference_moderate(features, codes) -> list[float]:
    scores = []
    for row, code in zip(features, codes, strict=True):
        median = []
        for column in range(features.shape[1]):
            values = sorted(float(features[i, column]) for i in range(len(codes)) if codes[i] == code)
            half = len(values) // 2
            median.append(values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2.0)
        scores.append(math.dist([float(x) for x in row], median))
    return scores


def reference_nearest(rows, centroids, spherical) -> list[float]:
    if spherical:
        return [min(1.0 - sum(x * y for x, y in zip(row, c, strict=True)) for c in centroids) for row in rows]
    return [min(math.dist(row, c) for c in centroids) for row in rows]


def reference_zcore(features, params, seed=0) -> np.ndarray:
    x = features.astype(np.float64)
    n, d = x.shape
    scores = generator(seed, "zcore", "start").random(n)
    stream = generator(seed, "zcore", "draws")
    for _ in range(params.draws):
        uniform = stream.random(2 * params.subspace)
        axes: list[int] = []
        for j in range(params.subspace):
            last = d - params.subspace + j
            axis = math.floor(uniform[j] * (last + 1))
            axes.append(last if axis in axes else axis)
        point = []
        for axis, u in zip(axes, uniform[params.subspace :], strict=True):
            low, mode, high = x[:, axis].min(), np.median(x[:, axis]), x[:, axis].max()
            if u * (high - low) < mode - low:
                point.append(low + math.sqrt(u * (high - low) * (mode - low)))
            else:
                point.append(high - math.sqrt((1.0 - u) * (high - low) * (high - mode)))
        chosen = min(range(n), key=lambda i: (sum(abs(x[i, axes[j]] - point[j]) for j in range(len(axes))), i))
        distance = [sum(abs(x[i, axis] - x[chosen, axis]) for axis in axes) for i in range(n)]
        near = sorted((i for i in range(n) if i != chosen), key=lambda i: (distance[i], i))[: params.neighbors]
        scores[chosen] += 1.0
        if any(distance[i] == 0.0 for i in near):
            weights = [float(distance[i] == 0.0) for i in near]
        else:
            weights = [distance[i] ** -params.exponent for i in near]
        for i, weight in zip(near, weights, strict=True):
            scores[i] -= weight / sum(weights)
    return scores


# moderate


def test_moderate_by_hand():
    # class 7 has the median (1, 2), the mean of the two middle values in each column; class 2 is one sample
    features = np.array([[0.0, 0.0], [9.0, 9.0], [-3.0, 2.0], [2.0, 2.0], [4.0, 6.0]])
    scores = only(moderate_scores(features, np.array([7, 2, 7, 7, 7])))
    np.testing.assert_allclose(scores, [math.sqrt(5), 0.0, 4.0, 1.0, 5.0], rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(4))
def test_moderate_is_its_definition(seed, dtype):
    features, codes = problem(seed, n=31 + seed, dtype=dtype)
    scores = only(moderate_scores(features, codes))
    np.testing.assert_allclose(scores, reference_moderate(features, codes), rtol=1e-13)


def test_moderate_computes_in_float64():
    # the median of two is their mean: exactly 1 away from both, though float32 cannot hold it
    features = np.array([[2.0**24], [2.0**24 + 2]], np.float32)
    assert only(moderate_scores(features, np.zeros(2, np.int64))).tolist() == [1.0, 1.0]


def test_a_flipped_label_is_far_from_its_class_median():
    features, codes = blobs()
    given = codes.copy()
    given[[3, 10]] = (given[[3, 10]] + 1) % 3
    scores = only(moderate_scores(features, given))
    assert set(np.argsort(scores)[-2:]) == {3, 10}
    assert np.sort(scores)[-2] > 5 * np.sort(scores)[-3]


# prototype


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
    assert (
        only(prototype_scores(np.zeros((4, 2)), codes[:4], PrototypeParams(metric="euclidean"))).tolist() == [0.0] * 4
    )
    assert capfd.readouterr() == ("", "")  # no warning about few samples


def test_all_samples_take_part_in_k_means():
    # 600 samples of one cluster are more than the 256 that FAISS takes by itself
    features = np.random.default_rng(0).normal(size=(600, 3))
    scores = only(prototype_scores(features, np.zeros(600, np.int64), PrototypeParams(metric="euclidean")))
    np.testing.assert_allclose(scores, np.linalg.norm(features - features.mean(axis=0), axis=1), atol=1e-5)


def test_the_seed_draws_the_first_centroids():
    features, codes = problem(3, n=200)
    params = PrototypeParams(clusters=15)
    assert (
        only(prototype_scores(features, codes, params)) != only(prototype_scores(features, codes, params, seed=1))
    ).any()


# zcore


class Fixed:
    """A generator whose numbers are given."""

    def __init__(self, numbers: list[float]) -> None:
        self.numbers = numbers

    def random(self, size) -> np.ndarray:
        return np.resize(self.numbers, size)


def test_zcore_by_hand(monkeypatch):
    # the only feature, and a point close to its greatest value: sample 1 gains 1; with exponent 1 the distances 3 and 2
    # of the others share the loss as 1/3 to 1/2
    numbers = {"start": [0.0, 0.0, 0.5], "draws": [0.0, 0.999]}
    monkeypatch.setattr(module, "generator", lambda seed, *stream: Fixed(numbers[stream[-1]]))
    params = ZcoreParams(draws=1, subspace=1, exponent=1)
    scores = only(zcore_scores(np.array([[0.0], [3.0], [1.0]]), np.zeros(3, np.int64), params))
    np.testing.assert_allclose(scores, [-0.4, 1.0, 0.5 - 0.6], atol=1e-15)
    # another one at the same place takes the whole loss, two of them half each
    scores = only(zcore_scores(np.array([[0.0], [3.0], [3.0], [3.0]]), np.zeros(4, np.int64), params))
    np.testing.assert_allclose(scores, [0.0, 1.0, 0.5 - 0.5, -0.5], atol=1e-15)
    # equal distances, equal losses
    scores = only(zcore_scores(np.array([[0.0], [0.0], [3.0]]), np.zeros(3, np.int64), params))
    np.testing.assert_allclose(scores, [-0.5, -0.5, 0.5 + 1.0], atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "params"),
    [
        (40, ZcoreParams(draws=40)),
        (41, ZcoreParams(draws=40, neighbors=5)),
        (40, ZcoreParams(draws=40, neighbors=5, subspace=1, exponent=1)),
        (40, ZcoreParams(draws=40, neighbors=39, subspace=5)),
        (40, ZcoreParams(draws=40, neighbors=3, subspace=4, exponent=0)),
        (2, ZcoreParams(draws=9)),
        (1, ZcoreParams(draws=9)),
    ],
)
def test_zcore_is_its_definition(n, params, dtype):
    features, codes = problem(n, n=n, dtype=dtype)
    for seed in (0, 3):
        scores = only(zcore_scores(features, codes, params, seed=seed))
        np.testing.assert_allclose(scores, reference_zcore(features, params, seed), rtol=0, atol=1e-11)


def test_zcore_is_its_definition_where_many_samples_are_equal():
    features = np.random.default_rng(0).integers(0, 3, size=(50, 4)).astype(np.float64)
    features[:, 2] = 0.25  # a feature that never varies
    for neighbors in (1, 6, 49):
        params = ZcoreParams(draws=40, neighbors=neighbors)
        scores = only(zcore_scores(features, np.zeros(50, np.int64), params))
        np.testing.assert_allclose(scores, reference_zcore(features, params), rtol=0, atol=1e-11)


def test_foretelling_how_far_the_neighbors_reach_changes_nothing(monkeypatch):
    features, codes = problem(6, n=160)
    features[::10] = np.arange(16)[:, None] * 1e-3  # the probes are close together: what they foretell is too little
    params = ZcoreParams(draws=60, neighbors=20)
    expected = only(zcore_scores(features, codes, params))
    np.testing.assert_allclose(expected, reference_zcore(features, params), rtol=0, atol=1e-11)
    for probes in (16, 20):
        monkeypatch.setattr(module, "_PROBES", probes)
        np.testing.assert_array_equal(only(zcore_scores(features, codes, params)), expected)


def test_the_size_of_a_block_of_draws_changes_no_bit(monkeypatch):
    features, codes = problem(7)
    expected = only(zcore_scores(features, codes, FEW_DRAWS))
    monkeypatch.setattr(module, "_DRAWS_AT_ONCE", 7)
    np.testing.assert_array_equal(only(zcore_scores(features, codes, FEW_DRAWS)), expected)


def test_zcore_gives_as_much_as_it_takes():
    features, codes = problem(8)
    scores = only(zcore_scores(features, codes, FEW_DRAWS))
    assert scores.sum() == pytest.approx(generator(0, "zcore", "start").random(len(codes)).sum(), abs=1e-9)


def test_zcore_keeps_the_lonely_before_the_crowd():
    rng = np.random.default_rng(9)
    features = np.concatenate([rng.normal(scale=0.01, size=(90, 4)), rng.uniform(-5, 5, size=(10, 4))])
    scores = only(zcore_scores(features, np.zeros(100, np.int64), ZcoreParams(draws=3000)))
    assert scores[90:].mean() > scores[:90].mean() + 10


def test_points_follow_their_distributions():
    uniform = np.random.default_rng(1).random((30_000, 4))
    ranges = np.array([[0.0, 1.0, -2.0], [1.0, 1.0, -1.0], [4.0, 1.0, -1.0]])
    axes, points = module._draw_points(uniform, ranges)
    assert (axes[:, 0] != axes[:, 1]).all()
    pairs = np.unique(np.sort(axes, axis=1), axis=0, return_counts=True)
    assert pairs[0].tolist() == [[0, 1], [0, 2], [1, 2]]
    np.testing.assert_allclose(pairs[1] / 30_000, 1 / 3, atol=0.015)
    assert (points[axes == 1] == 1.0).all()  # a feature that never varies
    for feature, shape in ((0, 0.25), (2, 1.0)):
        low, width = ranges[0, feature], ranges[2, feature] - ranges[0, feature]
        expected = stats.triang.ppf(uniform[:, 2:][axes == feature], shape, loc=low, scale=width)
        np.testing.assert_allclose(points[axes == feature], expected, atol=1e-12)


# Laws of all three


@pytest.mark.parametrize(("score", "params"), EVERY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_order_of_the_rows_changes_no_bit(score, params, dtype):
    features, codes = problem(11, n=120, dtype=dtype)
    features[5] = features[40]  # equal samples: ties go by id
    ids = np.random.default_rng(0).permutation(120)
    permutation = np.random.default_rng(1).permutation(120)
    one = only(score(features, codes, params, order_n=np.argsort(ids)))
    other = only(score(features[permutation], codes[permutation], params, order_n=np.argsort(ids[permutation])))
    assert one.shape == (120,)
    assert one.dtype == np.float64
    np.testing.assert_array_equal(other, one[permutation])


@pytest.mark.parametrize(("score", "params"), EVERY)
def test_no_order_is_the_order_they_come_in(score, params):
    features, codes = problem(12)
    one = score(features, codes, params)
    np.testing.assert_array_equal(only(score(features, codes, params, order_n=np.arange(60))), only(one))


@pytest.mark.parametrize(("score", "params"), EVERY)
def test_chunks_change_no_bit(score, params, monkeypatch):
    features, codes = problem(13)
    expected = only(score(features, codes, params))
    monkeypatch.setattr(module, "_CHUNK_NUMBERS", 64)
    np.testing.assert_array_equal(only(score(features, codes, params)), expected)


@pytest.mark.parametrize(("score", "params"), EVERY)
def test_repeatable_and_the_inputs_stay_as_they_are(score, params):
    features, codes = problem(14)
    order = np.random.default_rng(2).permutation(60)
    arrays = [features, codes, order]
    before = [a.tobytes() for a in arrays]
    for array in arrays:
        array.setflags(write=False)
    first = only(score(features, codes, params, order_n=order, seed=4))
    again = only(score(features, codes, params, order_n=order, seed=4))
    assert first.tobytes() == again.tobytes()
    assert np.isfinite(first).all()
    assert [a.tobytes() for a in arrays] == before


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads(), numba.get_num_threads(), faiss.omp_get_max_threads()
    try:
        torch.set_num_threads(count)
        numba.set_num_threads(count)
        faiss.omp_set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])
        faiss.omp_set_num_threads(before[2])


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one core")
@pytest.mark.parametrize(("score", "params"), EVERY)
def test_the_number_of_threads_changes_no_bit(score, params):
    features, codes = problem(15, n=3000, d=40)
    with threads(1):
        one = only(score(features, codes, params))
    with threads(2):
        two = only(score(features, codes, params))
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize(("score", "params"), EVERY)
def test_progress_ends_at_its_total(score, params):
    seen: list[tuple[str, int, int]] = []
    score(*problem(16), params, progress=lambda task, done, total, facts=None: seen.append((task, done, total)))
    assert {task.split()[0] for task, _, _ in seen} == {score.__name__.removesuffix("_scores")}
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[0][1] == 0
    assert seen[-1][1] == seen[-1][2] > 0


@pytest.mark.parametrize(("score", "params"), EVERY)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros(4)}, "shape"),
        ({"features": np.zeros((0, 2))}, "shape"),
        ({"features": np.zeros((4, 2), np.int64)}, "int64"),
        ({"features": np.zeros((4, 2), np.float16)}, "float16"),
        ({"features": np.array([[1, 1], [1, 1], [1, np.nan], [1, np.nan]])}, "position 2"),
        ({"features": np.array([[1, 1], [1, -np.inf], [1, 1], [1, 1]], np.float32)}, "position 1"),
        ({"features": np.array([[1e101, 1], [1, 1], [1, 1], [1, 1]])}, "1e\\+100"),
        ({"codes": np.zeros(3, np.int64)}, r"\(3,\)"),
        ({"codes": np.zeros(4)}, "float64"),
        ({"codes": np.array([0, 0, -1, 0])}, "-1"),
        ({"order": np.arange(3)}, "order"),
        ({"order": np.array([0, 1, 2, 2])}, "order"),
        ({"device": "gpu"}, "gpu"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_cure(score, params, change, message):
    given = {"features": np.ones((4, 2)), "codes": np.zeros(4, np.int64), "order": None, "device": "cpu"} | change
    with pytest.raises(InputError, match=message) as caught:
        score(given["features"], given["codes"], params, order_n=given["order"], device=given["device"])
    assert caught.value.cure


@pytest.mark.parametrize(
    ("score", "params", "message"),
    [
        (prototype_scores, PrototypeParams(clusters=5), "5 clusters of 4 samples"),
        (prototype_scores, PrototypeParams(clusters=0), "clusters=0"),
        (prototype_scores, PrototypeParams(iterations=0), "iterations=0"),
        (prototype_scores, PrototypeParams(metric="l1"), "metric='l1'"),
        (zcore_scores, ZcoreParams(subspace=3), "subspace of 3 features out of 2"),
        (zcore_scores, ZcoreParams(draws=0), "draws=0"),
        (zcore_scores, ZcoreParams(neighbors=0), "neighbors=0"),
        (zcore_scores, ZcoreParams(exponent=-1), "exponent=-1"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_with_a_cure(score, params, message):
    with pytest.raises(InputError, match=message) as caught:
        score(np.ones((4, 2)), np.zeros(4, np.int64), params)
    assert caught.value.cure


def test_rows_of_zeros_have_no_cosine():
    features = np.array([[1.0, 0.0], [0.0, -0.0], [0.0, 0.0], [1.0, 1.0]])
    codes = np.zeros(4, np.int64)
    with pytest.raises(InputError, match=r"2 row\(s\) are zero.*position 1") as caught:
        prototype_scores(features, codes)
    assert "metric=euclidean" in str(caught.value.cure)
    assert np.isfinite(only(prototype_scores(features, codes, PrototypeParams(metric="euclidean")))).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UnavailableError):
        moderate_scores(*problem(17), device="cuda")


def test_importing_the_module_loads_nothing_heavy():
    code = "import sys, prune_cli.methods.scores.features.geometry; print(sorted({'torch', 'numba', 'faiss'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
