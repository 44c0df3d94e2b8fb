"""Leave-one-out predictions: the ridge that is chosen, margins and probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_problems import kernel_matrix, left_out, problem

from prune_cli.methods.scores.kernel.ntk_margin import (
    RIDGES,
    NtkParams,
    choose_ridge,
    fit_temperature,
    margins,
    ntk_margin_scores,
    ntk_residual_scores,
    probabilities,
)
from prune_cli.methods.scores.kernel.pieces.solving import kernel_solution
from prune_cli.methods.scores.kernel.samples import make_samples


def test_the_ridge_chosen_is_the_best_left_one_out():
    values, codes = problem(13, 60, features=4)
    chosen = choose_ridge(make_samples(values, codes, NtkParams()), "cpu")
    matrix = kernel_matrix(values)
    accuracies = [np.mean(left_out(matrix, codes, r)[1].argmax(axis=1) == codes) for r in RIDGES]
    assert chosen.accuracies == pytest.approx(accuracies)
    assert chosen.ridge == max(r for r, a in zip(RIDGES, accuracies, strict=True) if a == max(accuracies))
    assert chosen.rows == 60 and len(set(accuracies)) > 2


def test_a_wrong_label_has_the_lowest_margin():
    values, codes = problem(14, 300, features=12)
    values += 3 * np.eye(12)[codes]
    given = codes.copy()
    given[:15] = (codes[:15] + 1) % 3
    solution = kernel_solution(values, given, NtkParams())
    margin = ntk_margin_scores(solution, given)["ntk_margin"]
    assert set(np.argsort(margin)[:15]) == set(range(15)) and (margin[:15] < 0).all()
    residual = ntk_residual_scores(solution, given)["ntk_residual"]
    assert set(np.argsort(residual)[-15:]) == set(range(15))


def test_margins_by_hand():
    predictions = np.array([[0.5, -0.2, 0.1], [0.3, 0.3, -1.0]])
    assert margins(predictions, np.array([2, 0])) == pytest.approx([-0.4, 0.0])


def test_temperature_makes_the_given_labels_likeliest():
    # logits 0 and d with the label right in 3 of 4: softmax(d / T) = 3/4 at d / T = ln 3
    predictions = np.array([[1.0, -1.0]] * 4)
    temperature = fit_temperature(predictions, np.array([0, 0, 0, 1]))
    assert temperature == pytest.approx(2 / np.log(3), rel=1e-4)
    probs = probabilities(predictions, temperature)
    np.testing.assert_allclose(probs, [[0.75, 0.25]] * 4, rtol=1e-4)
