"""Best windows: against a ridge regression fitted on every window by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prune_cli.core.arrays import VectorBatch
from prune_cli.core.errors import InputError
from prune_cli.methods.selection.choosing import choose
from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Choice, Run
from prune_cli.methods.selection.proxy.accuracy import RIDGE, Proxy, proxy_accuracies
from prune_cli.methods.selection.proxy.grams import accumulate
from prune_cli.methods.selection.proxy.samples import LabelledVectors, subsets_of
from prune_cli.methods.selection.window import RIVALS, WindowParams, cut_random, cut_windows, select_window

PUBLISHED: dict[str, Any] = {"ridge": 1.0, "ridge_unit": "none", "judge": "all", "scope": "global"}


def problem(n: int, d: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, n)
    codes[:classes] = np.arange(classes)
    features = rng.normal(size=(classes, d))[codes] + 1.5 * rng.normal(size=(n, d))
    return features.astype(np.float32), codes, rng.normal(size=n)


def ridge_weights(features: np.ndarray, codes: np.ndarray, classes: int, ridge: float, dual: bool) -> np.ndarray:
    """The definition, by either form."""
    f, y = features.astype(np.float64), np.eye(classes)[codes]
    if dual:
        return np.asarray(f.T @ np.linalg.solve(f @ f.T + ridge * np.eye(len(f)), y))
    return np.asarray(np.linalg.solve(f.T @ f + ridge * np.eye(f.shape[1]), f.T @ y))


def accuracy(weights: np.ndarray, features: np.ndarray, codes: np.ndarray) -> int:
    return int(((features.astype(np.float64) @ weights).argmax(axis=1) == codes).sum())


def confirmed_by_refits(features: np.ndarray, codes: np.ndarray, classes: int, ridge: float) -> np.ndarray:
    """Whether the classifier fitted to all other samples is right about each: N fits."""
    found = []
    for i in range(len(codes)):
        others = np.arange(len(codes)) != i
        weights = ridge_weights(features[others], codes[others], classes, ridge, dual=False)
        found.append((features[i].astype(np.float64) @ weights).argmax() == codes[i])
    return np.array(found)


@pytest.mark.parametrize(("n", "d"), [(120, 6), (40, 60)])
@pytest.mark.parametrize("bias", [False, True])
def test_the_proxy_is_judged_by_the_samples_that_the_others_confirm(n: int, d: int, bias: bool) -> None:
    features, codes, difficulty = problem(n, d, 3, seed=n)
    candidates = Candidates(np.arange(n), difficulty, codes_n=codes, features=ArrayFeatures(features))
    params = WindowParams(step=0.25, bias=bias, ridge=0.7, ridge_unit="none", scope="global")
    curve = select_window(candidates, params, Run([n // 3], device="cpu")).curve
    wide = np.c_[features, np.ones(n, np.float32)] if bias else features
    confirmed = confirmed_by_refits(wide, codes, 3, 0.7)
    assert 0.3 * n < confirmed.sum() <= n - (n > d) and curve is not None
    ranked = np.argsort(-difficulty, kind="stable")
    for start, found in zip(curve.window_start, curve.proxy_accuracy, strict=True):
        window = ranked[start : start + n // 3]
        right = accuracy(ridge_weights(wide[window], codes[window], 3, 0.7, dual=False), wide[confirmed], codes[confirmed])
        assert round(found * confirmed.sum()) == right


@pytest.mark.parametrize("factor", [0.125, 1 / 3, 1e4])
@pytest.mark.parametrize(("n", "d"), [(300, 8), (60, 80)])
def test_a_relative_ridge_is_in_units_of_the_mean_squared_length(n: int, d: int, factor: float) -> None:
    features, codes, difficulty = problem(n, d, 3, seed=1)
    features = (features * factor).astype(np.float32)
    candidates = Candidates(np.arange(n), difficulty, codes_n=codes, features=ArrayFeatures(features))
    length = float((features.astype(np.float64) ** 2).sum(axis=1).mean())
    absolute = WindowParams(ridge=0.2 * length, ridge_unit="none", judge="all")
    stated, relative = (
        select_window(candidates, params, Run([n // 4, n // 2], device="cpu"))
        for params in (absolute, WindowParams(ridge=0.2, judge="all"))
    )
    assert stated.curve is not None and relative.curve is not None
    assert np.allclose(stated.curve.proxy_accuracy, relative.curve.proxy_accuracy, atol=1.5 / n)
    assert [r.order_n.tolist() for r in stated.rankings] == [r.order_n.tolist() for r in relative.rankings]


def test_random_draws_stand_beside_the_windows() -> None:
    """Five class-balanced draws a budget, each judged as a window is."""
    features, codes, difficulty = problem(200, 6, 4, seed=2)
    candidates = Candidates(np.arange(200), difficulty, codes_n=codes, features=ArrayFeatures(features))
    curve = select_window(candidates, WindowParams(**PUBLISHED), Run([40, 100], seed=5, device="cpu")).curve
    assert curve is not None and [len(one) for one in curve.random_accuracy] == [RIVALS, RIVALS]
    drawn = cut_random(candidates, [40, 100], 5)
    for number, budget in enumerate(drawn.budget_w):
        members = drawn.members(number)
        sizes = np.bincount(codes[members], minlength=4)
        assert np.abs(sizes - len(members) * np.bincount(codes) / 200).max() < 1, "class-balanced"
        right = accuracy(ridge_weights(features[members], codes[members], 4, 1.0, dual=False), features, codes)
        place = number - int(np.flatnonzero(drawn.budget_w == budget)[0])
        assert round(curve.random_accuracy[budget][place] * 200) == right
    hardest = np.corrcoef(difficulty, np.isin(np.arange(200), drawn.members(0)))[0, 1]
    assert abs(hardest) < 0.3, "not by difficulty"


@pytest.mark.parametrize(("n", "d", "classes"), [(400, 12, 3), (60, 40, 4), (333, 7, 2), (50, 120, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_windows_are_those_of_a_fit_each(n: int, d: int, classes: int, bias: bool) -> None:
    features, codes, difficulty = problem(n, d, classes, seed=n)
    candidates = Candidates(np.arange(n), difficulty, codes_n=codes, features=ArrayFeatures(features))
    counts = [max(2, n // 10), n // 3, n // 2 + 1, n]
    choice = select_window(candidates, WindowParams(step=0.1, bias=bias, **{**PUBLISHED, "ridge": 0.7}), Run(counts))
    curve = choice.curve
    assert curve is not None
    wide = np.c_[features, np.ones(n, np.float32)] if bias else features
    ranked = np.argsort(-difficulty, kind="stable")
    for budget, count in enumerate(counts):
        rows = np.flatnonzero(curve.budget == budget)
        found = []
        for row in rows:
            window = ranked[curve.window_start[row] : curve.window_start[row] + count]
            weights = ridge_weights(wide[window], codes[window], classes, 0.7, dual=False)
            other = ridge_weights(wide[window], codes[window], classes, 0.7, dual=True)
            assert np.abs(weights - other).max() < 1e-9
            found.append(accuracy(weights, wide, codes))
        assert np.round(curve.proxy_accuracy[rows] * n).astype(int).tolist() == found
        best = int(curve.window_start[rows[int(np.argmax(found))]])
        assert sorted(choice.rankings[budget].order_n.tolist()) == sorted(ranked[best : best + count].tolist())
        starts = curve.window_start[rows]
        assert starts[0] == 0 and starts[-1] == n - count and np.all(np.diff(starts) > 0)


@pytest.mark.parametrize(("n", "d"), [(300, 10), (80, 60)])
def test_weights_are_those_of_a_fit_to_1e_9(n: int, d: int) -> None:
    features, codes, difficulty = problem(n, d, 3, seed=4)
    candidates = Candidates(np.arange(n), difficulty, codes_n=codes, features=ArrayFeatures(features))
    windows = cut_windows(candidates, [n // 8, n // 2], 0.05, False, 0)
    subsets = windows.subsets(n)
    vectors = LabelledVectors(ArrayFeatures(features), codes, subsets.by_cell())
    weights = accumulate(vectors, subsets, False, Run(device="cpu"))
    weights = weights.solve(slice(0, len(subsets)), weights.penalties(0.5, False, False)).numpy()
    for w in range(len(weights)):
        members = windows.members(w)
        wanted = ridge_weights(features[members], codes[members], 3, 0.5, dual=False)
        assert np.abs(weights[w] - wanted).max() < 1e-9


def test_by_hand() -> None:
    """Five samples of one feature and two classes; every window of two, worked on paper.

    Hardest first: x = 4 (class 0), 1 (1), 2 (1), -1 (0), -2 (0). With ridge 1 a window's weight of class c is
    sum x y_c / (1 + sum x^2); a sample is right where its class has the larger output.
      {4, 1}: w0 = 4/18 > w1 = 1/18: positive x go to 0: right are 4 alone (1, 2 are class 1; -1, -2 go to 1).     1
      {1, 2}: w0 = 0, w1 = 3/6: positive go to 1: right are 1, 2, -1, -2.                                          4
      {2, -1}: w0 = -1/6, w1 = 2/6: the same.                                                                      4
      {-1, -2}: w0 = -3/6, w1 = 0: the same.                                                                       4
    """
    features = ArrayFeatures(np.array([[-2.0], [2.0], [4.0], [-1.0], [1.0]], np.float32))
    candidates = Candidates(np.arange(5), np.array([1.0, 3.0, 5.0, 2.0, 4.0]), codes_n=np.array([0, 1, 0, 0, 1]), features=features)
    choice = select_window(candidates, WindowParams(step=0.2, **PUBLISHED), Run([2]))
    assert choice.curve is not None
    assert np.round(choice.curve.proxy_accuracy * 5).astype(int).tolist() == [1, 4, 4, 4]
    assert choice.rankings[0].order_n.tolist() == [4, 1], "the hardest of the best, hardest first"


def test_judged_by_confirmed_samples_by_hand() -> None:
    """The samples of `test_by_hand`, x = 4 with a wrong label; each label as the ridge classifier of the other four predicts it, ridge 1.

    Without 4: w0 = -3/11 and w1 = 3/11, 4 goes to 1: not confirmed. Without 2, or -2: w0 = w1, a tie: not confirmed. Without 1: w0 = 1/26
    and w1 = 2/26: 1 goes to 1, confirmed. Without -1: w0 = 2/26 and w1 = 3/26: -1 goes to 0, confirmed. Of these two the window
    {4, 1} gets none right, {1, 2}, {2, -1} and {-1, -2} both.
    """
    features = ArrayFeatures(np.array([[-2.0], [2.0], [4.0], [-1.0], [1.0]], np.float32))
    candidates = Candidates(np.arange(5), np.array([1.0, 3.0, 5.0, 2.0, 4.0]), codes_n=np.array([0, 1, 0, 0, 1]), features=features)
    choice = select_window(candidates, WindowParams(step=0.2, **{**PUBLISHED, "judge": "confirmed"}), Run([2]))
    assert choice.curve is not None
    assert choice.curve.proxy_accuracy.tolist() == [0.0, 1.0, 1.0, 1.0]


def test_the_number_of_windows_is_that_of_the_paper() -> None:
    candidates = Candidates(np.arange(2000), np.arange(2000.0))
    counts = [round(2000 * k / 20) for k in range(1, 20)]
    assert len(cut_windows(candidates, counts, 0.05, False, 0).budget_w) == 209


def test_windows_inside_each_class() -> None:
    features, codes, difficulty = problem(200, 6, 4, seed=2)
    candidates = Candidates(np.arange(200), difficulty, codes_n=codes, features=ArrayFeatures(features))
    for choice in (
        choose("window", candidates, WindowParams(scope="global"), Run([40, 101], per_class=True)),
        choose("window", candidates, WindowParams(scope="class"), Run([40, 101])),
    ):
        for count, ranking in zip([40, 101], choice.rankings, strict=True):
            assert len(ranking.order_n) == count
            sizes = np.bincount(codes[ranking.order_n], minlength=4)
            assert np.abs(sizes - count * np.bincount(codes) / 200).max() < 1
            for c in range(4):  # a run of the class's own ranking
                mine = np.flatnonzero(codes == c)
                ranked = mine[np.argsort(-difficulty[mine], kind="stable")].tolist()
                at = sorted(ranked.index(i) for i in ranking.order_n if codes[i] == c)
                assert at == list(range(at[0], at[0] + len(at)))


def test_what_is_kept_already_is_part_of_every_window() -> None:
    features, codes, difficulty = problem(100, 5, 2, seed=3)
    kept = np.zeros(100, bool)
    kept[[3, 50, 77]] = True
    candidates = Candidates(np.arange(100), difficulty, codes_n=codes, features=ArrayFeatures(features), kept_n=kept)
    choice = select_window(candidates, WindowParams(step=0.25, **PUBLISHED), Run([20]))
    curve = choice.curve
    assert curve is not None
    ranked = [i for i in np.argsort(-difficulty, kind="stable") if not kept[i]]
    for row, start in enumerate(curve.window_start):
        members = [*ranked[start : start + 20], 3, 50, 77]
        weights = ridge_weights(features[members], codes[members], 2, 1.0, dual=False)
        assert round(curve.proxy_accuracy[row] * 100) == accuracy(weights, features, codes)
    assert not kept[choice.rankings[0].order_n].any()


class FromFile:
    """Features in the order of a file, whatever is asked for."""

    ordered = False

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape = values, (values.shape[0], values.shape[1])

    def batches(self, rows: int, order_n: np.ndarray) -> list[VectorBatch]:
        return [self.batch(start, start + 7) for start in range(0, len(self.values), 7)]

    def batch(self, start: int, end: int) -> VectorBatch:
        return VectorBatch(np.arange(start, min(end, len(self.values))), lambda: self.values[start:end])

    def array(self) -> np.ndarray:
        raise InputError("not in memory")

    def take(self, positions: np.ndarray) -> FromFile:
        return FromFile(self.values[positions])


def test_features_that_stay_in_the_file_give_the_same() -> None:
    features, codes, difficulty = problem(150, 5, 3, seed=5)
    plain = Candidates(np.arange(150), difficulty, codes_n=codes, features=ArrayFeatures(features))
    streamed = Candidates(np.arange(150), difficulty, codes_n=codes, features=FromFile(features))
    a, b = (select_window(c, WindowParams(), Run([15, 60])) for c in (plain, streamed))
    assert a.curve is not None and b.curve is not None
    assert a.curve.proxy_accuracy.tolist() == b.curve.proxy_accuracy.tolist()
    assert [r.order_n.tolist() for r in a.rankings] == [r.order_n.tolist() for r in b.rankings]


def test_nearly_equal_outputs_are_told_apart_in_float64() -> None:
    """The label's output is ahead by a ten-millionth of the lengths: float32 products cannot see it."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(400, 64)).astype(np.float32)
    features = np.repeat(base, 2, axis=0)
    features[1::2, 0] += np.float32(1e-4)
    codes = np.tile([0, 1], 400)
    subsets = subsets_of(rng.random((6, 800)) < 0.5)
    vectors = LabelledVectors(ArrayFeatures(features), codes, subsets.by_cell())
    (found,) = proxy_accuracies(vectors, [subsets], Proxy(ridge=1.0), Run())
    for w, right in enumerate(found):
        members = np.flatnonzero(subsets.member_wk[w][subsets.cell_n])
        weights = ridge_weights(features[members], codes[members], 2, 1.0, dual=False)
        assert round(right * 800) == accuracy(weights, features, codes)


