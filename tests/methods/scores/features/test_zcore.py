"""The score ``zcore``: by hand, then against its definition in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from feature_problems import only, problem
from scipy import stats

from prune_cli.core.rng import generator
from prune_cli.methods.scores.features import zcore as module
from prune_cli.methods.scores.features.zcore import ZcoreParams, zcore_scores
from prune_cli.methods.scores.features.zcore_draws import draw_points

FEW_DRAWS = ZcoreParams(draws=300, neighbors=7)


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
    axes, points = draw_points(uniform, ranges)
    assert (axes[:, 0] != axes[:, 1]).all()
    pairs = np.unique(np.sort(axes, axis=1), axis=0, return_counts=True)
    assert pairs[0].tolist() == [[0, 1], [0, 2], [1, 2]]
    np.testing.assert_allclose(pairs[1] / 30_000, 1 / 3, atol=0.015)
    assert (points[axes == 1] == 1.0).all()  # a feature that never varies
    for feature, shape in ((0, 0.25), (2, 1.0)):
        low, width = ranges[0, feature], ranges[2, feature] - ranges[0, feature]
        expected = stats.triang.ppf(uniform[:, 2:][axes == feature], shape, loc=low, scale=width)
        np.testing.assert_allclose(points[axes == feature], expected, atol=1e-12)
