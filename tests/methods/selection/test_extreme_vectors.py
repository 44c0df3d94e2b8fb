"""Vectors that are tiny, huge or far from 0: a common factor and, for distances, an offset change no selection, or it is refused."""

from __future__ import annotations

import numpy as np
import pytest

from prune_cli.core.arrays import conditioned
from prune_cli.core.errors import InputError
from prune_cli.methods.registry.lookup import find_method, methods_of
from prune_cli.methods.scores.features.moderate import moderate_scores
from prune_cli.methods.scores.features.prototype import PrototypeParams, prototype_scores
from prune_cli.methods.scores.features.zcore import ZcoreParams, zcore_scores
from prune_cli.methods.selection.choosing import choose
from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Choice, Run

FACTORS = [1e-24, 2.0**-60, 3e-7, 1e9, 1e20]
OFFSET = 5000.0
BY_FEATURES = [name for name, method in methods_of("selection").items() if "features" in method.uses]
BY_DISTANCE = {"kcenter": {}, "d2": {}, "moderate": {}, "neighbor_confidence": {"metric": "euclidean", "tau": 0.6}}
BY_ANGLE = {
    "facility_location": {}, "graph_cut": {}, "neighbor_confidence": {}, "d2": {"metric": "cosine"}, "kcenter": {"metric": "cosine"},
}  # fmt: skip


def candidates(values: np.ndarray) -> Candidates:
    rng = np.random.default_rng(1)
    n = len(values)
    probs = rng.dirichlet(np.ones(3), n).astype(np.float32)
    return Candidates(
        np.arange(n), rng.random(n), codes_n=np.arange(n) % 3, columns={"dual_mean": rng.random(n)},
        features=ArrayFeatures(values), probabilities=ArrayFeatures(probs),
    )  # fmt: skip


def vectors() -> np.ndarray:
    """64 dimensions in steps of 1/64, which float32 still holds beside 5,000."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 64))[rng.integers(0, 6, 90)] + 0.5 * rng.normal(size=(90, 64))
    return (np.round(values * 64) / 64).astype(np.float32)


def chosen(name: str, values: np.ndarray, **params: object) -> Choice:
    made = find_method("selection", name).params_class()(**params)
    return choose(name, candidates(values), made, Run([18, 60], seed=2, device="cpu"))


def orders(choice: Choice) -> list[list[int]]:
    return [ranking.order_n[:count].tolist() for ranking, count in zip(choice.rankings, (18, 60), strict=True)]


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", BY_FEATURES)
def test_a_common_factor_changes_no_selection(name: str, factor: float) -> None:
    values = vectors()
    scaled = (values.astype(np.float64) * factor).astype(np.float32)
    assert orders(chosen(name, scaled)) == orders(chosen(name, values))


@pytest.mark.parametrize("name", BY_DISTANCE)
def test_an_offset_changes_no_selection_by_distances(name: str) -> None:
    values = vectors()
    there = values + np.float32(OFFSET)
    assert np.array_equal(there - np.float32(OFFSET), values), "nothing is lost in the vectors themselves"
    assert orders(chosen(name, there, **BY_DISTANCE[name])) == orders(chosen(name, values, **BY_DISTANCE[name]))


@pytest.mark.parametrize("name", BY_ANGLE)
def test_angles_that_float32_loses_are_refused_with_the_cure(name: str) -> None:
    with pytest.raises(InputError, match=r"all point the same way(?s:.)*subtract the mean"):
        chosen(name, vectors() + np.float32(OFFSET), **BY_ANGLE[name])
    same = np.ones((90, 64), np.float32)
    assert len(orders(chosen(name, same, **BY_ANGLE[name]))[0]) == 18, "equal vectors lose nothing"


@pytest.mark.parametrize("factor", FACTORS)
def test_scores_of_features_grow_with_the_factor(factor: float) -> None:
    values, codes = vectors(), np.arange(90) % 3
    scaled = (values.astype(np.float64) * factor).astype(np.float32)
    euclidean = PrototypeParams(metric="euclidean")
    for plain, huge in (
        (moderate_scores(values, codes)["moderate"], moderate_scores(scaled, codes)["moderate"]),
        (prototype_scores(values, codes, euclidean)["prototype"], prototype_scores(scaled, codes, euclidean)["prototype"]),
    ):
        assert np.allclose(huge / factor, plain, rtol=1e-5)
    draws = ZcoreParams(draws=2000)
    plain, huge = (zcore_scores(v, codes, draws)["zcore"] for v in (values, scaled))
    assert np.array_equal(plain, huge) if factor == 2.0**-60 else np.corrcoef(plain, huge)[0, 1] > 0.95


def test_scores_of_features_do_not_go_by_an_offset() -> None:
    values, codes = vectors(), np.arange(90) % 3
    there = values + np.float32(OFFSET)
    assert np.allclose(moderate_scores(there, codes)["moderate"], moderate_scores(values, codes)["moderate"], rtol=1e-9)
    params = PrototypeParams(metric="euclidean")
    plain, far = (prototype_scores(v, codes, params)["prototype"] for v in (values, there))
    assert np.allclose(far, plain, rtol=1e-5)


def test_rows_are_left_alone_where_float32_serves_and_conditioned_where_not() -> None:
    values = vectors()
    rows, factor = conditioned(values)
    assert rows is values and factor == 1.0
    for far in (values + np.float32(OFFSET), values * np.float32(2.0**70), values * np.float32(2.0**-70)):
        rows, factor = conditioned(far)
        assert np.abs(rows).max() <= 1 and np.abs(rows).max() > 0.25
        exact = far.astype(np.float64)
        away = np.linalg.norm(exact[:1] - exact, axis=1)
        assert np.allclose(np.linalg.norm(rows[:1].astype(np.float64) - rows, axis=1) / factor, away, rtol=1e-6)
