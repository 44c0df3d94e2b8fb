"""Neighbor confidence: against a plain transcription of the formula, dense and in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prune_cli.core.errors import InputError
from prune_cli.methods.selection.choosing import choose
from prune_cli.methods.selection.confidence.loops import log_gain
from prune_cli.methods.selection.confidence.neighbor_confidence import NeighborConfidenceParams, confidences, neighbor_confidence_order
from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Choice, Run
from prune_cli.methods.selection.neighbors.graph import build_graph, make_cells
from prune_cli.methods.selection.neighbors.rows_on_demand import RowsOnDemand, mean_degree, recall
from prune_cli.methods.selection.neighbors.tiles import Edges, prepare_similarity

PLENTY = 10**9


def problem(n: int, kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, probabilities and unequal classes; clustered samples are in crowds."""
    rng = np.random.default_rng(seed)
    if kind == "random":
        features = rng.normal(size=(n, 4))
    else:
        features = rng.normal(size=(12, 8))[rng.integers(0, 12, n)] + 0.2 * rng.normal(size=(n, 8))
    probs = rng.dirichlet(np.full(4, 0.5), n).astype(np.float32)
    codes = rng.choice(4, n, p=[0.1, 0.2, 0.3, 0.4])
    codes[:4] = np.arange(4)
    return features.astype(np.float32), probs, codes


def samples(features: np.ndarray, probs: np.ndarray, codes: np.ndarray | None, **more: np.ndarray) -> Candidates:
    return Candidates(
        np.arange(len(features)), codes_n=codes, features=ArrayFeatures(features), probabilities=ArrayFeatures(probs), **more
    )  # type: ignore[arg-type]  # fmt: skip


def run(candidates: Candidates, counts: list[int], memory: int = PLENTY, **params: object) -> Choice:
    chosen = NeighborConfidenceParams(**params)  # type: ignore[arg-type]
    return neighbor_confidence_order(candidates, chosen, Run(counts, memory=memory, device="cpu"))


def plain(
    features: np.ndarray, confidence: np.ndarray, tau: float, eta: float, codes: np.ndarray | None, rule: str, count: int
) -> tuple[list[int], np.ndarray]:
    """The formula, sample by sample: the picks, and N of every sample after them."""
    n = len(features)
    unit = features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    similar = 0.5 + 0.5 * (unit @ unit.T)
    np.fill_diagonal(similar, 1.0)
    near = np.where(similar > tau, similar, 0.0)
    around, c = np.zeros(n), confidence / eta

    def log_cosh(x: np.ndarray) -> np.ndarray:
        return np.logaddexp(x, -x) - math.log(2)

    groups = np.zeros(n, int) if codes is None else codes
    n_groups = groups.max() + 1
    left, used, gone = np.ones(n, bool), np.zeros(n_groups, int), np.zeros(n_groups, bool)
    first_empty, turns, g, picks = 0, codes is not None, 0, []
    while len(picks) < count:
        a = around / eta
        if rule == "reference":
            gain = np.log(np.sinh(c)) - log_cosh(a) - log_cosh(a + c)
        else:
            gain = (np.tanh(a + near * c[:, None]) - np.tanh(a)).sum(axis=1)
        allowed = left
        while turns and not (left & (groups == g)).any():
            if not gone[g]:
                gone[g], first_empty = True, first_empty or used[g]
                turns = not (used > 1.5 * first_empty).any()
            g = (g + 1) % n_groups
        if turns:
            allowed = left & (groups == g)
        pick = int(np.argmax(np.where(allowed, gain, -np.inf)))
        picks.append(pick)
        left[pick] = False
        around = around + near[pick] * confidence[pick]
        used[groups[pick]] += 1
        g = (g + 1) % n_groups
    return picks, around


