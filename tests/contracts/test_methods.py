"""What every registered method owes, whichever it is."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from waiting import HANGS
from warm import WarmCommands

from prune_cli.core.params import build_params, describe_params
from prune_cli.methods.registry.lookup import PRESETS, TRAINING, find_method, methods_of, training_params
from prune_cli.methods.registry.method import Method
from prune_cli.methods.scores.kernel.params import KernelScoreParams
from prune_cli.methods.scores.kernel.pieces.solving import kernel_solution
from prune_cli.methods.scores.record.needs import RecordParams
from prune_cli.methods.scores.record.records import ArrayRecord
from prune_cli.methods.selection.choosing import choose
from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Choice, Run

SCORES, SELECTIONS = (list(methods_of(kind).values()) for kind in ("score", "selection"))
ALL = [*SCORES, *SELECTIONS, *methods_of("recipe").values(), *methods_of("structure").values()]
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
    for kind, named in PRESETS[preset].items():
        for name, values in named.items():
            owner = training_params() if name == TRAINING else find_method(kind, name).params_class()
            build_params(owner, values, name)


def record_of(p_label_tn: np.ndarray) -> ArrayRecord:
    """Return the record of a two-class training in which the label had these probabilities."""
    from prune_cli.core.measures import GRADIENT_NORM, MEASURES, PROB_CHANGE
    from prune_cli.methods.training.loop.recording import measure

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
    """Return the columns of a score of any kind, as the command has them; a record is made of the first feature."""
    values, codes = problem
    if method.needs == "kernel":
        params = method.params_class()()
        return method.load()(kernel_solution(values, codes, params, order_n=order_n, seed=seed), codes, params)
    if method.needs == "relabels":
        return method.load()(1 / (1 + np.exp(-values[:, 0])), method.params_class()())
    if method.needs == "features":
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
    scores = score_it(method, (values, given), None, seed=0)[method.name]
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


@pytest.mark.parametrize("method", SCORES, ids=lambda m: m.name)
def test_a_score_says_what_it_needs_beside_itself(method: Method) -> None:
    params = method.params_class()()
    assert method.needs is not None
    assert isinstance(params, RecordParams) == (method.needs == "record")
    assert isinstance(params, KernelScoreParams) == (method.needs == "kernel")


@pytest.mark.parametrize("epochs", [0, 12])
@pytest.mark.parametrize("method", [m for m in SCORES if m.needs == "record"], ids=lambda m: m.name)
def test_a_score_of_a_record_is_content_with_what_it_says_it_needs(method: Method, epochs: int) -> None:
    """The record has what the needs name, and nothing else; of no training there is one look."""
    whole, params = record_of(np.random.default_rng(0).uniform(0.1, 0.9, (12, 50))), method.params_class()()
    needs = params.needs(epochs)
    if needs.watches and not epochs:
        return
    lacks = {name for name, there in (("prob_change", needs.prob_change), ("gradient_norm", needs.gradients)) if not there}
    train = {name: values[: needs.epochs] for name, values in whole.train.items() if name not in lacks}
    looks = {*needs.looks, *([epochs] if needs.at_end else [])}
    found = whole.evaluations[1]
    evaluations = {epoch: {name: values for name, values in found.items() if name not in lacks} for epoch in looks}
    record = ArrayRecord(train if needs.watches else {}, evaluations)
    assert np.isfinite(method.load()(record, params.resolved(epochs) if epochs else params)[method.name]).all()


COUNTS = [1, 5, 20, 45]


def all_candidates(kept: int = 0, moved: np.ndarray | None = None) -> Candidates:
    """Fifty samples with everything a selection may use and many ties; ``moved`` puts them in other rows."""
    rng = np.random.default_rng(0)
    rows = np.arange(50) if moved is None else moved
    difficulty, tie = rng.integers(0, 9, 50).astype(float), rng.random(50).round(1)
    features, codes, mean = rng.normal(size=(50, 6)).astype(np.float32), rng.integers(0, 3, 50), rng.random(50)
    kept_n = np.arange(50) < kept
    probabilities = rng.dirichlet(np.ones(3), 50).astype(np.float32)
    return Candidates(
        np.argsort(rows),
        difficulty[rows],
        tie[rows],
        {"dual_mean": mean[rows]},
        codes[rows],
        ArrayFeatures(features[rows]),
        kept_n[rows] if kept else None,
        ArrayFeatures(probabilities[rows]),
    )


def chosen_by(method: Method, candidates: Candidates, per_class: bool = False) -> Choice:
    return choose(method.name, candidates, method.params_class()(), Run(COUNTS, per_class=per_class, seed=1, device="cpu"))


@pytest.mark.parametrize("kept", [0, 3])
@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("method", SELECTIONS, ids=lambda m: m.name)
def test_a_selection_meets_every_budget_and_repeats(method: Method, per_class: bool, kept: int) -> None:
    candidates = all_candidates(kept)
    copy = candidates.order_n.copy()
    first, second = (chosen_by(method, candidates, per_class) for _ in range(2))
    assert len(first.rankings) == len(COUNTS)
    for count, ranking, again in zip(COUNTS, first.rankings, second.rankings, strict=True):
        answer = ranking.order_n[:count].tolist()
        assert len(answer) == count == len(set(answer)), "exact, and no sample twice"
        assert not candidates.kept[answer].any() and set(ranking.order_n.tolist()) <= set(range(50))
        assert len(set(ranking.order_n.tolist())) == len(ranking.order_n)
        assert ranking.order_n.tolist() == again.order_n.tolist()
        assert 0 <= ranking.skipped <= len(ranking.order_n)
        if per_class:
            sizes = np.bincount(candidates.codes("")[[*answer, *np.flatnonzero(candidates.kept)]], minlength=3)
            share = (count + kept) * np.bincount(candidates.codes("")) / 50
            assert np.abs(sizes - share).max() < 1.5 + kept
    if method.nested:
        assert all(ranking is first.rankings[0] for ranking in first.rankings)
    assert np.array_equal(candidates.order_n, copy)


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("method", SELECTIONS, ids=lambda m: m.name)
def test_a_selection_goes_by_ids_and_not_by_rows(method: Method, per_class: bool) -> None:
    moved = np.random.default_rng(3).permutation(50)
    plain = chosen_by(method, all_candidates(), per_class)
    found = chosen_by(method, all_candidates(moved=moved), per_class)
    for count, a, b in zip(COUNTS, plain.rankings, found.rankings, strict=True):
        assert moved[b.order_n[:count]].tolist() == a.order_n[:count].tolist()


@pytest.mark.parametrize("method", SELECTIONS, ids=lambda m: m.name)
def test_another_seed_draws_other_samples_where_the_registry_says_so(method: Method) -> None:
    """Where it says no, a seed decides at most which class gets the odd sample."""
    answers = [choose(method.name, all_candidates(), method.params_class()(), Run([20], seed=seed, device="cpu")) for seed in range(4)]
    sets = [set(choice.rankings[0].order_n[:20].tolist()) for choice in answers]
    differing = max(len(sets[0] - other) for other in sets[1:])
    if method.name == "best":
        assert method.seeded, "it tries random too, and may take it"
    elif method.seeded:
        assert differing > 3
    else:
        assert differing <= 2


def answers_on(threads: int) -> dict[str, list[list[int]]]:
    """Return what every selection answers with so many threads; for a process of its own, where threads may be set."""
    torch.set_num_threads(threads)
    return {m.name: [r.order_n.tolist() for r in chosen_by(m, all_candidates()).rankings] for m in SELECTIONS}


def test_selections_are_the_same_on_one_thread_and_on_two(warm: WarmCommands) -> None:
    script = (
        "import json, test_methods as t; a, b = t.answers_on(1), t.answers_on(2); "
        "print(json.dumps([name for name in a if a[name] != b[name]] if len(a) > 10 else 'too few'))"
    )
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
    found = subprocess.run([warm.python, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=HANGS)
    assert json.loads(found.stdout) == []


@pytest.mark.parametrize("method", [m for m in SELECTIONS if m.uses], ids=lambda m: m.name)
def test_a_selection_says_what_it_needs(method: Method) -> None:
    from prune_cli.core.errors import InputError

    with pytest.raises(InputError, match="needs"):
        chosen_by(method, Candidates(np.arange(50)))


def test_an_unknown_name_lists_the_known_ones() -> None:
    from prune_cli.core.errors import InputError

    with pytest.raises(InputError, match="top"):
        find_method("selection", "magic")
