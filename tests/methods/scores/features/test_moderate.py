"""The score ``moderate``: by hand, then against its definition in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from feature_problems import blobs, only, problem

from prune_cli.methods.scores.features.moderate import moderate_scores


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