@pytest.mark.parametrize("rule", ["reference", "exact"])
@pytest.mark.parametrize(
    ("sizes", "budget", "by_hand"),
    [
        # 20 rounds of three; the first class leaves when the others have 20 each, the other 240 go in turns.
        ([20, 300, 300], 300, [20, 140, 140]),
        # The first leaves with 20 each, the second with 25 <= 30 each: the third alone is left.
        ([20, 25, 300], 200, [20, 25, 155]),
        # The first leaves at 20; the second at 100 > 30, and turns end: of the others 100 + 100 and 200 by gain alone.
        ([20, 100, 300, 300], 320, [20, 100, 100, 100]),
    ],
)
def test_a_rare_class_does_not_end_the_turns(rule: str, sizes: list[int], budget: int, by_hand: list[int]) -> None:
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    probs = rng.dirichlet(np.full(4, 0.5), len(codes)).astype(np.float32)
    features = rng.normal(size=(len(codes), 8)).astype(np.float32)
    picked = run(samples(features, probs, codes), [budget], tau=0.9, rule=rule).rankings[0].order_n
    assert np.bincount(codes[picked], minlength=len(sizes)).tolist() == by_hand


def test_turns_end_when_a_class_has_none_left_and_another_gave_half_as_much_again() -> None:
    """Sure samples are all of class 3, so that without turns it gets all that is left: 100 + 150 of it."""
    codes = np.repeat(np.arange(4), [20, 100, 300, 300])
    sure = np.where(codes == 3, 0.9, 0.1 + 1e-4 * np.arange(720) / 720)
    features = np.random.default_rng(3).normal(size=(720, 16)).astype(np.float32)
    candidates = samples(features, np.c_[sure, np.zeros(720)].astype(np.float32), codes)
    picked = run(candidates, [470], tau=0.999, rule="reference").rankings[0].order_n
    assert np.bincount(codes[picked]).tolist() == [20, 100, 100, 250]


@pytest.mark.parametrize("kind", ["random", "clustered"])
@pytest.mark.parametrize("balance", ["labels", "none"])
@pytest.mark.parametrize("rule", ["reference", "exact"])
def test_the_order_is_that_of_the_formula(kind: str, balance: str, rule: str) -> None:
    features, probs, codes = problem(2000 if rule == "reference" else 600, kind)
    n, eta = len(features), 1.0 if rule == "reference" else 8.0  # the plain exact gain is a tanh, and it saturates
    confidence = probs.astype(np.float64).max(axis=1)
    expected, around = plain(features, confidence, 0.9, eta, codes if balance == "labels" else None, rule, n)
    choice = run(samples(features, probs, codes), [5, n // 2, n], tau=0.9, eta=eta, balance=balance, rule=rule)
    assert choice.rankings[0].order_n.tolist() == expected
    assert np.allclose(choice.extras[2].columns["neighbor_confidence"], around, rtol=1e-9)
    assert math.isclose(choice.extras[2].figures["objective"], np.tanh(around / eta).sum(), rel_tol=1e-9)
    assert choice.extras[0].figures["objective"] < choice.extras[1].figures["objective"]
    after = plain(features, confidence, 0.9, eta, codes if balance == "labels" else None, rule, n // 2)[1]
    assert np.allclose(choice.extras[1].columns["neighbor_confidence"], after), "N of what is kept then"


@pytest.mark.parametrize("rule", ["reference", "exact"])
@pytest.mark.parametrize("memory", [1, 20_000])
def test_rows_computed_as_needed_give_the_same_order(rule: str, memory: int) -> None:
    features, probs, codes = problem(300, "clustered")
    candidates = samples(features, probs, codes)
    whole, piecewise = (run(candidates, [40, 300], m, tau=0.9, rule=rule) for m in (PLENTY, memory))
    assert "as needed" in piecewise.extras[0].way and "all pairs" in whole.extras[0].way
    assert piecewise.rankings[0].order_n.tolist() == whole.rankings[0].order_n.tolist()
    around = [choice.extras[1].columns["neighbor_confidence"] for choice in (whole, piecewise)]
    assert np.allclose(*around, rtol=1e-12)


def test_exact_gains_never_rise_and_sum_to_the_objective() -> None:
    features, probs, codes = problem(400, "clustered")
    choice = run(samples(features, probs, codes), [400], tau=0.9, balance="none")
    gains = choice.rankings[0].gain_n
    assert gains is not None and (np.diff(gains) <= 1e-12).all()
    assert math.isclose(gains.sum(), choice.extras[0].figures["objective"], rel_tol=1e-9)


def test_a_crowd_far_beyond_saturation_is_still_ordered_by_confidence() -> None:
    rng = np.random.default_rng(0)
    features = np.ones((900, 3), np.float32)
    sure = rng.uniform(0.5, 1.0, 900).astype(np.float32)
    choice = run(samples(features, np.c_[sure, 1 - sure], None), [900], balance="none", rule="exact")
    confidence = sure.astype(np.float64)
    assert choice.rankings[0].order_n.tolist() == np.argsort(-confidence, kind="stable").tolist()
    by_own = run(samples(features, np.c_[sure, 1 - sure], None), [900], balance="none", rule="reference")
    assert by_own.extras[0].figures["objective"] == 900.0


def test_log_gain_by_hand() -> None:
    assert math.isclose(log_gain()(0.3, 0.7), math.log(math.tanh(1.0) - math.tanh(0.3)), rel_tol=1e-12)
    assert math.isclose(log_gain()(500.0, 1.0), math.log(2 * (1 - math.exp(-2))) - 1000, rel_tol=1e-12)
    assert log_gain()(1.0, 0.0) == -math.inf


def test_samples_kept_already_count_and_are_not_picked() -> None:
    features = np.array([[1, 0], [1, 0.01], [0, 1]], np.float32)
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]], np.float32)
    candidates = samples(features, probs, None, kept_n=np.array([True, False, False]))
    for memory in (PLENTY, 1):
        choice = run(candidates, [1, 2], memory, balance="none")
        assert choice.rankings[0].order_n.tolist() == [2, 1], "beside the kept sample the unsure lone one adds more"
        around = choice.extras[0].columns["neighbor_confidence"]
        assert np.allclose(around, [0.9, 0.9 * (0.5 + 0.5 / math.sqrt(1.0001)), 0.6])


