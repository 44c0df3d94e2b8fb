"""Kernels of several layers: by hand, then against their slow twin; and what their names mean."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_problems import kernel_matrix, kernel_tile, problem

from prune_cli.core.errors import InputError
from prune_cli.methods.scores.kernel.kernels import parse_kernel


def test_depth_by_hand():
    # at right angles the second layer sees 1/pi: see deep_relu_kernel
    inside = np.arccos(1 / np.pi)
    expected = (np.pi - inside) / np.pi**2 / 4
    found = kernel_tile(np.eye(2), 2)
    np.testing.assert_allclose(found, [[0.5, expected], [expected, 0.5]], rtol=1e-14)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_depths_equal_the_slow_twin(depth):
    values, _ = problem(1)
    values[4] = 3 * values[3]
    found = kernel_tile(values, depth)
    np.testing.assert_allclose(found, kernel_matrix(values, depth), atol=1e-14)
    assert (np.diagonal(found) == 0.5).all() and found[3, 4] == 0.5


@pytest.mark.parametrize("name", ["tanh", "relu:0", "relu:x", "nt:", ""])
def test_unknown_kernels_are_refused(name):
    with pytest.raises(InputError, match="kernel"):
        parse_kernel(name)
