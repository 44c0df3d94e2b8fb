"""Greedy selections against the plain greedy algorithm of each objective's definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Run
from prune_cli.methods.selection.coverage.facility_location import FacilityLocationParams, facility_location_order
from prune_cli.methods.selection.coverage.graph_cut import GraphCutParams, graph_cut_order
from prune_cli.methods.selection.coverage.herding import HerdingParams, herding_order
from prune_cli.methods.selection.coverage.k_center import KCenterParams, k_center_order
from prune_cli.methods.selection.coverage.message_passing import D2Params, d2_order
from prune_cli.methods.selection.neighbors.nearest import nearest_neighbors

SEEDS = range(4)


def samples(seed: int, n: int = 60, d: int = 5, kept: int = 0, positive: bool = False) -> Candidates:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, d)).astype(np.float32)
    mask = np.zeros(n, bool)
    mask[:kept] = True
    return Candidates(
        np.arange(n), rng.random(n), codes_n=rng.integers(0, 3, n),
        features=ArrayFeatures(np.abs(values) if positive else values), kept_n=mask if kept else None,
    )  # fmt: skip


def rows_of(candidates: Candidates) -> np.ndarray:
    assert candidates.features is not None
    return candidates.features.array().astype(np.float64)


def cosines(candidates: Candidates) -> np.ndarray:
    rows = rows_of(candidates)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return (1 + rows @ rows.T) / 2


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kept", [0, 4])
def test_k_center_is_farthest_first(seed: int, kept: int) -> None:
    candidates = samples(seed, kept=kept)
    ranking = k_center_order(candidates, KCenterParams(), Run([40])).rankings[0]
    rows = rows_of(candidates)
    away = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    picked = list(range(kept)) or [int(np.linalg.norm(rows - rows.mean(axis=0), axis=1).argmin())]
    gains = [] if kept else [0.0]
    while len(picked) < 40 + kept:
        distance = away[:, picked].min(axis=1)
        distance[picked] = -1
        picked.append(int(distance.argmax()))
        gains.append(float(distance.max()))
    assert ranking.order_n.tolist() == picked[kept:]
    assert ranking.gain_n is not None and np.abs(ranking.gain_n - gains[:40]).max() < 1e-5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kept", [0, 4])
@pytest.mark.parametrize("neighbors", [59, 6])
def test_facility_location_is_greedy_on_its_objective(seed: int, kept: int, neighbors: int) -> None:
    candidates = samples(seed, kept=kept)
    ranking = facility_location_order(candidates, FacilityLocationParams(neighbors=neighbors), Run([30])).rankings[0]
    similarity = cosines(candidates)
    for i in range(60):
        others = [j for j in np.argsort(-similarity[i]) if j != i]
        similarity[i, others[neighbors:]] = 0

    def objective(chosen: list[int]) -> float:
        return float(similarity[:, chosen].max(axis=1).sum()) if chosen else 0.0

    picked = list(range(kept))
    for place in range(30):
        before = objective(picked)
        gains = [-1.0 if j in picked else objective([*picked, j]) - before for j in range(60)]
        assert ranking.gain_n is not None and math.isclose(ranking.gain_n[place], max(gains), abs_tol=1e-4)
        assert math.isclose(gains[int(ranking.order_n[place])], max(gains), abs_tol=1e-4)
        picked.append(int(ranking.order_n[place]))
    assert np.all(np.diff(ranking.gain_n) <= 1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kept", [0, 4])
@pytest.mark.parametrize("positive", [False, True])
def test_graph_cut_is_greedy_on_its_objective(seed: int, kept: int, positive: bool) -> None:
    candidates = samples(seed, kept=kept, positive=positive)
    ranking = graph_cut_order(candidates, GraphCutParams(representation=2.5), Run([30])).rankings[0]
    similarity = cosines(candidates)

    def objective(chosen: list[int]) -> float:
        return float(2.5 * similarity[:, chosen].sum() - similarity[np.ix_(chosen, chosen)].sum())

    picked = list(range(kept))
    for place in range(30):
        gains = [-1e9 if j in picked else objective([*picked, j]) - objective(picked) for j in range(60)]
        assert ranking.gain_n is not None and math.isclose(ranking.gain_n[place], max(gains), abs_tol=1e-3)
        assert math.isclose(gains[int(ranking.order_n[place])], max(gains), abs_tol=1e-3)
        picked.append(int(ranking.order_n[place]))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kept", [0, 4])
def test_herding_follows_the_mean(seed: int, kept: int) -> None:
    candidates = samples(seed, kept=kept)
    ranking = herding_order(candidates, HerdingParams(), Run([30])).rankings[0]
    rows = rows_of(candidates)
    mean, picked = rows.mean(axis=0), list(range(kept))
    weight = mean + kept * mean - rows[:kept].sum(axis=0)
    for place in range(30):
        outputs = rows @ weight
        outputs[picked] = -np.inf
        assert int(ranking.order_n[place]) == int(outputs.argmax())
        picked.append(int(outputs.argmax()))
        weight += mean - rows[picked[-1]]
    random = np.linalg.norm(rows[np.random.default_rng(0).permutation(60)[:30]].mean(axis=0) - mean)
    assert np.linalg.norm(rows[picked[kept:]].mean(axis=0) - mean) < random


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kept", [0, 3])
@pytest.mark.parametrize("unit", ["neighbors", "none"])
def test_d2_passes_messages(seed: int, kept: int, unit: Any) -> None:
    candidates = samples(seed, kept=kept)
    params = D2Params(neighbors=4, gamma=0.3, unit=unit)
    ranking = d2_order(candidates, params, Run([60 - kept])).rankings[0]
    rows, difficulty = rows_of(candidates), candidates.difficulty("d2")
    low, high = np.sort(difficulty)[[4, -5]]  # of 60, four at each end are outside the range
    x = np.clip((difficulty - low) / (high - low), 0, 1)
    away = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    nearest = [[j for j in np.argsort(away[i], kind="stable") if j != i][:4] for i in range(60)]
    near = [[j for j in range(60) if j in nearest[i] or i in nearest[j]] for i in range(60)]
    if unit == "neighbors":
        away /= np.mean([away[i, j] for i in range(60) for j in near[i]])
    v = np.array([x[i] + sum(math.exp(-away[i, j]) * x[j] for j in near[i]) for i in range(60)])
    start = v.copy()
    for i in range(kept):
        for j in near[i]:
            v[j] -= math.exp(-0.3 * away[i, j]) * max(0.0, start[i])
    left = set(range(kept, 60))
    for place in range(60 - kept):
        best = max(left, key=lambda i: (v[i], -i))
        assert int(ranking.order_n[place]) == best
        left.remove(best)
        if v[best] > 0:
            for j in near[best]:
                v[j] -= math.exp(-0.3 * away[best, j]) * v[best]


def test_a_neighbor_on_one_side_is_a_neighbor_of_d2() -> None:
    """On the line 0, 1, 3 with one neighbor each: 0-1, 1-0 and 3-1. By hand, gamma 0 and forward_gamma 0, difficulties .2, .1, 1.

    Symmetric, v = .2 + .1, .1 + .2 + 1, 1 + .1: the middle is picked first, and leaves -1 and -.2 to the others. Directed, v of the
    middle would be .3 and the last, with 1.1, were first.
    """
    line = ArrayFeatures(np.array([[0.0], [1.0], [3.0]], np.float32))
    candidates = Candidates(np.arange(3), np.array([0.2, 0.1, 1.0]), features=line)
    scaled = (np.array([0.2, 0.1, 1.0]) - 0.1) / 0.9  # .1111, 0, 1
    ranking = d2_order(candidates, D2Params(neighbors=1, gamma=0.0, forward_gamma=0.0), Run([3])).rankings[0]
    assert ranking.order_n.tolist() == [1, 2, 0]
    first = scaled.sum()
    assert ranking.gain_n is not None
    assert np.allclose(ranking.gain_n, [first, scaled[2] - first, scaled[0] - first])


def test_d2_drops_the_hardest_by_aum_first() -> None:
    """A tenth of 40 are the four of the lowest AUM; they come last, the easiest of them first."""
    candidates = samples(3, n=40)
    aum = np.random.default_rng(0).normal(size=40)
    candidates.columns["aum"] = aum
    ranking = d2_order(candidates, D2Params(mis_rate=0.1), Run([40])).rankings[0]
    assert ranking.order_n[36:].tolist() == np.argsort(-aum)[36:].tolist() and ranking.skipped == 4
    del candidates.columns["aum"]
    by_score = d2_order(candidates, D2Params(mis_rate=0.1), Run([40])).rankings[0].order_n[36:]
    assert by_score.tolist() == np.argsort(candidates.difficulty("test"))[36:].tolist()


def test_strata_of_d2_share_the_budget_and_each_is_a_graph_of_its_own() -> None:
    """Scores 0 to 59 in two strata (cut at 29.5, for four at each end are outside the range): 30 and 30, 5 of each for 10."""
    candidates = samples(2)
    score = np.arange(60.0)
    here = Candidates(candidates.order_n, score, features=candidates.features)
    params = D2Params(neighbors=3, strata=2, unit="none")
    first, second = d2_order(here, params, Run([10, 20])).rankings
    assert [int((r.order_n < 30).sum()) for r in (first, second)] == [5, 10]
    upper = here.take(np.arange(30, 60))
    picked = [int(i) - 30 for i in first.order_n if i >= 30]
    rows, x = rows_of(upper), np.clip((score[30:] - 4) / 51, 0, 1)
    away = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    nearest = [[j for j in np.argsort(away[i], kind="stable") if j != i][:3] for i in range(30)]
    near = [[j for j in range(30) if j in nearest[i] or i in nearest[j]] for i in range(30)]
    v = np.array([x[i] + sum(math.exp(-away[i, j]) * x[j] for j in near[i]) for i in range(30)])
    assert picked[0] == int(v.argmax()), "sees its own stratum alone"


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_exact_neighbors_are_those_of_all_distances(metric: str) -> None:
    rows = np.random.default_rng(1).normal(size=(80, 6)).astype(np.float32)
    found, away = nearest_neighbors(rows, 7, metric=metric)  # type: ignore[arg-type]
    plain = rows.astype(np.float64)
    if metric == "cosine":
        plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    distance = np.linalg.norm(plain[:, None] - plain[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert found.tolist() == np.argsort(distance, axis=1, kind="stable")[:, :7].tolist()
    assert np.abs(away - np.sort(distance, axis=1)[:, :7]).max() < 1e-5


def test_an_inverted_file_finds_nearly_all_neighbors() -> None:
    rng = np.random.default_rng(1)
    rows = (rng.normal(size=(40, 16))[rng.integers(0, 40, 4000)] + 0.3 * rng.normal(size=(4000, 16))).astype(np.float32)
    exact, _ = nearest_neighbors(rows, 10, exact=True)
    found, away = nearest_neighbors(rows, 10, Run(seed=3), exact=False)
    again, _ = nearest_neighbors(rows, 10, Run(seed=3), exact=False)
    assert np.array_equal(found, again)
    shared = [len(set(a) & set(b)) for a, b in zip(exact.tolist(), found.tolist(), strict=True)]
    assert np.mean(shared) > 9.5
    assert np.all(np.diff(away, axis=1) >= 0) and not (found == np.arange(4000)[:, None]).any()


def test_more_neighbors_than_samples_are_all_the_others() -> None:
    rows = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    assert [sorted(r) for r in nearest_neighbors(rows, 10)[0].tolist()] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    assert nearest_neighbors(rows[:1], 10)[0].shape == (1, 0)


def test_a_duplicate_is_no_center_until_all_others_are() -> None:
    rows = np.random.default_rng(2).normal(size=(20, 3)).astype(np.float32)
    twice = Candidates(np.arange(40), features=ArrayFeatures(np.concatenate([rows, rows])))
    ranking = k_center_order(twice, run=Run([40])).rankings[0]
    assert {int(i) % 20 for i in ranking.order_n[:20]} == set(range(20))
    assert ranking.gain_n is not None and np.all(ranking.gain_n[20:] == 0)


def test_gains_do_not_depend_on_the_largest_budget() -> None:
    for method in (k_center_order, facility_location_order, graph_cut_order, herding_order):
        few = method(samples(1), run=Run([7])).rankings[0]
        many = method(samples(1), run=Run([7, 50])).rankings[1]
        assert many.order_n[:7].tolist() == few.order_n[:7].tolist()
