"""The laws of all scores from features: order, chunks, threads, progress, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import faiss
import numba
import numpy as np
import pytest
import torch
from feature_problems import only, problem

from prune_cli.core import arrays as arrays
from prune_cli.core.errors import InputError, UnavailableError
from prune_cli.methods.scores.features.moderate import ModerateParams, moderate_scores
from prune_cli.methods.scores.features.prototype import PrototypeParams, prototype_scores
from prune_cli.methods.scores.features.zcore import ZcoreParams, zcore_scores

EVERY = [
    pytest.param(moderate_scores, ModerateParams(), id="moderate"),
    pytest.param(prototype_scores, PrototypeParams(clusters=6), id="prototype-cosine"),
    pytest.param(prototype_scores, PrototypeParams(clusters=6, metric="euclidean"), id="prototype-euclidean"),
    pytest.param(zcore_scores, ZcoreParams(draws=300, neighbors=7), id="zcore"),
]


@pytest.mark.parametrize(("score", "params"), EVERY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_order_of_the_rows_changes_no_bit(score, params, dtype):
    features, codes = problem(11, n=120, dtype=dtype)
    features[5] = features[40]  # equal samples: ties go by id
    ids = np.random.default_rng(0).permutation(120)
    permutation = np.random.default_rng(1).permutation(120)
    one = only(score(features, codes, params, order_n=np.argsort(ids)))
    other = only(score(features[permutation], codes[permutation], params, order_n=np.argsort(ids[permutation])))
    assert one.shape == (120,)
    assert one.dtype == np.float64
    np.testing.assert_array_equal(other, one[permutation])


@pytest.mark.parametrize(("score", "params"), EVERY)
def test_no_order_is_the_order_they_come_in(score, params):
    features, codes = problem(12)
    one = score(features, codes, params)
    np.testing.assert_array_equal(only(score(features, codes, params, order_n=np.arange(60))), only(one))


@pytest.mark.parametrize(("score", "params"), EVERY)
def test_chunks_change_no_bit(score, params, monkeypatch):
    features, codes = problem(13)
    expected = only(score(features, codes, params))
    monkeypatch.setattr(arrays, "_CHUNK_NUMBERS", 64)
    np.testing.assert_array_equal(only(score(features, codes, params)), expected)


@pytest.mark.parametrize(("score", "params"), EVERY)
def test_repeatable_and_the_inputs_stay_as_they_are(score, params):
    features, codes = problem(14)
    order = np.random.default_rng(2).permutation(60)
    arrays = [features, codes, order]
    before = [a.tobytes() for a in arrays]
    for array in arrays:
        array.setflags(write=False)
    first = only(score(features, codes, params, order_n=order, seed=4))
    again = only(score(features, codes, params, order_n=order, seed=4))
    assert first.tobytes() == again.tobytes()
    assert np.isfinite(first).all()
    assert [a.tobytes() for a in arrays] == before


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads(), numba.get_num_threads(), faiss.omp_get_max_threads()
    try:
        torch.set_num_threads(count)
        numba.set_num_threads(count)
        faiss.omp_set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])
        faiss.omp_set_num_threads(before[2])


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one core")
@pytest.mark.parametrize(("score", "params"), EVERY)
def test_the_number_of_threads_changes_no_bit(score, params):
    features, codes = problem(15, n=3000, d=40)
    with threads(1):
        one = only(score(features, codes, params))
    with threads(2):
        two = only(score(features, codes, params))
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize(("score", "params"), EVERY)
def test_progress_ends_at_its_total(score, params):
    seen: list[tuple[str, int, int]] = []
    score(*problem(16), params, progress=lambda task, done, total, facts=None: seen.append((task, done, total)))
    assert {task.split()[0] for task, _, _ in seen} == {score.__name__.removesuffix("_scores")}
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[0][1] == 0
    assert seen[-1][1] == seen[-1][2] > 0


@pytest.mark.parametrize(("score", "params"), EVERY)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros(4)}, "shape"),
        ({"features": np.zeros((0, 2))}, "shape"),
        ({"features": np.zeros((4, 2), np.int64)}, "int64"),
        ({"features": np.zeros((4, 2), np.float16)}, "float16"),
        ({"features": np.array([[1, 1], [1, 1], [1, np.nan], [1, np.nan]])}, "position 2"),
        ({"features": np.array([[1, 1], [1, -np.inf], [1, 1], [1, 1]], np.float32)}, "position 1"),
        ({"features": np.array([[1e101, 1], [1, 1], [1, 1], [1, 1]])}, "1e\\+100"),
        ({"codes": np.zeros(3, np.int64)}, r"\(3,\)"),
        ({"codes": np.zeros(4)}, "float64"),
        ({"codes": np.array([0, 0, -1, 0])}, "-1"),
        ({"order": np.arange(3)}, "order"),
        ({"order": np.array([0, 1, 2, 2])}, "order"),
        ({"device": "gpu"}, "gpu"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_cure(score, params, change, message):
    given = {"features": np.ones((4, 2)), "codes": np.zeros(4, np.int64), "order": None, "device": "cpu"} | change
    with pytest.raises(InputError, match=message) as caught:
        score(given["features"], given["codes"], params, order_n=given["order"], device=given["device"])
    assert caught.value.cure


@pytest.mark.parametrize(
    ("score", "params", "message"),
    [
        (prototype_scores, PrototypeParams(clusters=5), "5 clusters of 4 samples"),
        (prototype_scores, PrototypeParams(clusters=0), "clusters=0"),
        (prototype_scores, PrototypeParams(iterations=0), "iterations=0"),
        (prototype_scores, PrototypeParams(metric="l1"), "metric='l1'"),
        (zcore_scores, ZcoreParams(subspace=3), "subspace of 3 features out of 2"),
        (zcore_scores, ZcoreParams(draws=0), "draws=0"),
        (zcore_scores, ZcoreParams(neighbors=0), "neighbors=0"),
        (zcore_scores, ZcoreParams(exponent=-1), "exponent=-1"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_with_a_cure(score, params, message):
    with pytest.raises(InputError, match=message) as caught:
        score(np.ones((4, 2)), np.zeros(4, np.int64), params)
    assert caught.value.cure


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UnavailableError):
        moderate_scores(*problem(17), device="cuda")


def test_importing_the_modules_loads_nothing_heavy():
    code = (
        "import sys; from prune_cli.methods.scores.features import moderate, prototype, zcore; "
        "print(sorted({'torch', 'numba', 'faiss'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
