"""Normalisation: statistics by hand, and batches by them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prune_cli.methods.training.data import inputs as module
from prune_cli.methods.training.data.inputs import channel_statistics, normalize


def images(n: int = 30, shape: tuple[int, int, int] = (4, 5, 3)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def test_statistics_of_pictures():
    x = images()
    mean, std = channel_statistics(x, np.arange(30), workers=1)
    np.testing.assert_allclose(mean, (x / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (x / 255).std(axis=(0, 1, 2)), rtol=1e-12)


def test_statistics_by_hand_and_a_constant_channel():
    x = np.array([0, 255, 0, 255, 7, 7, 7, 7], np.uint8).reshape(2, 4, 1, 1).transpose(1, 2, 3, 0)
    mean, std = channel_statistics(x, np.arange(4), workers=1)
    np.testing.assert_allclose(mean, [0.5, 7 / 255])
    np.testing.assert_allclose(std, [0.5, 1.0])


def test_statistics_of_vectors():
    x = np.random.default_rng(0).normal(3, 2, (50, 4)).astype(np.float32)
    x[:, 3] = 0.1  # whose sum is rounded
    mean, std = channel_statistics(x, np.arange(50), workers=1)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(std, [*x[:, :3].std(axis=0), 1.0], rtol=1e-5)


def test_many_samples_are_thinned_evenly(monkeypatch):
    monkeypatch.setattr(module, "STATISTICS_SAMPLES", 3)
    x = np.array([10, 99, 20, 99, 30, 99], np.float32)[:, None]
    mean, _ = channel_statistics(x, np.arange(6), workers=1)
    assert mean == pytest.approx([20])
    shuffled = np.array([1, 4, 0, 5, 2, 3])
    np.testing.assert_array_equal(channel_statistics(x[shuffled], np.argsort(shuffled), workers=1)[0], mean)


def test_normalize_by_hand_and_channels_last():
    pixels = torch.tensor([[[[0, 10]], [[20, 30]]]], dtype=torch.uint8)  # (1, 2, 1, 2)
    result = normalize(pixels, torch.tensor([10.0, 20.0]), torch.tensor([0.1, 0.5]))
    assert result.tolist() == [[[[-1.0], [1.0]], [[-5.0], [5.0]]]]
    many = normalize(torch.from_numpy(images(4, (6, 5, 3))), torch.zeros(3), torch.ones(3))
    assert many.shape == (4, 3, 6, 5) and many.is_contiguous(memory_format=torch.channels_last)
