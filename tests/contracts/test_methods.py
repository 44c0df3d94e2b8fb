"""What every registered method owes, whichever it is."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest

from prune_cli.core.params import build_params, describe_params
from prune_cli.methods.registry import PRESETS, Method, find_method, methods_of
from prune_cli.methods.selection.ranking import Candidates

SCORES, SELECTIONS, RECIPES = (list(methods_of(kind).values()) for kind in ("score", "selection", "recipe"))
ALL = [*SCORES, *SELECTIONS, *RECIPES]
DOCUMENTATION = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()


def problem(n: int = 40, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, classes, n)
    codes[:classes] = np.arange(classes)
    return rng.normal(size=(n, 6)) + codes[:, None], codes.astype(np.int64)


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_it_is_documented(method: Method) -> None:
    assert f"`{method.name}`" in DOCUMENTATION
    text = inspect.getdoc(method.load()) or ""
    for part in ("Args:", "Returns:", "Cost:", "Source:"):
        assert part in text, f"{method.name}: {part}"
    assert method.summary and method.cost and method.source


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_its_parameters_are_frozen_explained_and_have_defaults(method: Method) -> None:
    params = method.params_class()
    assert dataclasses.is_dataclass(params) and params.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert params() == build_params(params, {}, method.name)
    for name, _, default, help in describe_params(params):
        assert help, f"{method.name}.{name} has no help"
        assert build_params(params, {name: "none" if default is None else str(default)}, method.name) == params()


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_of_known_methods_and_parameters(preset: str) -> None:
    for name, values in PRESETS[preset].items():
        method = next(m for m in ALL if m.name == name)
        build_params(method.params_class(), values, name)


@pytest.mark.parametrize("method", SCORES, ids=lambda m: m.name)
def test_a_score_is_finite_repeats_and_leaves_its_inputs_alone(method: Method) -> None:
    values, codes = problem()
    copies = values.copy(), codes.copy()
    first, second = (method.load()(values, codes, method.params_class()(), seed=3) for _ in range(2))
    assert first and set(first) <= set(method.columns)
    for column, scores in first.items():
        assert scores.shape == (40,) and scores.dtype == np.float64 and np.isfinite(scores).all()
        assert scores.tobytes() == second[column].tobytes()
        assert len(np.unique(scores)) > 20
    assert np.array_equal(values, copies[0]) and np.array_equal(codes, copies[1])


@pytest.mark.parametrize("method", SCORES, ids=lambda m: m.name)
def test_a_score_goes_with_its_sample_and_not_with_its_row(method: Method) -> None:
    values, codes = problem()
    moved = np.random.default_rng(2).permutation(40)
    plain = method.load()(values, codes, method.params_class()(), order_n=np.arange(40), seed=3)
    order_n = np.argsort(moved)  # ids are the old rows
    found = method.load()(values[moved], codes[moved], method.params_class()(), order_n=order_n, seed=3)
    for column in plain:
        assert found[column].tobytes() == plain[column][moved].tobytes()


@pytest.mark.parametrize("method", SCORES, ids=lambda m: m.name)
def test_its_direction_is_true_flipped_labels_are_hard(method: Method) -> None:
    rng = np.random.default_rng(0)
    codes = np.arange(200) % 4
    values = rng.normal(size=(200, 8)) * 0.5 + 2 * np.eye(8)[codes]
    flipped = np.arange(200) % 10 == 0
    given = np.where(flipped, (codes + 1) % 4, codes)
    scores = method.load()(values, given, method.params_class()(), seed=0)[method.name]
    hard = scores if method.columns[method.name] == "harder" else -scores
    assert np.median(hard[flipped]) > np.quantile(hard[~flipped], 0.9)


@pytest.mark.parametrize("method", SELECTIONS, ids=lambda m: m.name)
def test_a_selection_ranks_every_sample_once_and_repeats(method: Method) -> None:
    rng = np.random.default_rng(0)
    candidates = Candidates(rng.permutation(50), rng.integers(0, 9, 50).astype(float))
    copy = candidates.order_n.copy()
    first, second = (method.load()(candidates, method.params_class()(), seed=1) for _ in range(2))
    assert sorted(first.order_n.tolist()) == list(range(50)) and 0 <= first.skipped <= 50
    assert first.order_n.tolist() == second.order_n.tolist()
    assert np.array_equal(candidates.order_n, copy)


@pytest.mark.parametrize("method", SELECTIONS, ids=lambda m: m.name)
def test_a_selection_goes_by_ids_and_not_by_rows(method: Method) -> None:
    rng = np.random.default_rng(0)
    difficulty = rng.integers(0, 9, 50).astype(float)  # many ties
    moved = rng.permutation(50)
    plain = method.load()(Candidates(np.arange(50), difficulty), method.params_class()(), seed=1).order_n
    found = method.load()(Candidates(np.argsort(moved), difficulty[moved]), method.params_class()(), seed=1).order_n
    assert moved[found].tolist() == plain.tolist()


def test_an_unknown_name_lists_the_known_ones() -> None:
    from prune_cli.core.errors import InputError

    with pytest.raises(InputError, match="top"):
        find_method("selection", "magic")
