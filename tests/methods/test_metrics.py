"""Metrics of a classifier: by hand, and against a slow twin."""

from __future__ import annotations

import numpy as np
import pytest

from prune_cli.core.errors import InputError, NumericalError
from prune_cli.methods.metrics import classification_metrics


def logits_of(probs: list[list[float]]) -> np.ndarray:
    return np.log(np.array(probs))


def test_by_hand():
    # confidence .9 right, .6 wrong, .7 right, .7 wrong
    logits = logits_of([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.7, 0.3]])
    found = classification_metrics(logits, np.array([0, 1, 1, 1]), 2)
    assert found["accuracy"] == 0.5
    assert found["loss"] == pytest.approx(-np.log([0.9, 0.4, 0.7, 0.3]).mean())
    # bins of width 1/15: .6 alone (accuracy 0), .7 and .7 together (accuracy 1/2), .9 alone (accuracy 1)
    assert found["ece"] == pytest.approx(1 / 4 * 0.6 + 2 / 4 * abs(0.5 - 0.7) + 1 / 4 * 0.1)
    assert found["confusion"].tolist() == [[1, 0], [2, 1]]
    assert found["class_accuracy"] == pytest.approx([1, 1 / 3])
    assert "top5" not in found


def test_top5_and_an_absent_class():
    logits = np.tile(np.arange(7.0), (4, 1))  # class 6 first, then 5, 4, 3, 2
    found = classification_metrics(logits, np.array([6, 2, 1, 1]), 7)
    assert found["accuracy"] == 0.25 and found["top5"] == 0.5
    assert np.isnan(found["class_accuracy"][[0, 3, 4, 5]]).all()
    assert found["class_accuracy"][[1, 2, 6]].tolist() == [0, 0, 1]
    assert found["confusion"][:, 6].tolist() == [0, 2, 1, 0, 0, 0, 1] and found["confusion"].sum() == 4


def slow_metrics(logits: np.ndarray, labels: np.ndarray, n_classes: int) -> dict[str, object]:
    n = len(labels)
    loss, right, top5 = 0.0, 0, 0
    confusion = np.zeros((n_classes, n_classes), dtype=int)
    bins: dict[int, list[tuple[float, float]]] = {}
    for z, y in zip(logits, labels, strict=True):
        p = np.exp(z) / np.exp(z).sum()
        loss -= np.log(p[y]) / n
        guess = int(np.argmax(p))
        right += guess == y
        top5 += y in np.argsort(-p)[:5]
        confusion[y, guess] += 1
        bins.setdefault(int(p.max() * 15), []).append((p.max(), guess == y))
    ece = sum(len(b) / n * abs(np.mean([c for c, _ in b]) - np.mean([r for _, r in b])) for b in bins.values())
    per_class = [confusion[c, c] / confusion[c].sum() for c in range(n_classes)]
    return {"loss": loss, "accuracy": right / n, "top5": top5 / n, "ece": ece, "confusion": confusion, "class_accuracy": per_class}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_to_the_slow_twin(dtype):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 500)
    sureness = np.where(rng.random((500, 1)) < 0.5, 0.3, 4)  # too little or too much: errors of both signs
    logits = (sureness * (rng.normal(size=(500, 8)) + 1.5 * np.eye(8)[labels])).astype(dtype)
    found, slow = classification_metrics(logits, labels, 8), slow_metrics(logits.astype(float), labels, 8)
    assert found.keys() == slow.keys()
    for name, value in slow.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def test_sure_and_right_is_perfect():
    found = classification_metrics(np.eye(3) * 1000, np.arange(3), 3)
    assert (found["accuracy"], found["loss"], found["ece"]) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("logits", "labels", "error"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), InputError),
        (np.zeros((2, 3)), np.zeros(2, int), InputError),
        (np.zeros((2, 2)), np.array([0, 2]), InputError),
        (np.zeros((2, 2)), np.array([-1, 1]), InputError),
        (np.array([[0, np.nan]]), np.array([0]), NumericalError),
    ],
)
def test_what_does_not_fit_is_refused(logits, labels, error):
    with pytest.raises(error):
        classification_metrics(logits, labels, 2)
