"""The complexity gap: by hand, then against its definition (leave one out), then its laws."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from warm import WarmCommands

from prune_cli.core.errors import InputError, NumericalError
from prune_cli.core.rng import generator
from prune_cli.methods.scores.kernel import sides as module
from prune_cli.methods.scores.kernel.complexity_gap import ComplexityGapParams, complexity_gap_scores
from prune_cli.methods.scores.kernel.kernels import ReluKernel
from prune_cli.methods.scores.kernel.pieces.solving import kernel_solution
from prune_cli.methods.scores.kernel.rows.kinds import make_rows
from prune_cli.methods.scores.kernel.sides import (
    SideDraw,
    Sides,
    SidesResult,
    combine_sides,
    draw_sides,
    float32_error,
    plan_sides,
    score_sides,
    sides_memory,
    sides_size,
)
from prune_cli.methods.scores.kernel.solver import triangle

PUBLISHED = ComplexityGapParams(repeats=1)


def scored(values, codes, params=PUBLISHED, **how):  # type: ignore[no-untyped-def]
    return complexity_gap_scores(kernel_solution(values, codes, params, **how), codes, params)


def score_drawn(kernel, codes, sides, draw, **how):  # type: ignore[no-untyped-def]
    return score_sides(kernel, *draw_sides(codes, np.arange(len(codes)), sides, draw, 0), draw.ridge, **how)


def kernel_of(values: np.ndarray, channels: int | None = None) -> ReluKernel:
    return ReluKernel(make_rows(values, channels))


EVERYONE = ComplexityGapParams(ratio=1e6, repeats=1, terms=True)
ALL = SideDraw(1e6, 0.0, 1)
SIXTY = np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])


# The slow twin: the definition, one solve for each sample left out.


def reference_kernel(values: np.ndarray, ridge: float) -> np.ndarray:
    rows = values / np.linalg.norm(values, axis=1, keepdims=True)
    cosines = np.clip(rows @ rows.T, -1.0, 1.0)
    cosines[cosines > 1 - 1e-14] = 1.0
    kernel = cosines * (np.pi - np.arccos(cosines)) / (2 * np.pi)
    np.fill_diagonal(kernel, 0.5 + ridge)
    return kernel


def reference_gaps(kernel: np.ndarray, signs: np.ndarray) -> np.ndarray:
    def complexity(keep: np.ndarray) -> float:
        return signs[keep] @ np.linalg.solve(kernel[np.ix_(keep, keep)], signs[keep])

    everyone = np.arange(len(signs))
    return np.array([complexity(everyone) - complexity(np.delete(everyone, i)) for i in everyone])


def reference_scores(values, codes, params, seed=0) -> np.ndarray:
    scores = np.zeros((params.repeats, len(codes)))
    for code in np.unique(codes):
        mine, others = np.flatnonzero(codes == code), np.flatnonzero(codes != code)
        size = min(max(1, round(params.ratio * len(mine))), len(others))
        for repeat in range(params.repeats):
            draw = generator(seed, "cg", "negatives", int(code), repeat)
            chosen = np.concatenate([mine, others[draw.choice(len(others), size, replace=False, shuffle=False)]])
            signs = np.where(codes[chosen] == code, 1.0, -1.0)
            gaps = reference_gaps(reference_kernel(values[chosen], params.ridge), signs)
            scores[repeat, mine] = gaps[: len(mine)]
    return scores.mean(axis=0)


def problem(seed: int, n: int = 30, features: int = 8, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    rng.shuffle(codes)
    return rng.normal(size=(n, features)), codes


# By hand.


@pytest.mark.parametrize("second", [(0.0, 3.0), (-2.0, 0.0)])
def test_two_rows_at_right_angles_or_opposite(second):
    # H = I / 2: each label costs 1 / (1/2) = 2 and none helps the other
    scores = scored(np.array([(1.0, 0.0), second]), np.array([0, 1]), EVERYONE)
    for name, expected in {"cg": 2.0, "cg_a2": 0.0, "cg_ab": 0.0, "cg_b2": 2.0}.items():
        assert scores[name] == pytest.approx([expected] * 2, abs=1e-12)


def test_two_rows_at_sixty_degrees():
    # H = [[1/2, 1/6], [1/6, 1/2]], y = (1, -1): y'H^-1 y = 6, 2 without either; a = 3, G_ii = 9/4, b = 3/4
    scores = scored(SIXTY, np.array([0, 1]), EVERYONE)
    for name, expected in {"cg": 4.0, "cg_a2": 1 / 4, "cg_ab": 3 / 2, "cg_b2": 9 / 4}.items():
        assert scores[name] == pytest.approx([expected] * 2, abs=1e-12)


def test_ridge_by_hand():
    # diagonal 1: a = 1 / (1 - 1/6) = 6/5, G_ii = 36/35, gap = 7/5
    scores = scored(SIXTY, np.array([0, 1]), ComplexityGapParams(ridge=0.5))
    assert scores["cg"] == pytest.approx([1.4, 1.4])


def test_three_rows_and_a_class_of_one():
    # two of one class at 60 degrees, a third at right angles to both: a = 1 / (1/2 + 1/6) = 3/2, gap = 1; the third 2
    values = np.array([[1, 0, 0], [0.5, np.sqrt(0.75), 0], [0, 0, 1.0]])
    assert scored(values, np.array([4, 4, 7]))["cg"] == pytest.approx([1.0, 1.0, 2.0])


# Against the definition.


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(4, 32),
    classes=st.integers(2, 4),
    ratio=st.sampled_from([0.3, 1.0, 2.0, 50.0]),
    repeats=st.integers(1, 3),
    ridge=st.sampled_from([0.0, 0.1]),
)
def test_equals_the_definition(seed, n, classes, ratio, repeats, ridge):
    values, codes = problem(seed, n, classes=classes)
    params = ComplexityGapParams(ratio=ratio, repeats=repeats, ridge=ridge)
    scores = scored(values, codes, params, seed=seed)
    np.testing.assert_allclose(scores["cg"], reference_scores(values, codes, params, seed), rtol=1e-8, atol=1e-10)


def test_pixels_equal_the_definition():
    rng = np.random.default_rng(3)
    values, codes = rng.integers(0, 256, (40, 48), dtype=np.uint8), np.arange(40) % 3
    planes = values.reshape(40, 16, 3).astype(float)
    standardised = ((planes - planes.mean(axis=(0, 1))) / planes.std(axis=(0, 1))).reshape(40, 48)
    params = ComplexityGapParams(repeats=2)
    scores = scored(values, codes, params, channels=3, seed=5)
    np.testing.assert_allclose(scores["cg"], reference_scores(standardised, codes, params, 5), rtol=1e-8)


def test_centred_embeddings_equal_the_definition():
    values, codes = problem(4)
    values += 3.0
    scores = scored(values, codes, ComplexityGapParams(center=True))
    np.testing.assert_allclose(scores["cg"], reference_scores(values - values.mean(axis=0), codes, PUBLISHED), rtol=1e-8)


def test_a_class_of_one_among_many_and_codes_without_samples():
    values, codes = problem(5, 20)
    codes = codes * 3
    codes[7] = 9
    scores = scored(values, codes, EVERYONE)["cg"]
    np.testing.assert_allclose(scores, reference_scores(values, codes, EVERYONE), rtol=1e-8)
    assert plan_sides(codes, ALL) == [Sides(0, 0), Sides(3, 0), Sides(9, 0)]


def test_terms_add_up_to_the_score():
    values, codes = problem(6, 60, classes=3)
    scores = scored(values, codes, ComplexityGapParams(repeats=3, terms=True))
    assert list(scores) == ["cg", "cg_a2", "cg_ab", "cg_b2"]
    np.testing.assert_allclose(scores["cg_a2"] + scores["cg_ab"] + scores["cg_b2"], scores["cg"], rtol=1e-9)
    assert list(scored(values, codes)) == ["cg"]


# Laws.


@pytest.mark.parametrize("channels", [None, 2])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_order_of_the_rows_changes_no_bit(channels, precision):
    rng = np.random.default_rng(7)
    values = rng.integers(0, 256, (700, 20), dtype=np.uint8)
    values = values if channels else values.astype(np.float32) / 3
    codes, ids, permutation = rng.integers(0, 2, 700), rng.permutation(700), rng.permutation(700)
    params = ComplexityGapParams(ratio=0.5, repeats=2, terms=True, center=channels is None)

    def run(v, c, i):
        return scored(v, c, params, channels=channels, order_n=np.argsort(i), precision=precision)

    one = run(values, codes, ids)
    other = run(values[permutation], codes[permutation], ids[permutation])
    for name in one:
        assert one[name][permutation].tobytes() == other[name].tobytes()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_draw():
    values, codes = problem(8, 120, classes=3)
    params = ComplexityGapParams(repeats=2)
    first, again, other = (scored(values, codes, params, seed=s)["cg"] for s in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert not np.array_equal(first, other)


def test_repeats_and_classes_draw_independently_and_only_from_the_others():
    codes, order = np.arange(200) % 4, np.random.default_rng(0).permutation(200)
    draw = SideDraw(0.5, 0.0, 3)
    draws = {sides: draw_sides(codes, order, sides, draw, 0) for sides in plan_sides(codes, draw)}
    for sides, (pos, neg) in draws.items():
        assert (codes[pos] == sides.class_code).all() and (codes[neg] != sides.class_code).all()
        assert (len(pos), len(neg)) == sides_size(codes, sides, draw) == (50, 25)
        assert len(set(neg.tolist())) == 25
        rank = np.argsort(order)
        assert (np.diff(rank[pos]) > 0).all() and (np.diff(rank[neg]) > 0).all()
    assert len({tuple(neg.tolist()) for _, neg in draws.values()}) == 12


def test_numpy_integers_draw_as_python_integers_do():
    values, codes = problem(9)
    kernel, draw = kernel_of(values), SideDraw(0.4, 0.0, 1)
    plain = score_drawn(kernel, codes, Sides(1, 0), draw)
    numpy = score_drawn(kernel, codes, Sides(np.int64(1), np.int64(0)), draw)
    assert plain.b2_p.tobytes() == numpy.b2_p.tobytes()


@pytest.mark.parametrize(
    ("n_pos", "n_neg", "ratio", "expected"),
    [(10, 90, 1.0, (10, 10)), (10, 90, 4.0, (10, 40)), (10, 30, 4.0, (10, 30)), (1, 9, 0.1, (1, 1)), (10, 90, 0.25, (10, 2))],
)
def test_sides_size(n_pos, n_neg, ratio, expected):
    codes = np.array([3] * n_pos + [0] * n_neg)
    assert sides_size(codes, Sides(3, 0), SideDraw(ratio, 0.0, 1)) == expected


@pytest.mark.parametrize("tile", [1, 2, 3, 7, 16])
def test_tiles_change_nothing_but_rounding(tile):
    values, codes = problem(10, 45)
    kernel, pos, neg = kernel_of(values), np.flatnonzero(codes == 1), np.flatnonzero(codes == 0)
    whole, tiled = (module._score(kernel, pos, neg, 0.0, torch.float64, torch.device("cpu"), module.silent, tile=t) for t in (256, tile))
    for name in ("a2_p", "ab_p", "b2_p"):
        np.testing.assert_allclose(getattr(tiled, name), getattr(whole, name), rtol=1e-10, atol=1e-12)
    assert tiled.smallest_pivot == pytest.approx(whole.smallest_pivot)


def test_many_real_tiles_equal_one_inverse():
    values, codes = problem(11, 1500, features=40)
    scores = scored(values, codes, EVERYONE)["cg"]
    inverse = np.linalg.inv(reference_kernel(values, 0.0))
    signs = np.where(codes == 0, 1.0, -1.0)
    np.testing.assert_allclose(scores, (inverse @ signs) ** 2 / inverse.diagonal(), rtol=1e-8)


def test_float32_is_near_float64_and_says_how_near():
    values, codes = problem(12, 600, features=40)
    single, double = (scored(values, codes, EVERYONE, precision=p)["cg"] for p in ("float32", "float64"))
    assert single.dtype == np.float64
    error = np.abs(single - double) / np.maximum(double, double.mean() / 100)
    assert 1e-9 < error.max() < 1e-2
    kernel, sides = kernel_of(values), draw_sides(codes, np.arange(600), Sides(1, 0), ALL, 0)
    assert float32_error(kernel, *sides, 0.0) == pytest.approx(error[codes == 1].max(), rel=1e-3)
    assert 0 < float32_error(kernel, *sides, 0.0, rows_limit=100) < 1e-2


def test_auto_precision_is_float64():
    values, codes = problem(13)
    auto, double = (scored(values, codes, precision=p)["cg"] for p in ("auto", "float64"))
    assert auto.tobytes() == double.tobytes()


def test_inputs_are_untouched():
    for values, channels in ((problem(14)[0], None), (np.arange(600, dtype=np.uint8).reshape(30, 20), 2)):
        codes, order = np.arange(30) % 3, np.arange(30)[::-1].copy()
        before = [a.copy() for a in (values, codes, order)]
        for array in (values, codes, order):
            array.flags.writeable = False
        scored(values, codes, channels=channels, order_n=order)
        for array, copy in zip((values, codes, order), before, strict=True):
            np.testing.assert_array_equal(array, copy)


def test_progress_is_told():
    told: dict[str, list[tuple[int, int]]] = {}
    values, codes = problem(15, 700)
    scored(values, codes, progress=lambda task, done, total, facts=None: told.setdefault(task, []).append((done, total)))
    assert told["blocks"] == [(0, 2), (1, 2), (2, 2)]
    assert told["factor"][-1] == told["kernel"][-1] == (700, 700)


# Duplicates and other traps.


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("same_label", [True, False])
def test_duplicates_give_finite_scores_with_a_stated_jitter(same_label, precision):
    for seed in range(20):  # rounding hides a singular kernel about every second time
        values, codes = problem(seed, 40)
        twins = np.flatnonzero(codes == 1)[[0, 5]] if same_label else np.array([np.argmax(codes == 0), np.argmax(codes == 1)])
        values[twins[1]] = 3.0 * values[twins[0]]
        result = score_drawn(kernel_of(values), codes, Sides(1, 0), ALL, precision=precision)
        scores = combine_sides([result], 40, 1).gap_n
        assert np.isfinite(scores[codes == 1]).all() and (scores[codes == 1] >= 0).all()
        assert result.jitter == pytest.approx(np.sqrt(np.finfo(precision).eps))
        assert result.duplicates == 1
        if same_label:
            # two equal rows share the weight a of one: each is worth jitter a^2 / 2, next to nothing
            alone = np.delete(np.arange(40), twins[1])
            weights = np.linalg.solve(reference_kernel(values[alone], 0.0), np.where(codes[alone] == 1, 1.0, -1.0))
            expected = [result.jitter / 2 * weights[twins[0]] ** 2] * 2
            assert scores[twins] == pytest.approx(expected, rel=0.1, abs=0.01 * result.jitter)
        else:
            assert scores[twins[1]] == pytest.approx(2 / result.jitter, rel=0.01)  # a contradiction: what the jitter allows


def test_duplicate_pictures_are_counted_once_each():
    values = np.random.default_rng(1).integers(0, 256, (30, 12), dtype=np.uint8)
    values[[3, 8, 20]] = values[1]
    values[9] = values[10]
    for tile in (2, 256):
        kernel = kernel_of(values, 3)
        result = module._score(kernel, np.arange(15), np.arange(15, 30), 0.0, torch.float64, torch.device("cpu"), module.silent, tile=tile)
        assert (result.duplicates, result.jitter > 0) == (4, True)


def test_the_jitter_comes_on_top_of_a_ridge_that_is_too_small():
    values, codes = problem(1, 40)
    twins = [np.argmax(codes == 0), np.argmax(codes == 1)]
    values[twins[0]] = values[twins[1]]
    draw = SideDraw(1e6, 1e-6, 1)  # rounding allows for 4 sqrt(40) 1.2e-7 = 3e-6, a twin has twice the ridge
    result = score_drawn(kernel_of(values), codes, Sides(1, 0), draw, precision="float32")
    assert result.jitter > 0
    at, signs = result.positions.tolist().index(twins[1]), np.where(codes == 1, 1.0, -1.0)
    inverse = np.linalg.inv(reference_kernel(values, draw.ridge + result.jitter))
    expected = (inverse @ signs)[twins[1]] ** 2 / inverse[twins[1], twins[1]]
    assert result.gap_p[at] == pytest.approx(expected, rel=1e-3)  # the ridge makes 6e-3 of it


def test_a_ridge_below_rounding_hides_nothing():
    values, codes = problem(1, 40)
    values[np.argmax(codes == 0)] = values[np.argmax(codes == 1)]
    assert score_drawn(kernel_of(values), codes, Sides(1, 0), SideDraw(1e6, 1e-15, 1)).jitter > 0


def test_duplicates_among_many_rows_in_float32():
    # rounding allows for n * 1.2e-7 = 7e-4 in a pivot, and the jitter leaves 2 * 3.5e-4 of the twin's: still no error
    values, codes = problem(2, 6000, features=32)
    values[1] = values[0]
    result = score_drawn(kernel_of(values), codes, Sides(0, 0), ALL, precision="float32")
    assert (result.duplicates, result.jitter) == (1, pytest.approx(3.4527e-4, rel=1e-4))
    assert result.smallest_pivot == pytest.approx(2 * result.jitter, rel=0.05)


def test_no_duplicates_no_jitter():
    values, codes = problem(16)
    result = score_drawn(kernel_of(values), codes, Sides(0, 0), ALL)
    assert (result.jitter, result.duplicates) == (0.0, 0)
    assert 0 < result.smallest_pivot <= 0.5


def test_a_ridge_makes_duplicates_regular_without_jitter():
    values, codes = problem(17)
    values[1] = values[0]
    for precision, ridge in (("float64", 1e-6), ("float32", 1e-3)):
        draw = SideDraw(1e6, ridge, 1)
        result = score_drawn(kernel_of(values), codes, Sides(int(codes[0]), 0), draw, precision=precision)
        assert (result.jitter, result.duplicates) == (0.0, 1)
    inverse, signs = np.linalg.inv(reference_kernel(values, 1e-6)), np.where(codes == 0, 1.0, -1.0)
    scores = scored(values, codes, ComplexityGapParams(ratio=1e6, ridge=1e-6))["cg"]
    np.testing.assert_allclose(scores, (inverse @ signs) ** 2 / inverse.diagonal(), rtol=1e-8)


@pytest.mark.parametrize(("ridge", "attempts"), [(0.0, 2), (1e-9, 2), (1e-3, 1)])
def test_a_kernel_that_stays_singular_names_the_cure(ridge, attempts, monkeypatch):
    calls = []
    monkeypatch.setattr(triangle, "factor", lambda *args: calls.append(1) or 0.0)
    values, codes = problem(18)
    with pytest.raises(NumericalError, match="-p ridge="):
        scored(values, codes, ComplexityGapParams(ridge=ridge, repeats=1))
    assert len(calls) == attempts


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_rows_without_direction_are_an_error_and_not_a_score(bad):
    values, codes = problem(19)
    values[4] = bad
    with pytest.raises(NumericalError, match="position 4"):
        scored(values, codes, EVERYONE)


def test_one_class_is_an_error_with_a_cure():
    with pytest.raises(InputError, match=r"1 class") as caught:
        scored(np.eye(3), np.array([2, 2, 2]))
    assert "--label-column" in caught.value.cure
    with pytest.raises(InputError, match="plan_sides"):
        score_drawn(kernel_of(np.eye(3)), np.array([2, 2, 2]), Sides(2, 0), ALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes_n": np.array([0, 1])}, "3 samples"),
        ({"codes_n": np.array([0.0, 1.0, 1.0])}, "whole number"),
        ({"codes_n": np.array([0, 1, -1])}, "0 or more"),
        ({"order_n": np.array([0, 1, 1])}, "canonical order"),
        ({"precision": "float16"}, "--precision 'float16'"),
        ({"params": ComplexityGapParams(ratio=0.0)}, "ratio"),
        ({"params": ComplexityGapParams(repeats=0)}, "repeats"),
        ({"device": "tpu"}, "--device"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {"values_nd": np.eye(3), "codes_n": np.array([0, 1, 1]), "params": EVERYONE} | change
    with pytest.raises(InputError, match=message):
        kernel_solution(**arguments)


# Joining blocks.


def test_blocks_combine_to_the_same_bits_in_any_order():
    values, codes = problem(20, 90, classes=3)
    kernel, draw = kernel_of(values), SideDraw(0.5, 0.0, 4)
    results = [score_drawn(kernel, codes, sides, draw) for sides in plan_sides(codes, draw)]
    params = ComplexityGapParams(ratio=0.5, repeats=4, terms=True)
    expected = scored(values, codes, params)
    shuffled = [results[i] for i in np.random.default_rng(0).permutation(12)]
    combined = complexity_gap_scores(combine_sides(iter(shuffled), 90, 4), codes, params)
    assert {k: v.tobytes() for k, v in combined.items()} == {k: v.tobytes() for k, v in expected.items()}


def result_of(*positions: int) -> SidesResult:
    ones = np.ones(len(positions))
    return SidesResult(np.array(positions), 0 * ones, 0 * ones, ones, 0.5, 0.0, 0)


def test_the_score_survives_terms_that_cancel():
    # beside an equal row of the same class: a small, G_ii = 1 / (2 jitter); the plain sum of the terms is all rounding
    a, d = 0.05, 3.3e7
    b = a - d
    result = SidesResult(np.array([0]), *(np.array([term]) for term in (b**2 / d, 2 * b, d)), 3e-8, 1.5e-8, 1)
    assert result.gap_p == pytest.approx([a**2 / d], rel=1e-6)


def test_combining_some_classes_leaves_nan_and_some_repeats_is_an_error():
    combined = combine_sides([result_of(0, 2), result_of(0, 2)], 4, 2).gap_n
    np.testing.assert_array_equal(combined, [1.0, np.nan, 1.0, np.nan])
    with pytest.raises(InputError, match="fewer"):
        combine_sides([result_of(0, 2)], 4, 2)
    with pytest.raises(InputError, match="more than 2"):
        combine_sides([result_of(1)] * 3, 4, 2)


# The machine.

_MEASURE = """
import numpy as np
from prune_cli.methods.scores.kernel.kernels import ReluKernel
from prune_cli.methods.scores.kernel.rows.kinds import make_rows
from prune_cli.methods.scores.kernel.sides import score_sides, sides_memory

