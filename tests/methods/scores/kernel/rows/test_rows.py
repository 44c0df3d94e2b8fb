"""Rows: standardised by hand, cosines against plain float64, the same bits whatever the order of the rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prune_cli.core import arrays
from prune_cli.core.errors import InputError, NumericalError
from prune_cli.methods.scores.kernel.rows.contract import Rows, has_duplicates, zero_rows
from prune_cli.methods.scores.kernel.rows.kinds import make_rows

CPU, DOUBLE = torch.device("cpu"), torch.float64


def pixels(n: int, features: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, features), dtype=np.uint8)


def standardised(values: np.ndarray, channels: int) -> np.ndarray:
    planes = values.reshape(len(values), -1, channels).astype(np.float64)
    planes = (planes - planes.mean(axis=(0, 1))) / planes.std(axis=(0, 1))
    return planes.reshape(len(values), -1)


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def all_cosines(rows: Rows, dtype: torch.dtype = DOUBLE) -> np.ndarray:
    block = rows.block(np.arange(rows.n_samples), dtype, CPU)
    out = torch.empty((rows.n_samples, rows.n_samples), dtype=DOUBLE)
    loaded = block.load(slice(0, rows.n_samples))
    block.cosines(loaded, loaded, out)
    return out.numpy()


def test_pixel_statistics_by_hand():
    # channel 0: 0, 2, 4, 6 -> mean 3, variance 5; channel 1: 7 throughout -> does not count
    rows = make_rows(np.array([[0, 7, 2, 7], [4, 7, 6, 7]], np.uint8), channels=2)
    assert rows.mean.tolist() == [3.0, 7.0]
    assert rows.weight.tolist() == [1 / 5, 0.0]
    assert (rows.n_samples, rows.n_features) == (2, 4)
    # rows (-3, -1) and (1, 3) over sqrt(5): lengths sqrt(2), cosine (-3 - 3) / 10
    assert all_cosines(rows)[0, 1] == pytest.approx(-0.6, abs=1e-15)
    expected = np.array([[-3, 0, -1, 0], [1, 0, 3, 0]]) / np.sqrt(10)
    np.testing.assert_allclose(rows.unit(np.arange(2), DOUBLE, CPU).numpy(), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("features", "channels"), [(12, 1), (12, 3), (784, 1), (2 * 1500, 2), (4 * 1024, 1)])
def test_pixel_cosines_are_those_of_float64(features, channels):
    values = pixels(9, features)
    values[3:5] = values[3:5] // 4 + 192  # products that grow beyond what float32 adds up exactly
    expected = unit(standardised(values, channels))
    rows = make_rows(values, channels)
    np.testing.assert_allclose(all_cosines(rows), expected @ expected.T, rtol=0, atol=3e-15)
    np.testing.assert_allclose(rows.unit(np.arange(9), DOUBLE, CPU).numpy(), expected, rtol=0, atol=1e-14)


def test_pixel_cosines_are_exact_in_reduced_precision_matrix_products_too():
    rows = make_rows(pixels(40, 3 * 256), 3)
    expected, before = all_cosines(rows), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        np.testing.assert_array_equal(all_cosines(rows), expected)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("center", [False, True])
def test_embedding_cosines_are_those_of_float64(dtype, center):
    values = (np.random.default_rng(1).normal(size=(12, 30)) + 2.0).astype(dtype)
    wide = values.astype(np.float64)
    expected = unit(wide - wide.mean(axis=0) if center else wide)
    rows = make_rows(values, center=center)
    np.testing.assert_allclose(all_cosines(rows), expected @ expected.T, rtol=0, atol=3e-15)
    np.testing.assert_allclose(all_cosines(rows, torch.float32), expected @ expected.T, rtol=0, atol=1e-6)
    assert rows.unit(np.arange(3), torch.float32, CPU).dtype == torch.float32


@pytest.mark.parametrize("channels", [None, 3])
def test_the_order_of_the_rows_changes_no_bit(channels):
    values = pixels(500, 30)
    values = values if channels else np.exp(values / 7.0)  # sums in another order differ in the last digits
    permutation = np.random.default_rng(2).permutation(500)
    one = make_rows(values, channels, center=channels is None)
    other = make_rows(values[permutation], channels, center=channels is None)
    assert one.mean.tobytes() == other.mean.tobytes()
    if channels:
        assert one.weight.tobytes() == other.weight.tobytes()
    at = np.array([5, 17, 300])
    there = np.argsort(permutation)[at]
    np.testing.assert_array_equal(one.unit(at, DOUBLE, CPU).numpy(), other.unit(there, DOUBLE, CPU).numpy())


@pytest.mark.parametrize("channels", [None, 2])
def test_chunks_change_nothing(channels, monkeypatch):
    values = pixels(23, 6)
    values = values if channels else values + 0.5
    whole = make_rows(values, channels, center=channels is None)
    expected = all_cosines(whole)
    monkeypatch.setattr(arrays, "_CHUNK_NUMBERS", 13)
    parts = make_rows(values, channels, center=channels is None)
    assert parts.mean.tobytes() == whole.mean.tobytes()
    np.testing.assert_allclose(all_cosines(parts), expected, rtol=0, atol=1e-15)
    assert zero_rows(parts).tolist() == zero_rows(whole).tolist() == [False] * 23


def test_zero_rows_of_pixels():
    # the mean is 10: the second picture is in the mean colour
    values = np.array([[8, 12], [10, 10], [9, 11], [11, 9]], np.uint8)
    assert zero_rows(make_rows(values, 1)).tolist() == [False, True, False, False]
    assert zero_rows(make_rows(np.full((3, 4), 7, np.uint8), 2)).all()
    # a plain colour that is not the mean has a direction
    assert not zero_rows(make_rows(np.array([[3, 3], [9, 9], [1, 200]], np.uint8), 1)).any()


def test_zero_rows_of_embeddings():
    values = np.array([[0, 0], [1, 2], [3, -6], [1e-30, 0], [np.nan, 1], [np.inf, 1], [1e300, 1]])
    assert zero_rows(make_rows(values)).tolist() == [True, False, False, False, True, True, True]
    centred = make_rows(np.array([[0.1, 0.3], [0.3, 0.1], [0.2, 0.2]]), center=True)
    assert zero_rows(centred).tolist() == [False, False, True]  # the mean, though rounding leaves 1e-17 of it


def test_a_block_refuses_rows_without_direction():
    rows = make_rows(np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 4.0]]))
    with pytest.raises(NumericalError, match="first at position 1"):
        rows.block(np.array([2, 1]), DOUBLE, CPU)
    rows.block(np.array([2, 0]), DOUBLE, CPU)


@pytest.mark.parametrize(
    ("values", "channels", "center", "message"),
    [
        (np.zeros(3, np.uint8), 1, False, "shape"),
        (np.zeros((0, 3), np.uint8), 1, False, "shape"),
        (np.zeros((2, 3), np.int64), None, False, "int64"),
        (np.zeros((2, 3), np.uint8), None, False, "uint8"),
        (np.zeros((2, 3), np.float32), 3, False, "float32"),
        (np.zeros((2, 4), np.uint8), 3, False, "3 channel"),
        (np.zeros((2, 3), np.uint8), 3, True, "center"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_cure(values, channels, center, message):
    with pytest.raises(InputError, match=message) as caught:
        make_rows(values, channels, center)
    assert caught.value.cure


@pytest.mark.parametrize("channels", [None, 3])
def test_rows_of_one_direction_are_found_however_long_they_are(channels):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 12)) if channels is None else rng.integers(0, 256, (500, 12), dtype=np.uint8)
    assert not has_duplicates(make_rows(values, channels), np.arange(500))
    values[400] = values[7] * (3.0 if channels is None else 1)
    assert has_duplicates(make_rows(values, channels), np.arange(500))
    assert not has_duplicates(make_rows(values, channels), np.delete(np.arange(500), 7))
    values[400] = -values[7] if channels is None else 255 - values[7]
    assert not has_duplicates(make_rows(values, channels), np.arange(500))
