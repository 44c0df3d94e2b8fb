"""All classes at once: by hand, then against leaving one out, then in blocks, by landmarks, in tiles and after a kill."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_cli.core.errors import InputError, NumericalError
from prune_cli.core.progress import silent
from prune_cli.methods.partition import random_parts, two_means_parts
from prune_cli.methods.scores.kernel import tile_columns
from prune_cli.methods.scores.kernel.complexity_gap import ComplexityGapParams
from prune_cli.methods.scores.kernel.kernels import MatrixKernel, ReluKernel, parse_kernel
from prune_cli.methods.scores.kernel.ntk_margin import (
    NtkParams,
    fit_temperature,
    margins,
    ntk_margin_scores,
    ntk_residual_scores,
    probabilities,
)
from prune_cli.methods.scores.kernel.ridge import RIDGES, choose_ridge
from prune_cli.methods.scores.kernel.rows import make_rows
from prune_cli.methods.scores.kernel.samples import make_samples
from prune_cli.methods.scores.kernel.solving import kernel_solution
from prune_cli.methods.scores.kernel.whole_set import (
    Part,
    Problem,
    combine,
    plan_parts,
    resolve_mode,
    solve_all,
    solve_part,
)

CPU = torch.device("cpu")


def kernel_matrix(values: np.ndarray, depth: int = 1) -> np.ndarray:
    """The slow twin of the kernel: its recursion, an entry at a time in words of its own."""
    rows = values / np.linalg.norm(values, axis=1, keepdims=True)
    like = np.clip(rows @ rows.T, -1, 1)
    like[like > 1 - 1e-14] = 1.0
    tangent = like.copy()
    for layer in range(depth):
        angle = np.arccos(like)
        if layer == depth - 1:
            return tangent * (np.pi - angle) / np.pi / (2 * depth)
        like = (np.sin(angle) + np.cos(angle) * (np.pi - angle)) / np.pi
        tangent = like + tangent * (np.pi - angle) / np.pi
        np.fill_diagonal(like, 1.0)
    raise AssertionError


def left_out(matrix: np.ndarray, codes: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """The definitions: the gap and the prediction, one solve for each sample left out."""
    n, classes = len(codes), codes.max() + 1
    signs = np.where(np.arange(classes) == codes[:, None], 1.0, -1.0)
    matrix = matrix + ridge * np.eye(n)
    gaps, predictions = np.empty(n), np.empty((n, classes))
    for i in range(n):
        keep = np.delete(np.arange(n), i)
        y, solved = signs[:, codes[i]], np.linalg.solve(matrix[np.ix_(keep, keep)], signs[keep])
        predictions[i] = matrix[i, keep] @ solved
        gaps[i] = y @ np.linalg.solve(matrix, y) - y[keep] @ solved[:, codes[i]]
    return gaps, predictions


def problem(seed: int, n: int = 30, features: int = 8, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    rng.shuffle(codes)
    return rng.normal(size=(n, features)) + np.eye(features)[codes], codes


def solved(values, codes, kernel=None, order=None, **how):  # type: ignore[no-untyped-def]
    rows = make_rows(values)
    settings = {name: how.pop(name) for name in ("seed", "precision") if name in how}
    stated = Problem(**{"mode": "exact", "ridge": 0.0, "predictions": True, **how})
    order = np.arange(len(codes)) if order is None else order
    return solve_all(kernel or ReluKernel(rows), rows, codes, int(codes.max()) + 1, order, stated, **settings)


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


def test_depth_by_hand():
    # at right angles the second layer sees 1/pi: see deep_relu_kernel
    inside = np.arccos(1 / np.pi)
    expected = (np.pi - inside) / np.pi**2 / 4
    found = kernel_tile(np.eye(2), 2)
    np.testing.assert_allclose(found, [[0.5, expected], [expected, 0.5]], rtol=1e-14)


def kernel_tile(values: np.ndarray, depth: int) -> np.ndarray:
    block = ReluKernel(make_rows(values), depth).block(np.arange(len(values)), torch.float64, CPU)
    out = torch.empty((len(values),) * 2, dtype=torch.float64)
    part = block.load(slice(0, len(values)))
    block.tile(part, part, out)
    return out.numpy()


# Against the definitions.


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_depths_equal_the_slow_twin(depth):
    values, _ = problem(1)
    values[4] = 3 * values[3]
    found = kernel_tile(values, depth)
    np.testing.assert_allclose(found, kernel_matrix(values, depth), atol=1e-14)
    assert (np.diagonal(found) == 0.5).all() and found[3, 4] == 0.5


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(4, 30),
    classes=st.integers(2, 4),
    ridge=st.sampled_from([0.0, 0.3]),
    depth=st.integers(1, 3),
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
    from prune_cli.core.rng import generator

    drawn = np.sort(generator(7, "landmarks", 0).choice(60, 20, replace=False))
    matrix = kernel_matrix(values)
    low_rank = matrix[:, drawn] @ np.linalg.solve(matrix[np.ix_(drawn, drawn)], matrix[drawn])
    lacking = np.maximum(0.5 - low_rank.diagonal(), 0.5e-3)
    gaps, predictions = left_out(low_rank + np.diag(lacking), codes, 0.1)
    np.testing.assert_allclose(found.gap_n, gaps, rtol=1e-6)
    np.testing.assert_allclose(found.loo_nc, predictions, rtol=1e-6, atol=1e-8)


# Tiles, disk, float32.


class Shelf:
    """A store in memory that may refuse after a number of writes, as a kill does."""

    def __init__(self, patience: int = 10**9) -> None:
        self.arrays: dict[str, object] = {}
        self.panels: dict[str, np.ndarray] = {}
        self.patience = patience
        self.written: list[str] = []

    def _write(self, name: str) -> None:
        if self.patience == 0:
            raise KeyboardInterrupt
        self.patience -= 1
        self.written.append(name)

    def get_panel(self, name: str) -> np.ndarray | None:
        return self.panels.get(name)

    def put_panel(self, name: str, panel: np.ndarray) -> None:
        self._write(f"panel {name}")
        self.panels[name] = panel.copy()

    def get(self, block: str) -> dict[str, np.ndarray] | None:
        return self.arrays.get(block)  # type: ignore[return-value]

    def put(self, block: str, arrays: Mapping[str, np.ndarray]) -> None:
        self._write(block)
        self.arrays[block] = dict(arrays)


def part(values, codes, store=None, precision="float64", ridge=0.0, mode="exact"):  # type: ignore[no-untyped-def]
    stated = Problem(mode, ridge, True, landmarks=30)
    return solve_part(
        ReluKernel(make_rows(values)),
        codes,
        3,
        np.arange(len(codes)),
        stated,
        Part(0, 0),
        precision=precision,
        store=store,
    )


@pytest.mark.parametrize("width", [7, 16, 64])
def test_tiles_change_nothing_but_rounding(width, monkeypatch):
    values, codes = problem(6, 61)
    whole = part(values, codes)
    monkeypatch.setattr(tile_columns.factor_columns, "__defaults__", (False, width))
    tiled = part(values, codes, Shelf())
    np.testing.assert_allclose(tiled.diagonal_b, whole.diagonal_b, rtol=1e-10)
    np.testing.assert_allclose(tiled.solution_bc, whole.solution_bc, rtol=1e-8, atol=1e-9)
    assert tiled.smallest_pivot == pytest.approx(whole.smallest_pivot)


@pytest.mark.parametrize("mode", ["exact", "nystrom"])
@pytest.mark.parametrize("duplicate", [False, True])
def test_killed_after_any_write_it_goes_on_to_the_same_bytes(mode, duplicate, monkeypatch):
    values, codes = problem(7, 50)
    if duplicate:
        values[9] = values[30]
    monkeypatch.setattr(tile_columns.factor_columns, "__defaults__", (False, 16))
    undisturbed = Shelf()
    expected = part(values, codes, undisturbed, "float32", mode=mode)
    assert (expected.jitter > 0) == (duplicate and mode == "exact") or mode == "nystrom"
    for writes in range(len(undisturbed.written)):
        shelf = Shelf(writes)
        with pytest.raises(KeyboardInterrupt):
            part(values, codes, shelf, "float32", mode=mode)
        shelf.patience, before = 10**9, list(shelf.written)
        found = part(values, codes, shelf, "float32", mode=mode)
        again = set(before) & set(shelf.written[len(before) :])
        assert len(again) <= 1, "finished work was done again"
        for name in ("diagonal_b", "solution_bc"):
            assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()


def test_float32_is_refined_to_float64():
    values, codes = problem(8, 400, features=30)
    single, double = part(values, codes, precision="float32"), part(values, codes)
    scale = np.abs(double.solution_bc).max()
    assert np.abs(single.solution_bc - double.solution_bc).max() < 1e-8 * scale
    assert 0 < single.residual < 1e-9 and double.residual == 0
    assert 1e-9 < np.max(np.abs(single.diagonal_b / double.diagonal_b - 1)) < 1e-3


def test_duplicates_are_counted_and_met_with_a_jitter_in_every_mode():
    values, codes = problem(9, 40)
    values[[5, 9, 30]] = values[3]
    for mode in ("exact", "partition"):
        found = part(values, codes, mode=mode)
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


def test_parts_are_combined_in_any_order_and_each_once():
    values, codes = problem(12, 40)
    stated = Problem("partition", 0.1, True, block_size=20, repeats=2)
    sets = {r: random_parts(np.arange(40), 2, 0, r) for r in range(2)}
    parts = plan_parts(stated, 40)
    kernel = ReluKernel(make_rows(values))
    results = [solve_part(kernel, codes, 3, sets[p.repeat][p.number], stated, p) for p in parts]
    forward, backward = combine(results, codes, 3, 2, True), combine(results[::-1], codes, 3, 2, True)
    assert forward.gap_n.tobytes() == backward.gap_n.tobytes()
    np.testing.assert_allclose(forward.loo_nc, backward.loo_nc, rtol=1e-12)
    with pytest.raises(InputError, match="fewer"):
        combine(results[:-1], codes, 3, 2, True)
    with pytest.raises(InputError, match="more than 2"):
        combine([*results, results[0]], codes, 3, 2, True)


def test_auto_goes_by_the_number_of_samples_alone():
    assert resolve_mode(NtkParams(), 20_000) == "exact" and resolve_mode(NtkParams(), 20_001) == "partition"
    assert resolve_mode(NtkParams(mode="nystrom"), 5) == "nystrom" and resolve_mode(ComplexityGapParams(), 5) is None


@pytest.mark.parametrize("name", ["tanh", "relu:0", "relu:x", "nt:", ""])
def test_unknown_kernels_are_refused(name):
    with pytest.raises(InputError, match="kernel"):
        parse_kernel(name)


# Ridge and probabilities.


def test_the_ridge_chosen_is_the_best_left_one_out():
    values, codes = problem(13, 60, features=4)
    chosen = choose_ridge(make_samples(values, codes, NtkParams()), "cpu")
    matrix = kernel_matrix(values)
    accuracies = [np.mean(left_out(matrix, codes, r)[1].argmax(axis=1) == codes) for r in RIDGES]
    assert chosen.accuracies == pytest.approx(accuracies)
    assert chosen.ridge == max(r for r, a in zip(RIDGES, accuracies, strict=True) if a == max(accuracies))
    assert chosen.rows == 60 and len(set(accuracies)) > 2


def test_a_wrong_label_has_the_lowest_margin():
    values, codes = problem(14, 300, features=12)
    values += 3 * np.eye(12)[codes]
    given = codes.copy()
    given[:15] = (codes[:15] + 1) % 3
    solution = kernel_solution(values, given, NtkParams())
    margin = ntk_margin_scores(solution, given)["ntk_margin"]
    assert set(np.argsort(margin)[:15]) == set(range(15)) and (margin[:15] < 0).all()
    residual = ntk_residual_scores(solution, given)["ntk_residual"]
    assert set(np.argsort(residual)[-15:]) == set(range(15))


def test_margins_by_hand():
    predictions = np.array([[0.5, -0.2, 0.1], [0.3, 0.3, -1.0]])
    assert margins(predictions, np.array([2, 0])) == pytest.approx([-0.4, 0.0])


def test_temperature_makes_the_given_labels_likeliest():
    # logits 0 and d with the label right in 3 of 4: softmax(d / T) = 3/4 at d / T = ln 3
    predictions = np.array([[1.0, -1.0]] * 4)
    temperature = fit_temperature(predictions, np.array([0, 0, 0, 1]))
    assert temperature == pytest.approx(2 / np.log(3), rel=1e-4)
    probs = probabilities(predictions, temperature)
    np.testing.assert_allclose(probs, [[0.75, 0.25]] * 4, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["exact", "partition", "nystrom"])
def test_a_card_finds_what_the_cpu_finds(mode: str) -> None:
    values, codes = problem(15, 900, features=40)
    rows, stated = make_rows(values), Problem(mode, 0.1, True, block_size=300, landmarks=200)  # type: ignore[arg-type]
    found = [
        solve_all(ReluKernel(rows), rows, codes, 3, np.arange(900), stated, device=device, precision="float64")
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(found[1].gap_n, found[0].gap_n, rtol=1e-8)
    np.testing.assert_allclose(found[1].loo_nc, found[0].loo_nc, rtol=1e-8, atol=1e-9)
