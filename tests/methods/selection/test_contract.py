import math

import numpy as np
import pytest

from prune_cli.core.errors import InputError
from prune_cli.methods.selection.baselines import ModerateParams, RandomParams, TopParams, moderate_order, random_order, top_order
from prune_cli.methods.selection.choosing import choose
from prune_cli.methods.selection.classes import class_turns
from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Run
from prune_cli.methods.selection.stratified import DualParams, StratifiedParams, beta_parameters


def order(choice) -> list[int]:  # type: ignore[no-untyped-def]
    return choice.rankings[0].order_n.tolist()  # type: ignore[no-any-return]


def test_top_by_hand() -> None:
    # ids in the order 2, 0, 1, 3; samples 1 and 3 tie, and 1 comes before 3 by id.
    candidates = Candidates(np.array([2, 0, 1, 3]), np.array([0.2, 0.7, 0.1, 0.7]))
    assert order(top_order(candidates, run=Run([1]))) == [1, 3, 0, 2]
    assert order(top_order(candidates, TopParams(order="easiest"), Run([1]))) == [2, 0, 1, 3]
    skipping = top_order(candidates, TopParams(offset=0.25), Run([1])).rankings[0]
    assert skipping.order_n.tolist() == [3, 0, 2, 1] and skipping.skipped == 1


def test_a_second_score_breaks_ties_from_both_ends() -> None:
    tied = Candidates(np.arange(4), np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.0, 2.0, 5.0, 3.0]))
    assert order(top_order(tied, run=Run([1]))) == [1, 0, 2, 3]
    assert order(top_order(tied, TopParams(order="easiest"), Run([1]))) == [3, 2, 0, 1]


def test_top_needs_a_score() -> None:
    with pytest.raises(InputError, match="prune score"):
        top_order(Candidates(np.arange(3)), run=Run([1]))


def test_random_is_uniform_over_the_samples() -> None:
    first = [order(random_order(Candidates(np.arange(4)), run=Run([1], seed=s)))[0] for s in range(2000)]
    counts = np.bincount(first, minlength=4)
    assert counts.sum() == 2000 and np.all(np.abs(counts - 500) < 100)  # five standard deviations


def test_random_goes_by_ids_and_not_by_rows() -> None:
    rows = np.array([3, 1, 0, 2])  # the sample at position p is the rows.index(p)-th by id
    plain = np.array(order(random_order(Candidates(np.arange(4)), run=Run([1], seed=5))))
    assert order(random_order(Candidates(rows), run=Run([1], seed=5))) == rows[plain].tolist()


def test_balanced_random_has_as_many_of_each_class_until_one_is_used_up() -> None:
    codes = np.array([0] * 10 + [1] * 3 + [2] * 7)
    found = order(random_order(Candidates(np.arange(20), codes_n=codes), RandomParams(balanced=True), Run([1], seed=1)))
    assert sorted(found) == list(range(20))
    for k in range(1, 10):
        counts = np.bincount(codes[found[:k]], minlength=3)
        assert counts.max() - counts.min() <= 1
    assert np.bincount(codes[found[:11]], minlength=3).tolist() == [4, 3, 4]


def test_moderate_takes_the_middle_first() -> None:
    rng = np.random.default_rng(0)
    features, codes = rng.normal(size=(31, 4)).astype(np.float32), rng.integers(0, 3, 31)
    candidates = Candidates(np.arange(31), codes_n=codes, features=ArrayFeatures(features))
    found = order(moderate_order(candidates, ModerateParams(), Run([1])))
    medians = {c: np.median(features[codes == c], axis=0) for c in range(3)}
    distance = [float(np.linalg.norm(features[i] - medians[codes[i]])) for i in range(31)]
    ranks = np.argsort(np.argsort(distance))
    assert [abs(int(ranks[i]) - 15) for i in found] == sorted(abs(r - 15) for r in range(31))