def test_per_class_keeps_the_proportion() -> None:
    features, probs, codes = problem(300, "clustered")
    params = NeighborConfidenceParams(tau=0.9)
    choice = choose("neighbor_confidence", samples(features, probs, codes), params, Run([30], per_class=True))
    share = np.bincount(codes[choice.rankings[0].order_n[:30]], minlength=4) - np.bincount(codes) / 10
    assert np.abs(share).max() < 1


def test_confidences_by_hand() -> None:
    probs = ArrayFeatures(np.array([[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3]], np.float32))
    order = np.arange(2)
    assert np.allclose(confidences(probs, "max", order), [0.7, 1 / 3])
    assert np.allclose(confidences(probs, "margin", order), [0.5, 0.0])
    surprise = -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1))
    assert np.allclose(confidences(probs, "entropy", order), [1 - surprise / math.log(3), 0.0], atol=1e-6)


@pytest.mark.parametrize("tau", [0.0, 1.0, 1.5])
def test_tau_is_a_similarity(tau: float) -> None:
    features, probs, codes = problem(20, "random")
    with pytest.raises(InputError, match=r"tau is .*, not between 0 and 1"):
        run(samples(features, probs, codes), [3], tau=tau)


def test_without_probabilities_or_labels_it_says_so() -> None:
    features, probs, codes = problem(20, "random")
    with pytest.raises(InputError, match=r"needs probabilities(?s:.)*--probabilities"):
        run(Candidates(np.arange(20), codes_n=codes, features=ArrayFeatures(features)), [3])
    with pytest.raises(InputError, match="balance=labels needs labels"):
        run(samples(features, probs, None), [3])


def dense(features: np.ndarray, metric: str) -> np.ndarray:
    """All similarities from the definitions, -1 for a sample and itself."""
    x = features.astype(np.float64)
    if metric == "cosine":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        found = 0.5 + 0.5 * x @ x.T
    else:
        away = ((x[:, None] - x[None]) ** 2).sum(axis=2)
        found = 1 - away / (4 * ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean())
    np.fill_diagonal(found, -1)
    return found


