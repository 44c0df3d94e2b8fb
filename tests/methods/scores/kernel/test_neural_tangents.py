"""Kernels of neural-tangents: the closed forms agree with it, networks of pictures, batches, and a network of the user's own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from prune_cli.core.errors import InputError
from prune_cli.methods.scores.kernel.complexity_gap import ComplexityGapParams
from prune_cli.methods.scores.kernel.kernels import ReluKernel, write_tiles
from prune_cli.methods.scores.kernel.neural_tangents import require
from prune_cli.methods.scores.kernel.ntk_margin import NtkParams, ntk_margin_scores
from prune_cli.methods.scores.kernel.pieces.solving import kernel_solution
from prune_cli.methods.scores.kernel.rows.kinds import make_rows
from prune_cli.methods.scores.kernel.samples import make_samples

if importlib.util.find_spec("neural_tangents") is None:
    pytest.skip("the extra ntk is not installed", allow_module_level=True)

CPU = torch.device("cpu")
OWN = """
from neural_tangents import stax

def net():
    return stax.serial(stax.Flatten(), stax.Dense(1, 2**0.5), stax.Relu(), stax.Dense(1, 2**0.5))

def kernel():
    return net()[2]

def nothing():
    return 3
"""


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """Import what takes seconds, where its tests run alone."""
    require()


def matrix(kernel, n: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    out = torch.empty((n, n), dtype=torch.float64)
    write_tiles(kernel.block(np.arange(n), torch.float64, CPU), slice(0, n), slice(0, n), out)
    return out.numpy()


def by_neural_tangents(rows: np.ndarray, depth: int) -> np.ndarray:
    from jax.experimental import enable_x64
    from neural_tangents import stax

    layers = [layer for _ in range(depth) for layer in (stax.Dense(1, 2**0.5), stax.Relu())]
    with enable_x64():
        found = stax.serial(*layers, stax.Dense(1, 2**0.5))[2](rows, rows, ("ntk", "nngp"))
        return rows.shape[1] * (np.asarray(found.ntk) - np.asarray(found.nngp))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_closed_forms_are_those_of_neural_tangents(depth: int) -> None:
    values = np.random.default_rng(depth).normal(size=(20, 7))
    rows = values / np.linalg.norm(values, axis=1, keepdims=True)
    ours = matrix(ReluKernel(make_rows(values), depth), 20)
    np.testing.assert_allclose(ours, by_neural_tangents(rows, depth) / (4 * depth), atol=1e-12)


def test_the_default_kernel_is_their_ntk_less_nngp_times_the_width() -> None:
    from jax.experimental import enable_x64
    from neural_tangents import stax

    values = np.random.default_rng(0).normal(size=(15, 6))
    rows = values / np.linalg.norm(values, axis=1, keepdims=True)
    with enable_x64():  # their defaults: W_std 1
        found = stax.serial(stax.Dense(1), stax.Relu(), stax.Dense(1))[2](rows, rows, ("ntk", "nngp"))
        theirs = 6 * (np.asarray(found.ntk) - np.asarray(found.nngp))
    np.testing.assert_allclose(matrix(ReluKernel(make_rows(values)), 15), theirs, atol=1e-12)


@pytest.mark.parametrize("name", ["fc3", "cnn5", "myrtle5"])
def test_networks_have_half_on_the_diagonal_and_see_duplicates(name: str) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)
    pictures[5] = pictures[2]
    samples = make_samples(pictures, np.arange(7) % 2, NtkParams(kernel=f"nt:{name}"))
    found = matrix(samples.kernel, 7)
    assert (np.diagonal(found) == 0.5).all() and found[2, 5] == 0.5
    assert (np.delete(found.ravel(), [*range(0, 49, 8), 19, 37]) < 0.5).all()
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    assert np.linalg.eigvalsh(found)[0] > -1e-12
    samples.kernel.batch = 3  # type: ignore[attr-defined]
    np.testing.assert_allclose(matrix(samples.kernel, 7), found, atol=1e-12)


def test_a_convolution_is_what_it_is_by_hand() -> None:
    # pictures of one pixel: a 3 x 3 convolution sees it and a border of zeros, as a dense layer sees one number
    pictures = np.array([[[[10]]], [[[50]]], [[[250]]], [[[90]]]], np.uint8)
    found = matrix(make_samples(pictures, np.arange(4) % 2, NtkParams(kernel="nt:cnn5")).kernel, 4)
    signs = np.sign(pictures[:, 0, 0, 0].astype(float) - 100)
    assert (found[np.outer(signs, signs) > 0] == 0.5).all()  # numbers of one sign have one direction
    assert np.ptp(found[np.outer(signs, signs) < 0]) < 1e-8 and found[0, 2] < 0.4


def test_scores_of_a_network_for_pictures() -> None:
    rng = np.random.default_rng(2)
    codes = np.arange(24) % 2
    pictures = rng.integers(0, 120, (24, 6, 6, 1))
    pictures[codes == 0, :3] += 100
    pictures[codes == 1, 3:] += 100
    given = codes.copy()
    given[3] = 1 - codes[3]
    values = pictures.astype(np.uint8)
    params = NtkParams(kernel="nt:cnn5", ridge=0.1)
    margin = ntk_margin_scores(kernel_solution(values, given, params), given)["ntk_margin"]
    assert np.argmin(margin) == 3 and margin[3] < 0
    flat = kernel_solution(values.reshape(24, -1), given, params, channels=1)
    np.testing.assert_allclose(ntk_margin_scores(flat, given)["ntk_margin"], margin, rtol=1e-9)
    gaps = [kernel_solution(values, codes, ComplexityGapParams(kernel="nt:cnn5", mode=m)).gap_n for m in ("sampled", "exact")]
    np.testing.assert_allclose(gaps[0], gaps[1], rtol=1e-8)


def test_a_network_of_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    values, codes = np.random.default_rng(3).normal(size=(12, 5)), np.arange(12) % 2
    rows = values / np.linalg.norm(values, axis=1, keepdims=True)
    from jax.experimental import enable_x64
    from neural_tangents import stax

    with enable_x64():
        theirs = np.asarray(stax.serial(stax.Dense(1, 2**0.5), stax.Relu(), stax.Dense(1, 2**0.5))[2](rows, rows, "ntk"))
    for name in ("net", "kernel"):
        found = matrix(make_samples(values, codes, NtkParams(kernel=f"nt:{file}:{name}")).kernel, 12)
        np.testing.assert_allclose(found, 0.5 * theirs / theirs[0, 0], atol=1e-9)
    for name, said in (("nothing", "returns int"), ("missing", "missing")):
        with pytest.raises(InputError, match=said):
            make_samples(values, codes, NtkParams(kernel=f"nt:{file}:{name}"))
    file.write_text("raise ValueError('broken')")
    with pytest.raises(InputError, match="broken"):
        make_samples(values, codes, NtkParams(kernel=f"nt:{file}:net"))


def test_networks_for_pictures_refuse_vectors() -> None:
    with pytest.raises(InputError, match="vectors"):
        make_samples(np.eye(4), np.arange(4) % 2, NtkParams(kernel="nt:cnn5"))
