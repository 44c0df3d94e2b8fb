"""The kernel: worked by hand, then as the average over random weights that it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from prune_cli.methods.scores.kernel.kernels import relu_kernel


def kernel(*cosines: float, rounding: float = 0.0) -> list[float]:
    return relu_kernel(torch.tensor(cosines, dtype=torch.float64), rounding).tolist()


def test_values_worked_by_hand():
    # 60 degrees: 1/2 (pi - pi/3) / (2 pi) = 1/6; 120 degrees: -1/2 (pi/3) / (2 pi) = -1/12
    assert kernel(1.0, 0.5, 0.0, -0.5, -1.0) == pytest.approx([1 / 2, 1 / 6, 0, -1 / 12, 0], abs=1e-15)


def test_cosines_beyond_one_are_clamped():
    assert kernel(1.0 + 1e-15, -1.0 - 1e-15) == [0.5, 0.0]


def test_a_cosine_within_rounding_of_one_is_one():
    just_less = 1.0 - 2e-15
    assert kernel(just_less)[0] < 0.5  # an angle of 6e-8, of which rounding is all
    assert kernel(just_less, rounding=4e-15) == [0.5]
    assert kernel(1.0 - 1e-13, rounding=4e-15)[0] < 0.5


def test_is_written_over_its_input_with_and_without_scratch():
    for scratch in (None, torch.empty(3, dtype=torch.float64)):
        values = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
        assert relu_kernel(values, 0.0, scratch) is values
        assert values[1].item() == pytest.approx(1 / 6)


def test_float32_agrees_with_float64():
    cosines = torch.linspace(-1, 1, 201, dtype=torch.float64)
    single, double = relu_kernel(cosines.float(), 0.0), relu_kernel(cosines.clone(), 0.0)
    assert (single.double() - double).abs().max() < 1e-4  # arccos near 1 loses half of the digits
    assert single.dtype == torch.float32


def test_is_the_average_of_gradient_products_over_random_weights():
    # H_ij = E_w[x_i . x_j 1{w . x_i > 0} 1{w . x_j > 0}]
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 5))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    active = rng.normal(size=(400_000, 5)) @ rows.T > 0
    averaged = (rows @ rows.T) * (active.T.astype(float) @ active) / len(active)
    closed = relu_kernel(torch.from_numpy(rows @ rows.T), 1e-15).numpy()
    assert np.abs(closed - averaged).max() < 4 * 0.5 / math.sqrt(len(active))
