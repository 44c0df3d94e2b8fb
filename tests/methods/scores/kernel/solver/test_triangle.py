"""The factorisation in halves does what numpy does with the whole matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prune_cli.methods.scores.kernel.solver import triangle

CPU = torch.device("cpu")


def filled(matrix: np.ndarray, tile: int) -> triangle.Triangle:
    whole = triangle.allocate(len(matrix), torch.float64, CPU, tile=tile)
    write(whole, matrix)
    return whole


def write(whole: triangle.Triangle, matrix: np.ndarray) -> None:
    for stored in triangle.rectangles(whole):
        height, width = stored.values.shape
        stored.values.copy_(torch.from_numpy(matrix[stored.row : stored.row + height, stored.column : stored.column + width]))


def lower(whole: triangle.Triangle) -> np.ndarray:
    matrix = np.zeros((whole.size, whole.size))
    for stored in triangle.rectangles(whole):
        height, width = stored.values.shape
        matrix[stored.row : stored.row + height, stored.column : stored.column + width] = stored.values.numpy()
    return matrix


def positive_definite(size: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(size, size))
    return rows @ rows.T / size + np.eye(size)


def factored(matrix: np.ndarray, tile: int) -> triangle.Triangle:
    whole = filled(matrix, tile)
    assert triangle.factor(whole, 1e-12, lambda done: None) >= 1e-12
    return whole


SIZES = [(1, 1), (1, 4), (4, 4), (5, 4), (7, 1), (8, 4), (9, 4), (13, 3), (40, 8), (41, 64)]


@pytest.mark.parametrize(("size", "tile"), SIZES)
def test_factor_is_the_cholesky_factor_and_returns_its_smallest_pivot(size, tile):
    matrix = positive_definite(size)
    whole, done = filled(matrix, tile), []
    pivot = triangle.factor(whole, 1e-12, done.append)
    expected = np.linalg.cholesky(matrix)
    np.testing.assert_allclose(lower(whole), expected, atol=1e-13)
    assert pivot == pytest.approx(expected.diagonal().min() ** 2)
    assert done == sorted(done) and done[-1] == size


@pytest.mark.parametrize(("size", "tile"), SIZES)
def test_solve_invert_and_column_sums(size, tile):
    matrix = positive_definite(size, seed=1)
    inverse = np.linalg.inv(np.linalg.cholesky(matrix))
    whole, vector = factored(matrix, tile), np.random.default_rng(2).normal(size=size)
    solution = torch.from_numpy(vector[:, None].copy())
    triangle.solve(whole, solution)
    np.testing.assert_allclose(solution[:, 0].numpy(), inverse @ vector, atol=1e-12)
    triangle.invert(whole)
    np.testing.assert_allclose(lower(whole), inverse, atol=1e-12)
    products, squares = triangle.column_sums(whole, torch.from_numpy(np.stack([vector, 2 * vector], axis=1)), tile)
    for k in range(2):
        np.testing.assert_allclose(products[:, k].numpy(), (k + 1) * inverse.T @ vector, atol=1e-12)
    np.testing.assert_allclose(squares.numpy(), (inverse**2).sum(axis=0), atol=1e-12)


def test_the_inverse_of_the_last_rows_alone():
    # the reason for it all: the end of H^-1 needs the inverse of the end of L and nothing else
    matrix = positive_definite(20, seed=3)
    top = triangle.allocate(8, torch.float64, CPU, tile=4)
    bottom = triangle.allocate(12, torch.float64, CPU, tile=4, start=8)
    whole = triangle.join(top, bottom)
    write(whole, matrix)
    triangle.factor(whole, 0.0, lambda done: None)
    triangle.invert(bottom)
    _, squares = triangle.column_sums(bottom, torch.ones((12, 1), dtype=torch.float64), 4)
    np.testing.assert_allclose(squares.numpy(), np.linalg.inv(matrix).diagonal()[8:], atol=1e-12)


@pytest.mark.parametrize("tile", [2, 16])
def test_stops_at_a_pivot_that_is_too_small(tile):
    matrix = np.eye(10)
    matrix[4, 4] = 1e-6
    assert triangle.factor(filled(matrix, tile), 1e-5, lambda done: None) == pytest.approx(1e-6)
    assert triangle.factor(filled(matrix, tile), 1e-7, lambda done: None) == pytest.approx(1e-6)
    done: list[int] = []
    matrix[4, 4] = -1.0
    assert triangle.factor(filled(matrix, tile), 1e-5, done.append) == 0.0
    assert all(d <= 4 for d in done)
    matrix[4, 4] = np.nan
    assert not triangle.factor(filled(matrix, tile), 1e-5, done.append) >= 1e-5


@pytest.mark.parametrize(("size", "tile"), [*SIZES, (1000, 64), (1025, 128)])
def test_stored_numbers_is_a_bound_that_is_not_far_off(size, tile):
    whole = triangle.allocate(size, torch.float64, CPU, tile=tile)

    def inverses(t: triangle.Triangle) -> int:
        return t.inverse.numel() if isinstance(t, triangle.Leaf) else inverses(t.top) + inverses(t.bottom)

    stored = sum(stored.values.numel() for stored in triangle.rectangles(whole)) + inverses(whole)
    assert 0.6 * triangle.stored_numbers(size, tile) <= stored <= triangle.stored_numbers(size, tile)
    if size == 1000:
        assert stored < 0.61 * size**2  # half the matrix and half a tile's width, twice