def stratified_by_definition(scores: np.ndarray, count: int, strata: int, dropped: int) -> dict[int, int]:
    """How many each stratum gives: the smallest first, each an equal part of what is left."""
    left = sorted(range(len(scores)), key=lambda i: -scores[i])[dropped:]
    low, high = min(scores[i] for i in left), max(scores[i] for i in left)
    bins: dict[int, list[int]] = {b: [] for b in range(strata)}
    for i in left:
        bins[min(strata - 1, int((scores[i] - low) / ((high - low) / strata)))].append(i)
    given, budget = {}, count
    for done, b in enumerate(sorted(bins, key=lambda b: (len(bins[b]), b))):
        given[b] = min(len(bins[b]), budget // (strata - done))
        budget -= given[b]
    return given


@pytest.mark.parametrize("seed", range(5))
def test_stratified_gives_every_stratum_its_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.gamma(1.5, size=200)
    params = StratifiedParams(strata=7, mis_rate=0.1, range="full")
    choice = choose("stratified", Candidates(np.arange(200), scores), params, Run([30, 90], seed=seed))
    for count, ranking in zip([30, 90], choice.rankings, strict=True):
        chosen = ranking.order_n[:count]
        assert len(set(chosen.tolist())) == count
        hardest = set(np.argsort(-scores)[:20].tolist())
        assert not hardest & set(chosen.tolist())
        left = np.array(sorted(set(range(200)) - hardest))
        low, high = scores[left].min(), scores[left].max()
        bins = np.minimum((scores[chosen] - low) / ((high - low) / 7), 6).astype(int)
        wanted = stratified_by_definition(scores, count, 7, 20)
        assert np.bincount(bins, minlength=7).tolist() == [wanted[b] for b in range(7)]


def test_two_contradictory_copies_do_not_set_the_strata() -> None:
    """Scores 1 to 56 and a pair at 1.3e8, ten strata, 20 kept of 1,000: two of each stratum, and the pair in the highest.

    Cut up to the pair, all others share one stratum, and the draw is random.
    """
    scores = np.r_[np.linspace(1, 56, 998), 1.3e8, 1.3e8]
    candidates = Candidates(np.arange(1000), scores)
    rates = {"strata": 10, "mis_rate": 0.0}
    clipped = choose("stratified", candidates, StratifiedParams(**rates), Run([20])).rankings[0].order_n
    width = (56 - 1) / 10
    inside = np.minimum((scores[clipped] - 1) / width, 9).astype(int)
    assert np.bincount(inside, minlength=10).tolist() == [2] * 10
    whole = choose("stratified", candidates, StratifiedParams(range="full", **rates), Run([20])).rankings[0].order_n
    assert {998, 999} <= set(whole.tolist()), "as published: half of the budget is the pair's, as far as it goes"
    assert np.bincount(np.minimum((scores[whole] - 1) / width, 9).astype(int), minlength=10).tolist() != [2] * 10


def test_stratified_drops_less_where_the_budget_needs_it_and_takes_equal_scores() -> None:
    same = Candidates(np.arange(10), np.ones(10))
    choice = choose("stratified", same, StratifiedParams(mis_rate=0.5), Run([8, 10]))
    assert [len(set(r.order_n.tolist())) for r in choice.rankings] == [8, 10]


def test_dual_moves_from_the_hard_to_the_easy_as_less_is_kept() -> None:
    rng = np.random.default_rng(0)
    mean = rng.random(4000)
    candidates = Candidates(np.arange(4000), 0.3 * (1 - mean) + 0.1, columns={"dual_mean": mean})
    choice = choose("dual", candidates, DualParams(), Run([20, 200, 1000], seed=2))
    middle = [mean[r.order_n[:c]].mean() for r, c in zip(choice.rankings, [20, 200, 1000], strict=True)]
    assert middle[0] > 0.9 and middle[0] > middle[1] > middle[2]


def test_dual_draws_in_proportion_to_the_weight() -> None:
    """The first drawn of three, over many seeds, against the weights by hand (Beta(a, b) density times the score)."""
    from scipy.stats import beta

    mean, score = np.array([0.2, 0.5, 0.8]), np.array([0.3, 0.2, 0.1])
    candidates = Candidates(np.arange(3), score, columns={"dual_mean": mean})
    first = [order(choose("dual", candidates, DualParams(anchors=1), Run([1], seed=s)))[0] for s in range(4000)]
    b = 15 * (1 - 0.2) * (1 - (2 / 3) ** 4)  # a third is kept, c = 4
    weight = beta.pdf(mean, 16 - b, b) * score
    assert np.abs(np.bincount(first, minlength=3) / 4000 - weight / weight.sum()).max() < 0.04  # five deviations


@pytest.mark.parametrize(("pruned", "by_hand"), [(0.5, 11.25), (0.8, 7.0848), (0.9, 4.1268), (0.0, 12.0)])
def test_the_beta_density_of_dual_by_hand(pruned: float, by_hand: float) -> None:
    """b = 15 * 0.8 * (1 - r^4): r^4 is 0.0625, 0.4096, 0.6561 and 0."""
    a, b = beta_parameters(0.2, pruned, DualParams())
    assert math.isclose(b, by_hand, rel_tol=1e-12) and math.isclose(a + b, 16.0)


def test_dual_says_what_it_needs() -> None:
    with pytest.raises(InputError, match=r"dual_mean(?s:.)*terms=true"):
        choose("dual", Candidates(np.arange(3), np.ones(3)), DualParams(), Run([1]))


def slow_turns(sizes: list[int], taken: list[int], seed: int) -> list[int]:
    """Sainte-Lague seat by seat: the next seat goes to the class with the largest size / (2 seats + 1)."""
    from prune_cli.core.rng import generator

    draw = generator(seed, "select", "classes").permutation(len(sizes))
    seats, result = list(taken), []
    while sum(seats) < sum(sizes):
        open_classes = [c for c in range(len(sizes)) if seats[c] < sizes[c]]
        best = max(open_classes, key=lambda c: (sizes[c] / (2 * seats[c] + 1), -draw[c]))
        result.append(best)
        seats[best] += 1
    return result


@pytest.mark.parametrize("seed", range(10))
def test_turns_are_the_apportionment_seat_by_seat(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 20, 4)
    taken = np.minimum(rng.integers(0, 4, 4), sizes)
    assert class_turns(sizes, taken, seed).tolist() == slow_turns(sizes.tolist(), taken.tolist(), seed)


def test_every_prefix_is_within_one_of_its_share_for_two_classes() -> None:
    counts = np.cumsum(class_turns(np.array([70, 30]), np.array([0, 0]), 0) == 1)
    assert np.all(np.abs(counts - 0.3 * np.arange(1, 101)) < 1)


def test_inside_each_class_a_method_sees_that_class_alone() -> None:
    codes = np.array([0, 1, 0, 1, 0, 0])
    candidates = Candidates(np.arange(6), np.array([1.0, 9.0, 2.0, 8.0, 3.0, 4.0]), codes_n=codes)
    ranking = choose("top", candidates, TopParams(), Run([3], per_class=True)).rankings[0]
    assert [int(i) for i in ranking.order_n if codes[i] == 0] == [5, 4, 2, 0]
    assert [int(i) for i in ranking.order_n if codes[i] == 1] == [1, 3]
    assert sorted(codes[ranking.order_n[:3]].tolist()) == [0, 0, 1]


def test_what_a_class_skips_comes_last_of_all() -> None:
    codes = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    candidates = Candidates(np.arange(8), np.arange(8.0), codes_n=codes)
    ranking = choose("top", candidates, TopParams(offset=0.25), Run([4], per_class=True)).rankings[0]
    assert ranking.skipped == 2 and set(ranking.order_n[-2:].tolist()) == {3, 7}
