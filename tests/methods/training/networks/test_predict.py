"""Predictions: rows in order, whatever the batch, the source and the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from prune_cli.core.errors import InputError, NumericalError
from prune_cli.core.runtime import Runtime
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.methods.training.networks.predict import Look, Prediction, predict
from prune_cli.methods.training.recipes.job import TrainingJob
from prune_cli.methods.training.recipes.sgd import StandardParams, train_standard

CPU = Runtime(device="cpu", batch_size=32, workers=1)


@dataclass
class Stream:
    images: np.ndarray

    @property
    def shape(self):
        return self.images.shape

    def take(self, positions):
        return self.images[positions]


@pytest.fixture
def trained(digits, training_set, recorder):
    x, y = digits
    return train_standard(
        TrainingJob(training_set(x[:100], y[:100]), "resnet9:4", Budget(steps=5), runtime=CPU, observer=recorder()), StandardParams()
    )


def test_logits_are_those_of_the_layers(trained, digits):
    x = digits[0][:70]
    calls = []
    found = predict(
        trained.tensors,
        trained.model,
        x,
        runtime=CPU,
        look=Look(embeddings=True),
        progress=lambda task, done, total: calls.append((done, total)),
    )
    assert found.logits_nc.shape == (70, 10) and found.embeddings_nd.shape == (70, 32)
    expected = found.embeddings_nd @ trained.tensors["head.weight"].T + trained.tensors["head.bias"]
    np.testing.assert_allclose(found.logits_nc, expected, atol=1e-5)
    assert calls == [(32, 70), (64, 70), (70, 70)]


def test_batches_and_streams_change_nothing(trained, digits):
    x = digits[0][:70]
    one = predict(trained.tensors, trained.model, x, runtime=CPU)
    assert one.embeddings_nd is None
    streamed = predict(trained.tensors, trained.model, Stream(x), runtime=CPU)
    np.testing.assert_array_equal(one.logits_nc, streamed.logits_nc)
    other = predict(trained.tensors, trained.model, x, runtime=Runtime(device="cpu", batch_size=7, workers=1))
    np.testing.assert_allclose(one.logits_nc, other.logits_nc, atol=1e-4)
    backwards = predict(trained.tensors, trained.model, x[::-1], runtime=CPU)
    np.testing.assert_allclose(one.logits_nc, backwards.logits_nc[::-1], atol=1e-4)


def test_bfloat16_is_near(trained, digits):
    x = digits[0][:70]
    exact = predict(trained.tensors, trained.model, x, runtime=CPU).logits_nc
    rounded = predict(trained.tensors, trained.model, x, runtime=Runtime(device="cpu", workers=1, precision="bfloat16")).logits_nc
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(exact, rounded, atol=0.1)


def test_probabilities_by_hand():
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 1000.0]], dtype=np.float32)
    probs = Prediction(logits, None).probs_nc()
    np.testing.assert_allclose(probs, [[0.25, 0.75], [0.5, 0.5]], atol=1e-6)
    assert probs.dtype == np.float32


def test_what_does_not_fit_is_refused(trained, digits):
    x = digits[0][:5]
    with pytest.raises(InputError, match=r"4 x 8 x 1.*8 x 8 x 1"):
        predict(trained.tensors, trained.model, x[:, :4], runtime=CPU)
    with pytest.raises(InputError, match="float16"):
        predict(trained.tensors, trained.model, x, runtime=Runtime(device="cpu", precision="float16"))
    broken = trained.tensors | {"head.bias": np.full(10, np.nan, np.float32)}
    with pytest.raises(NumericalError, match="row 0"):
        predict(broken, trained.model, x, runtime=CPU)
