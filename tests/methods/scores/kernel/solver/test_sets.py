"""All classes at once: by hand, then against leaving one out, in blocks and by landmarks, then its laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_problems import kernel_matrix, kernel_tile, left_out, problem, samples_of, solved, solved_set

from prune_cli.core.errors import InputError, NumericalError
from prune_cli.core.progress import silent
from prune_cli.core.rng import generator
from prune_cli.methods.partition import random_parts, two_means_parts
from prune_cli.methods.scores.kernel.complexity_gap import ComplexityGapParams
from prune_cli.methods.scores.kernel.kernels import MatrixKernel, ReluKernel
from prune_cli.methods.scores.kernel.ntk_margin import NtkParams, ntk_margin_scores, ntk_residual_scores
from prune_cli.methods.scores.kernel.params import resolve_mode
from prune_cli.methods.scores.kernel.pieces.solving import kernel_solution
from prune_cli.methods.scores.kernel.rows.kinds import make_rows
from prune_cli.methods.scores.kernel.solver.problem import Problem, combine, plan_sets
from prune_cli.methods.scores.kernel.solver.sets import solve_set

# By hand.


def test_three_rows_of_three_classes():
    # rows 0 and 1 at 60 degrees, H_01 = 1/6; row 2 at right angles to both. For the class of row 0, y = (1, -1, -1):
    # (G y)_0 = (1/2 + 1/6) / (1/4 - 1/36) = 3, G_00 = 9/4: gap 4, prediction 1 - 3 / (9/4) = -1/3.
    # For the class of row 1, y_0 = -1, y_1 = 1: (G y)_0 = -3, prediction -1 + 4/3 = 1/3; for that of row 2, y_0 = y_1 = -1:
    # (G y)_0 = -(1/2 - 1/6) / (2/9) = -3/2, prediction -1 + 2/3 = -1/3. Row 2 says and is told nothing: predictions 0.
    values = np.array([[1, 0, 0], [0.5, np.sqrt(0.75), 0], [0, 0, 1.0]])
    codes = np.array([0, 1, 2])
    solution = solved(values, codes)
    assert solution.gap_n == pytest.approx([4.0, 4.0, 2.0])
    third = 1 / 3
    expected = np.array([[-third, third, -third], [third, -third, -third], [0, 0, 0]])
    np.testing.assert_allclose(solution.loo_nc, expected, atol=1e-12)
    solution = kernel_solution(values, codes, NtkParams(ridge=0.0))
    assert ntk_margin_scores(solution, codes)["ntk_margin"] == pytest.approx([-2 * third, -2 * third, 0], abs=1e-12)
    assert ntk_residual_scores(solution, codes)["ntk_residual"] == pytest.approx([4 * third, 4 * third, 1])


# Against the definitions.


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6), n=st.integers(4, 30), classes=st.integers(2, 4), ridge=st.sampled_from([0.0, 0.3]), depth=st.integers(1, 3)
)
def test_exact_equals_leaving_one_out(seed, n, classes, ridge, depth):
    values, codes = problem(seed, n, classes=classes)
    gaps, predictions = left_out(kernel_matrix(values, depth), codes, ridge)
    solution = solved(values, codes, ReluKernel(make_rows(values), depth), ridge=ridge)
    np.testing.assert_allclose(solution.gap_n, gaps, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(solution.loo_nc, predictions, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(solution.a2_n + solution.ab_n + solution.b2_n, gaps, rtol=1e-8, atol=1e-8)


def test_two_classes_of_equal_size_are_sampled_and_exact_alike():
    values, codes = problem(2, classes=2)
    exact, drawn = (kernel_solution(values, codes, ComplexityGapParams(mode=mode)) for mode in ("exact", "sampled"))
    for name in ("gap_n", "a2_n", "ab_n", "b2_n"):
        np.testing.assert_allclose(getattr(exact, name), getattr(drawn, name), rtol=1e-9)
    with pytest.raises(ValueError, match="without predictions"):
        ntk_margin_scores(drawn, codes)


@pytest.mark.parametrize("blocks", ["random", "kmeans"])
def test_a_partition_is_exact_within_each_block_and_averages_the_repeats(blocks):
    values, codes = problem(3, 60)
    stated = Problem("partition", 0.1, True, block_size=25, blocks=blocks, repeats=2)
    found = solved(values, codes, **stated._asdict())
    rows, order = make_rows(values), np.arange(60)
    gaps, predictions = np.zeros(60), np.zeros((60, 3))
    for repeat in range(2):
        sets = random_parts(order, 3, 0, repeat)
        if blocks == "kmeans":
            sets = [part.core for part in two_means_parts(rows, order, 3, 0, repeat, silent)]
        assert sorted(np.concatenate(sets)) == list(range(60))
        assert {len(s) for s in sets} == {20}
        for members in sets:
            assert codes[members].max() == 2
            one, all_classes = left_out(kernel_matrix(values[members]), codes[members], 0.1)
            gaps[members] += one / 2
            predictions[members] += all_classes / 2
    np.testing.assert_allclose(found.gap_n, gaps, rtol=1e-8)
    np.testing.assert_allclose(found.loo_nc, predictions, rtol=1e-8, atol=1e-10)


def test_two_means_parts_hold_near_samples_together():
    rng = np.random.default_rng(0)
    angles = np.radians([0, 20, 90, 110])[np.arange(400) % 4]
    values = np.stack([np.cos(angles), np.sin(angles)], axis=1) + 0.01 * rng.normal(size=(400, 2))
    order = rng.permutation(400)
    sets = two_means_parts(make_rows(values), order, 4, 0, 0, silent)
    assert all(len(set(s.core % 4)) == 1 and len(s.core) == 100 and not len(s.halo) for s in sets)


@pytest.mark.parametrize("repeats", [1, 3])
def test_nystrom_with_every_sample_a_landmark_is_exact_but_for_the_floor(repeats):
    values, codes = problem(4, 40)
    found = solved(values, codes, mode="nystrom", ridge=0.3, landmarks=40, repeats=repeats)
    exact = solved(values, codes, ridge=0.3 + 0.5e-3)
    np.testing.assert_allclose(found.gap_n, exact.gap_n, rtol=1e-6)
    np.testing.assert_allclose(found.loo_nc, exact.loo_nc, rtol=1e-5, atol=1e-7)


def test_nystrom_equals_the_inverse_it_stands_for():
    values, codes = problem(5, 60)
    found = solved(values, codes, mode="nystrom", ridge=0.1, landmarks=20, seed=7)
    shuffled = generator(7, "landmarks", 0).permutation(60)
    first, second = np.sort(shuffled[:20]), np.sort(shuffled[20:40])
    matrix = kernel_matrix(values)
    for drawn, scored in ((first, np.setdiff1d(np.arange(60), first)), (second, first)):
        low_rank = matrix[:, drawn] @ np.linalg.solve(matrix[np.ix_(drawn, drawn)], matrix[drawn])
        lacking = np.maximum(0.5 - low_rank.diagonal(), 0.5e-3)
        gaps, predictions = left_out(low_rank + np.diag(lacking), codes, 0.1)
        np.testing.assert_allclose(found.gap_n[scored], gaps[scored], rtol=1e-6)
        np.testing.assert_allclose(found.loo_nc[scored], predictions[scored], rtol=1e-6, atol=1e-8)


def test_nystrom_does_not_tell_a_landmark_from_another_sample():
    """Of 1,500 samples 150 are landmarks: the means are within four standard errors, and 15 +- 4 deviations are in the top tenth."""
    rng = np.random.default_rng(0)
    centers, codes = rng.normal(size=(10, 30)), rng.integers(0, 10, 1500)
    values = 1.5 * centers[codes] + 0.7 * rng.normal(size=(1500, 8)) @ rng.normal(size=(8, 30))
    values += 0.2 * rng.normal(size=(1500, 30))
    gaps = solved(values, codes, mode="nystrom", ridge=0.0, landmarks=150, seed=3).gap_n
    is_landmark = np.zeros(1500, bool)
    is_landmark[generator(3, "landmarks", 0).permutation(1500)[:150]] = True
    error = gaps.std() * np.sqrt(1 / 150 + 1 / 1350)
    assert abs(gaps[is_landmark].mean() - gaps[~is_landmark].mean()) < 4 * error
    in_top = int((gaps[is_landmark] > np.quantile(gaps, 0.9)).sum())
    assert abs(in_top - 15) <= 4 * np.sqrt(150 * 0.1 * 0.9)


def test_duplicates_are_counted_and_met_with_a_jitter_in_every_mode():
    values, codes = problem(9, 40)
    values[[5, 9, 30]] = values[3]
    for mode in ("exact", "partition"):
        found = solved_set(values, codes, mode=mode)
        assert (found.duplicates, found.jitter > 0) == (3, True)
    with pytest.raises(NumericalError, match="ridge"):
        broken = np.array(kernel_matrix(values))
        broken[0, 1] = broken[1, 0] = 0.7
        solved(values, codes, MatrixKernel(broken))


def test_a_kernel_that_is_there_serves_as_one_that_is_computed():
    values, codes = problem(10, 45)
    matrix = kernel_tile(values, 1)
    for precision, tolerance in (("float64", 1e-10), ("float32", 1e-3)):
        for how in ({}, {"mode": "partition", "block_size": 20}):
            computed = solved(values, codes, precision=precision, **how)
            there = solved(values, codes, MatrixKernel(matrix), precision=precision, **how)
            np.testing.assert_allclose(there.gap_n, computed.gap_n, rtol=tolerance)


# Laws.


@pytest.mark.parametrize("how", [{}, {"mode": "partition", "block_size": 16}, {"mode": "nystrom", "landmarks": 15}])
def test_the_order_of_the_rows_changes_no_bit(how):
    values, codes = problem(11, 48)
    shuffled = np.random.default_rng(0).permutation(48)
    one = solved(values, codes, ridge=0.1, **how)
    other = solved(values[shuffled], codes[shuffled], order=np.argsort(shuffled), ridge=0.1, **how)
    assert one.gap_n[shuffled].tobytes() == other.gap_n.tobytes()
    assert one.loo_nc[shuffled].tobytes() == other.loo_nc.tobytes()


def test_sets_are_combined_in_any_order_and_each_once():
    values, codes = problem(12, 40)
    stated = Problem("partition", 0.1, True, block_size=20, repeats=2)
    sets = {r: random_parts(np.arange(40), 2, 0, r) for r in range(2)}
    samples = samples_of(values, codes)
    results = [solve_set(samples, sets[p.repeat][p.number], stated, p) for p in plan_sets(stated, 40)]
    forward, backward = combine(results, codes, 3, stated), combine(results[::-1], codes, 3, stated)
    assert forward.gap_n.tobytes() == backward.gap_n.tobytes()
    np.testing.assert_allclose(forward.loo_nc, backward.loo_nc, rtol=1e-12)
    with pytest.raises(InputError, match="fewer"):
        combine(results[:-1], codes, 3, stated)
    with pytest.raises(InputError, match="more than 2"):
        combine([*results, results[0]], codes, 3, stated)


def test_auto_goes_by_the_number_of_samples_alone():
    assert resolve_mode(NtkParams(), 20_000) == "exact" and resolve_mode(NtkParams(), 20_001) == "partition"
    assert resolve_mode(NtkParams(mode="nystrom"), 5) == "nystrom" and resolve_mode(ComplexityGapParams(mode="sampled"), 5) is None


@pytest.mark.parametrize(
    ("stated", "rows", "mode", "draws"),
    [
        ({}, 20_000, "exact", 1),
        ({}, 20_001, None, 10),
        ({"ratio": 4.0}, 100, None, 10),
        ({"repeats": 2}, 100, None, 2),
        ({"mode": "sampled"}, 100, None, 10),
        ({"mode": "partition"}, 100, "partition", 1),
        ({"mode": "exact", "repeats": 3}, 100, "exact", 3),
    ],
)
def test_cg_is_exact_where_it_fits_and_else_drawn_ten_times(stated, rows, mode, draws):
    params = ComplexityGapParams(**stated)
    needs = params.needs(rows)
    assert (needs.mode, params.draws(needs.mode)) == (mode, draws)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["exact", "partition", "nystrom"])
def test_a_card_finds_what_the_cpu_finds(mode: str) -> None:
    values, codes = problem(15, 900, features=40)
    how = {"mode": mode, "ridge": 0.1, "block_size": 300, "landmarks": 200, "precision": "float64"}
    found = [solved(values, codes, device=device, **how) for device in ("cpu", "cuda")]
    np.testing.assert_allclose(found[1].gap_n, found[0].gap_n, rtol=1e-8)
    np.testing.assert_allclose(found[1].loo_nc, found[0].loo_nc, rtol=1e-8, atol=1e-9)