def edges_of(rows: Edges, n: int) -> set[tuple[int, int]]:
    return {(i, int(j)) for i in range(n) for j in rows.samples_e[rows.begin_n[i] : rows.end_n[i]]}


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_graph_has_every_pair_above_the_threshold(metric: str) -> None:
    features, _, _ = problem(1500, "clustered")
    similarity = prepare_similarity(features, metric)  # type: ignore[arg-type]
    expected = dense(features, metric)
    wanted = {(int(i), int(j)) for i, j in zip(*np.nonzero(expected > 0.95), strict=True)}
    rows = build_graph(similarity, 0.95)
    assert rows is not None and edges_of(rows, 1500) == wanted and len(rows.samples_e) == len(wanted)
    for i in (0, 700, 1499):
        mine = slice(rows.begin_n[i], rows.end_n[i])
        assert np.allclose(rows.similarities_e[mine], expected[i][rows.samples_e[mine]], atol=1e-12)
    on_demand = RowsOnDemand(similarity, 0.95, PLENTY)
    on_demand.fetch(np.array([3, 1400]))
    for i in (3, 1400):
        found = on_demand.edges.samples_e[on_demand.edges.begin_n[i] : on_demand.edges.end_n[i]]
        assert found.tolist() == np.flatnonzero(expected[i] > 0.95).tolist()
    assert mean_degree(similarity, 0.95, 0, sample=1500) == len(wanted) / 1500


def test_cells_find_nearly_all_pairs_and_no_other_and_recall_says_how_many() -> None:
    features, _, _ = problem(3000, "clustered")
    similarity = prepare_similarity(features)
    rows, cells = build_graph(similarity, 0.95), make_cells(similarity, 12, 0)
    approximate = build_graph(similarity, 0.95, cells=cells)
    assert rows is not None and approximate is not None
    every, found = edges_of(rows, 3000), edges_of(approximate, 3000)
    assert found < every and all((j, i) in found for i, j in found)
    share = recall(similarity, 0.95, approximate, 0, sample=3000)
    assert share == len(found) / len(every) > 0.8
    assert sorted(cells.order_n.tolist()) == list(range(3000))


def test_a_graph_larger_than_allowed_is_not_built() -> None:
    features, _, _ = problem(500, "clustered")
    similarity = prepare_similarity(features)
    rows = build_graph(similarity, 0.95)
    assert rows is not None
    nbytes = 12 * len(rows.samples_e)
    assert build_graph(similarity, 0.95, max_bytes=nbytes) is not None
    assert build_graph(similarity, 0.95, max_bytes=nbytes - 12) is None


def test_approximate_neighbors_choose_nearly_as_well() -> None:
    features, probs, codes = problem(2500, "clustered")
    candidates = samples(features, probs, codes)
    exact, approximate = (run(candidates, [250], tau=0.9, eta=8.0, neighbors=n) for n in ("exact", "ivf"))
    assert "ivf" in approximate.extras[0].way and 0.5 < approximate.extras[0].figures["recall"] <= 1.0
    around = plain_objective(features, probs, approximate.rankings[0].order_n[:250])
    assert around > 0.99 * exact.extras[0].figures["objective"]


def plain_objective(features: np.ndarray, probs: np.ndarray, picks: np.ndarray) -> float:
    similar = dense(features, "cosine")
    np.fill_diagonal(similar, 1.0)
    near = np.where(similar > 0.9, similar, 0.0)[:, picks]
    return float(np.tanh(near @ probs.astype(np.float64).max(axis=1)[picks] / 8.0).sum())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_less_precise_similarities_choose_nearly_as_well(precision: str) -> None:
    features, probs, codes = problem(1200, "clustered")
    candidates = samples(features, probs, codes)
    exact, rough = (run(candidates, [120], tau=0.9, eta=8.0, precision=p) for p in ("float64", precision))
    assert math.isclose(exact.extras[0].figures["objective"], rough.extras[0].figures["objective"], rel_tol=0.02)


@pytest.mark.gpu
def test_the_graph_is_the_same_on_a_cuda_device() -> None:
    features, probs, codes = problem(1500, "clustered")
    on_cpu, on_cuda = (build_graph(prepare_similarity(features, device=d), 0.9) for d in ("cpu", "cuda"))
    assert on_cpu is not None and on_cuda is not None
    assert edges_of(on_cpu, 1500) == edges_of(on_cuda, 1500)
    params, candidates = NeighborConfidenceParams(tau=0.9), samples(features, probs, codes)
    orders = []
    for device, memory in (("cpu", PLENTY), ("cuda", PLENTY), ("cuda", 1)):
        found = neighbor_confidence_order(candidates, params, Run([300], device=device, memory=memory))
        orders.append(found.rankings[0].order_n.tolist())
    assert orders[0] == orders[1] == orders[2]
