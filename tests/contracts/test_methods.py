"""What every registered method owes, whichever it is."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from prune_cli.core.params import build_params, describe_params
from prune_cli.methods.registry import PRESETS, TRAINING, Method, find_method, methods_of, training_params
from prune_cli.methods.scores.dynamics import ArrayRecord
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
        owner = training_params() if name == TRAINING else next(m for m in ALL if m.name == name).params_class()
        build_params(owner, values, name)


def record_of(p_label_tn: np.ndarray) -> ArrayRecord:
    """Return the record of a two-class training in which the label had these probabilities."""
    from prune_cli.core.record import GRADIENT_NORM, MEASURES, PROB_CHANGE
    from prune_cli.methods.training.record import measure

    probs = torch.from_numpy(np.stack([p_label_tn, 1 - p_label_tn], axis=-1))
    labels = torch.zeros(p_label_tn.shape[1], dtype=torch.int64)
    columns = [measure(probs_nc.log(), labels).numpy() for probs_nc in probs]
    train = {name: np.stack([c[i] for c in columns]) for i, name in enumerate(MEASURES)}
    log_probs = probs.log().numpy()
    change = np.abs(probs.numpy()[1:] * (log_probs[1:] - log_probs[:-1])).sum(axis=-1)
    train[PROB_CHANGE] = np.concatenate([np.full((1, len(labels)), np.nan), change])
    looks = {e: {name: v[e - 1] for name, v in train.items()} for e in (1, len(p_label_tn))}
    for look in looks.values():
        look[GRADIENT_NORM] = 3 * look["error_norm"]
    return ArrayRecord(train, looks)


def score_it(method: Method, problem: tuple[np.ndarray, np.ndarray], order_n: np.ndarray | None, seed: int = 3):  # type: ignore[no-untyped-def]
    """Return the columns of a score of any kind; a record is made of the first feature."""
    values, codes = problem
    if method.needs != "record":
        return method.load()(values, codes, method.params_class()(), order_n=order_n, seed=seed)
    waves = np.sin(np.arange(12)[:, None] * (1 + values[:, 0]) + values[:, 1])
    return method.load()(record_of(0.5 + 0.49 * waves), method.params_class()())


@pytest.mark.parametrize("method", SCORES, ids=lambda m: m.name)
def test_a_score_is_finite_repeats_and_leaves_its_inputs_alone(method: Method) -> None:
    values, codes = problem()
    copies = values.copy(), codes.copy()
    first, second = (score_it(method, (values, codes), None) for _ in range(2))
    assert first and set(first) <= set(method.columns)
    for column, scores in first.items():
        assert scores.shape == (40,) and scores.dtype == np.float64 and np.isfinite(scores).all()
        assert scores.tobytes() == second[column].tobytes()
        assert len(np.unique(scores)) > (2 if column == "forgetting" else 20)
    assert np.array_equal(values, copies[0]) and np.array_equal(codes, copies[1])


@pytest.mark.parametrize("method", SCORES, ids=lambda m: m.name)
def test_a_score_goes_with_its_sample_and_not_with_its_row(method: Method) -> None:
    values, codes = problem()
    moved = np.random.default_rng(2).permutation(40)
    plain = score_it(method, (values, codes), np.arange(40))
    order_n = np.argsort(moved)  # ids are the old rows
    found = score_it(method, (values[moved], codes[moved]), order_n)
    for column in plain:
        assert found[column].tobytes() == plain[column][moved].tobytes()


@pytest.mark.parametrize("method", [m for m in SCORES if m.name in {"cg", "moderate"}], ids=lambda m: m.name)
def test_its_direction_is_true_flipped_labels_are_hard(method: Method) -> None:
    rng = np.random.default_rng(0)
    codes = np.arange(200) % 4
    values = rng.normal(size=(200, 8)) * 0.5 + 2 * np.eye(8)[codes]
    flipped = np.arange(200) % 10 == 0
    given = np.where(flipped, (codes + 1) % 4, codes)
    scores = method.load()(values, given, method.params_class()(), seed=0)[method.name]
    hard = scores if method.columns[method.name] == "harder" else -scores
    assert np.median(hard[flipped]) > np.quantile(hard[~flipped], 0.9)


@pytest.mark.parametrize("method", [m for m in SCORES if m.needs == "record"], ids=lambda m: m.name)
def test_its_direction_is_true_what_is_learned_shakily_is_hard(method: Method) -> None:
    rng = np.random.default_rng(0)
    shaky = np.arange(50) % 5 == 0
    sure = 0.95 + 0.01 * rng.random((12, 50))
    p_label = np.where(shaky, rng.uniform(0.1, 0.7, (12, 50)), sure)
    p_label[[0, -1]] = np.where(shaky, 0.4, sure[0])
    scores = method.load()(record_of(p_label), method.params_class()())[method.name]
    hard = scores if method.columns[method.name] == "harder" else -scores
    assert hard[shaky].min() > hard[~shaky].max()


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