def resident(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field)) * 1024

n = {n}
values = np.random.default_rng(0).integers(0, 256, (n, 192), dtype=np.uint8)
even, odd = np.arange(0, n, 2), np.arange(1, n, 2)
score_sides(ReluKernel(make_rows(values[:600], 3)), even[:300], odd[:300])
kernel = ReluKernel(make_rows(values, 3))
open("/proc/self/clear_refs", "w").write("5")
before = resident("VmRSS")
score_sides(kernel, even, odd)
print((resident("VmHWM") - before) / sides_memory(n // 2, n // 2, 192, "auto", 1))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self")
def test_peak_memory_is_what_sides_memory_says(warm: WarmCommands):
    run = subprocess.run([warm.python, "-c", _MEASURE.format(n=3000)], capture_output=True, text=True, check=True)
    assert 0.4 < float(run.stdout) <= 1.0


def test_sides_memory_is_about_half_a_matrix():
    n = 12_000
    assert 0.5 < sides_memory(n // 2, n // 2, 784, "float64", 1) / (8 * n**2) < 0.65
    assert sides_memory(n // 2, n // 2, 784, "float32", 1) < 0.55 * sides_memory(n // 2, n // 2, 784, "auto", 1)
    with pytest.raises(InputError):
        sides_memory(1, 1, 1, "int8")


def test_importing_the_module_does_not_import_torch():
    code = "import sys; import prune_cli.methods.scores.kernel.complexity_gap; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.gpu
@pytest.mark.parametrize("channels", [None, 1])
def test_cuda_agrees_with_the_cpu(channels):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    rng = np.random.default_rng(21)
    values, codes = rng.integers(0, 256, (3000, 64), dtype=np.uint8), rng.integers(0, 3, 3000)
    values = values if channels else values.astype(np.float32)
    cpu, cuda = (scored(values, codes, channels=channels, device=d)["cg"] for d in ("cpu", "cuda"))
    np.testing.assert_allclose(cuda, cpu, rtol=1e-8)