def test_the_best_start_moves_to_the_hard_as_more_is_kept() -> None:
    """Easy samples lie apart, the hardest carry wrong labels, those between lie near the border."""
    rng = np.random.default_rng(0)
    n, d = 3000, 30
    codes = rng.integers(0, 3, n)
    noise = rng.gamma(2.0, size=n)
    features = (4 * np.eye(3, d)[codes] + noise[:, None] * rng.normal(size=(n, d))).astype(np.float32)
    given = np.where((noise > np.quantile(noise, 0.9)) & (rng.random(n) < 0.5), (codes + 1) % 3, codes)
    candidates = Candidates(np.arange(n), noise, codes_n=given, features=ArrayFeatures(features))
    curve = select_window(candidates, run=Run([60, 1500])).curve
    assert curve is not None
    few, many = (float(curve.start[(curve.budget == b) & curve.best][0]) for b in (0, 1))
    assert few > many
    assert few > 0.1


def test_best_takes_the_method_whose_proxy_is_right_most_often() -> None:
    from prune_cli.methods.selection.best import BestParams, select_best

    features, codes, difficulty = problem(300, 8, 3, seed=6)
    candidates = Candidates(np.arange(300), difficulty, codes_n=codes, features=ArrayFeatures(features))
    params = BestParams(methods="window+random+kcenter")
    choice = choose("best", candidates, params, Run([30, 90], seed=4))
    curve = choice.curve
    assert curve is not None and list(curve.name) == ["window", "random", "kcenter"] * 2
    ridge = RIDGE * float((features.astype(np.float64) ** 2).sum(axis=1).mean())
    confirmed = confirmed_by_refits(features, codes, 3, ridge)
    for budget, count in enumerate([30, 90]):
        found = []
        for name in ("window", "random", "kcenter"):
            from prune_cli.methods.registry.lookup import find_method

            alone = choose(
                name, candidates, find_method("selection", name).params_class()(), Run([30, 90], seed=4, per_class=True)
            ).rankings[budget]
            members = alone.order_n[:count]
            weights = ridge_weights(features[members], codes[members], 3, ridge, dual=False)
            found.append((accuracy(weights, features[confirmed], codes[confirmed]), members.tolist()))
        rows = curve.budget == budget
        assert np.round(curve.proxy_accuracy[rows] * confirmed.sum()).astype(int).tolist() == [f[0] for f in found]
        assert choice.rankings[budget].order_n.tolist() == max(found, key=lambda f: f[0])[1]
    with pytest.raises(InputError, match="each once"):
        choose("best", candidates, BestParams(methods="best"), Run([3]))
    with pytest.raises(InputError, match="'window' is not at hand"):
        select_best(candidates, params, Run([3]))


def test_best_tells_the_methods_it_compares_how_much_memory_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from prune_cli.methods.selection import baselines
    from prune_cli.methods.selection.best import BestParams

    features, codes, difficulty = problem(60, 4, 3, seed=6)
    candidates = Candidates(np.arange(60), difficulty, codes_n=codes, features=ArrayFeatures(features))
    told, random_order = list[int | None](), baselines.random_order

    def noted(candidates: Candidates, params: Any, run: Run) -> Choice:
        told.append(run.memory)
        return random_order(candidates, params, run)

    monkeypatch.setattr(baselines, "random_order", noted)
    choose("best", candidates, BestParams(methods="random+kcenter"), Run([5], memory=12_345))
    assert told == [12_345] * 3, "once in each class"
