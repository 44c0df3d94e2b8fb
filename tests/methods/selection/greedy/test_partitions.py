"""Greedy over partitions: against a twin in NumPy, against the single greedy run, and against the best there is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from handing import Elsewhere

from prune_cli.core.errors import InputError
from prune_cli.core.progress import silent
from prune_cli.engines.handout import MapBlocks
from prune_cli.methods.partition import Region, two_means_parts
from prune_cli.methods.scores.kernel.rows.kinds import make_rows
from prune_cli.methods.selection.choosing import choose
from prune_cli.methods.selection.confidence.neighbor_confidence import NeighborConfidenceParams
from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Choice, Run
from prune_cli.methods.selection.coverage.facility_location import FacilityLocationParams
from prune_cli.methods.selection.greedy import Division, cut, shares, taken_by_turns

PLENTY = 10**9
METHODS = ("neighbor_confidence", "facility_location")


def samples(n: int = 600, groups: int = 12, spread: float = 0.3, seed: int = 0, width: int = 8) -> Candidates:
    """Crowds that partly run into each other; unequal classes, that go across the crowds."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(groups, width))
    features = centers[rng.integers(0, groups, n)] + spread * rng.normal(size=(n, width))
    codes = rng.choice(3, n, p=[0.2, 0.3, 0.5])
    codes[:3] = np.arange(3)
    return with_features(features, rng.dirichlet(np.full(4, 0.5), n), codes)


def with_features(
    features: np.ndarray, probs: np.ndarray, codes: np.ndarray, kept: np.ndarray | None = None
) -> Candidates:
    return Candidates(
        np.arange(len(features)), codes_n=codes, features=ArrayFeatures(features.astype(np.float32)), kept_n=kept,
        probabilities=ArrayFeatures(probs.astype(np.float32)),
    )  # fmt: skip


def keeping(candidates: Candidates, kept: np.ndarray) -> Candidates:
    return with_features(rows_of(candidates), probs_of(candidates), candidates.codes("test"), kept)


def rows_of(candidates: Candidates) -> np.ndarray:
    assert candidates.features is not None
    return candidates.features.array().astype(np.float64)


def probs_of(candidates: Candidates) -> np.ndarray:
    assert candidates.probabilities is not None
    return candidates.probabilities.array().astype(np.float64)


def pick(method: str, candidates: Candidates, count: int, **more: object) -> Choice:
    """Run a method; ``tau`` is .9, ``neighbors`` 10, and no class takes turns unless said."""
    per_class, map_blocks = bool(more.pop("per_class", False)), more.pop("map_blocks", None)
    memory = more.pop("memory", PLENTY)
    own: dict[str, object] = {"tau": 0.9, "balance": "none"} if method == "neighbor_confidence" else {"neighbors": 10}
    kind = NeighborConfidenceParams if method == "neighbor_confidence" else FacilityLocationParams
    params = kind(**{**own, **more})  # type: ignore[arg-type]
    return choose(method, candidates, params, Run([count], device="cpu", per_class=per_class, memory=memory, map_blocks=map_blocks))  # type: ignore[arg-type]  # fmt: skip


def order(choice: Choice) -> list[int]:
    return choice.rankings[0].order_n.tolist()


def similarities(candidates: Candidates) -> np.ndarray:
    unit = rows_of(candidates)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    found = 0.5 + 0.5 * unit @ unit.T
    np.fill_diagonal(found, 1.0)
    return found


def edges(method: str, candidates: Candidates, inside: Sequence[int] | None = None) -> np.ndarray:
    """What sample j (a column) is to sample i (a row), 0 without an edge; of some samples among themselves."""
    found = similarities(candidates)
    among = np.arange(len(found)) if inside is None else np.asarray(inside)
    whole = np.zeros_like(found)
    found = found[np.ix_(among, among)]
    if method == "neighbor_confidence":
        found = np.where(found > 0.9, found, 0.0)
    else:
        for i in range(len(found)):
            others = [j for j in np.argsort(-found[i], kind="stable") if j != i]
            found[i, others[10:]] = 0.0
    whole[np.ix_(among, among)] = found
    return whole


def value(method: str, candidates: Candidates, edge: np.ndarray, chosen: Sequence[int]) -> float:
    """The objective of some picks over a graph."""
    if not len(chosen):
        return 0.0
    if method == "facility_location":
        return float(edge[:, chosen].max(axis=1).sum())
    return float(np.tanh(edge[:, chosen] @ probs_of(candidates).max(axis=1)[chosen]).sum())


def greedy(worth: Callable[[list[int]], float], free: Sequence[int], kept: Sequence[int], count: int) -> list[int]:
    """The plain greedy algorithm: the picks in their order."""
    picked: list[int] = []
    for _ in range(count):
        gains = {j: worth([*kept, *picked, j]) for j in free if j not in picked}
        picked.append(max(gains, key=lambda j: (gains[j], -j)))
    return picked


def regions_of(candidates: Candidates, parts: int, overlap: float) -> list[Region]:
    assert candidates.features is not None
    return cut(candidates, candidates.features, Division(parts, overlap, 1.0), Run())


def twin(
    method: str, candidates: Candidates, regions: list[Region], count: int, oversample: float
) -> tuple[list[int], float]:
    """Greedy within each partition, over the samples in it and its halo; then over the edges that partitions saw to their picks."""
    kept = np.flatnonzero(candidates.kept).tolist()
    n_free = len(candidates) - len(kept)
    seen = np.zeros((len(candidates), len(candidates)))
    picked: list[int] = []
    reach = np.full(len(candidates), -1.0)
    inner = [edges(method, candidates, region.members) for region in regions]
    for region, edge in zip(regions, inner, strict=True):
        for i in region.core:
            near = np.sort(np.delete(edge[i], i))[::-1]
            reach[i] = near[9] if len(region.members) > 10 else -1.0
    for region, edge in zip(regions, inner, strict=True):
        free = [i for i in region.core.tolist() if i not in kept]
        share = min(len(free), math.ceil(oversample * count * len(free) / n_free - 1e-9))
        held = [i for i in kept if i in set(region.members.tolist())]

        local = edge.copy()
        for j in region.members if method == "facility_location" else ():  # the halo counts for whom it is near to, too
            last = np.sort(np.delete(edge[j], j))[::-1][9] if len(region.members) > 10 else -1.0
            local[[i for i in region.halo if i != j and edge[i, j] < last - 1e-7], j] = 0.0

        def worth(chosen: list[int], edge: np.ndarray = local) -> float:
            return value(method, candidates, edge, chosen)

        mine = greedy(worth, free, held, share)
        picked += mine
        own = [*mine, *(i for i in held if i in set(region.core.tolist()))]
        for j in own:
            column = edge[:, j].copy()
            if method == "facility_location":  # what its own partition found nearer stands for a sample of the halo
                column[[i for i in region.halo if column[i] < reach[i] - 1e-7]] = 0.0
            seen[:, j] = column
    answer = greedy(lambda chosen: value(method, candidates, seen, chosen), sorted(picked), kept, count)
    return answer, value(method, candidates, seen, [*kept, *answer])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("overlap", [0.0, 0.2])
@pytest.mark.parametrize("with_kept", [False, True])
def test_the_picks_are_those_of_the_definition(method: str, overlap: float, with_kept: bool) -> None:
    candidates = samples(90, groups=4, spread=0.5)
    if with_kept:
        candidates = keeping(candidates, np.arange(90) % 9 == 2)
    expected, objective = twin(method, candidates, regions_of(candidates, 3, overlap), 12, 1.5)
    choice = pick(method, candidates, 12, parts=3, overlap=overlap, oversample=1.5)
    assert order(choice) == expected
    assert math.isclose(choice.extras[0].figures["objective"], objective, rel_tol=1e-6)
    assert choice.extras[0].figures["partitions"] == 3


@pytest.mark.parametrize("method", METHODS)
def test_one_partition_is_the_single_run(method: str) -> None:
    candidates = samples()
    plain, one = pick(method, candidates, 100), pick(method, candidates, 100, parts=1)
    assert plain.rankings[0].order_n.tobytes() == one.rankings[0].order_n.tobytes()
    assert plain.rankings[0].gain_n.tobytes() == one.rankings[0].gain_n.tobytes()  # type: ignore[union-attr]
    assert [e.figures for e in plain.extras] == [e.figures for e in one.extras]


def apart(n: int = 240) -> Candidates:
    """Four crowds of equal size at right angles, none near another."""
    rng = np.random.default_rng(3)
    features = np.eye(4)[np.arange(n) % 4] @ rng.normal(size=(4, 4)).clip(-0.1, 0.1) + 3 * np.eye(4)[np.arange(n) % 4]
    features = features + 0.6 * rng.normal(size=(n, 4))
    codes = rng.integers(0, 3, n)
    return with_features(features, rng.dirichlet(np.full(4, 0.5), n), codes)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("per_class", [False, True])
def test_groups_without_edges_between_them_give_the_single_runs_picks(method: str, per_class: bool) -> None:
    candidates = apart()
    groups = np.arange(240) % 4
    regions = regions_of(candidates, 4, 0.0)
    assert sorted(tuple(np.unique(groups[region.core])) for region in regions) == [(0,), (1,), (2,), (3,)]
    edge = edges(method, candidates)
    assert not edge[groups[:, None] != groups[None]].any()
    more = {"per_class": per_class, "oversample": 2.0 if not per_class else 50.0}
    single = pick(method, candidates, 60, per_class=per_class)
    if method == "facility_location" and per_class:  # its graph is that of a class: only its classes' cuts are certain
        assert sorted(candidates.codes("test")[order(single)]) == sorted(
            candidates.codes("test")[order(pick(method, candidates, 60, parts=4, **more))]
        )
        return
    assert order(pick(method, candidates, 60, parts=4, overlap=0.0, **more)) == order(single)
    assert order(pick(method, candidates, 60, parts=4, overlap=0.2, **more)) == order(single)


@pytest.mark.parametrize("method", METHODS)
def test_the_answer_is_near_that_of_the_single_run(method: str) -> None:
    candidates = samples(1500, groups=20)
    edge = edges(method, candidates)
    single = value(method, candidates, edge, order(pick(method, candidates, 150)))
    for parts in (2, 5, 8):
        choice = pick(method, candidates, 150, parts=parts)
        found = value(method, candidates, edge, order(choice))
        assert found >= 0.95 * single
        known = choice.extras[0].figures["objective"] / found
        if method == "neighbor_confidence":
            assert 0.95 < known <= 1 + 1e-9, "edges that no partition saw are not counted"
        else:
            assert abs(known - 1) < 0.02, "in place of neighbors not seen there are farther ones"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_the_answer_is_within_the_bound_of_the_best_there_is(method: str, seed: int) -> None:
    """GreeDi: (1 - 1/e) / min(sqrt(k), m) of the best, where each partition picks as many as the answer has."""
    candidates = samples(14, groups=3, seed=seed, width=3)
    edge, count, parts = edges(method, candidates), 3, 2
    best = max(value(method, candidates, edge, list(s)) for s in itertools.combinations(range(14), count))
    choice = pick(method, candidates, count, parts=parts, oversample=float(parts))
    found = value(method, candidates, edge, order(choice))
    assert best + 1e-9 >= found >= (1 - 1 / math.e) / min(math.sqrt(count), parts) * best


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("per_class", [False, True])
def test_the_order_of_the_rows_does_not_matter(method: str, per_class: bool) -> None:
    candidates = samples()
    moved = np.random.default_rng(1).permutation(600)
    other = with_features(rows_of(candidates)[moved], probs_of(candidates)[moved], candidates.codes("test")[moved])
    other = Candidates(
        np.argsort(moved), codes_n=other.codes_n, features=other.features, probabilities=other.probabilities
    )
    plain = pick(method, candidates, 80, parts=4, per_class=per_class)
    found = pick(method, other, 80, parts=4, per_class=per_class)
    assert moved[found.rankings[0].order_n].tolist() == order(plain)
    assert found.rankings[0].gain_n.tobytes() == plain.rankings[0].gain_n.tobytes()  # type: ignore[union-attr]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("rule", ["exact", "reference"])
def test_a_confidence_that_all_partitions_see_is_the_whole(metric: str, rule: str) -> None:
    """With a halo of everything and every sample a candidate no edge is missing: the run is the single one."""
    candidates = samples(200)
    more = {"metric": metric, "rule": rule, "tau": 0.9 if metric == "cosine" else 0.8}
    single = pick("neighbor_confidence", candidates, 50, **more)
    whole = pick("neighbor_confidence", candidates, 50, parts=2, overlap=1.0, oversample=100.0, **more)
    assert order(whole) == order(single)
    assert np.allclose(*(c.extras[0].columns["neighbor_confidence"] for c in (whole, single)), rtol=1e-12)


def test_euclidean_similarities_of_a_partition_are_those_of_all_samples() -> None:
    candidates = samples(200)
    rows = rows_of(candidates)
    square = ((rows - rows.mean(axis=0)) ** 2).sum(axis=1).mean()
    elsewhere = Elsewhere()
    pick("neighbor_confidence", candidates, 50, parts=3, metric="euclidean", tau=0.8, map_blocks=MapBlocks(elsewhere))
    answers = [
        *MapBlocks()("", "prune_cli.methods.selection.confidence.partitions:pick_in_partition", elsewhere.handed)
    ]
    for region, answer in zip(regions_in_space(candidates, 3), answers, strict=True):
        owners = region.members[np.repeat(answer["owners"], answer["counts"])]
        away = ((rows[owners] - rows[region.members[answer["samples"]]]) ** 2).sum(axis=1)
        assert len(away) > 20 and np.allclose(answer["similarities"], 1 - away / (4 * square))


def regions_in_space(candidates: Candidates, parts: int) -> list[Region]:
    assert candidates.features is not None
    return cut(candidates, candidates.features, Division(parts, 0.1, 1.0), Run(), unit=False)


def test_kept_samples_count_in_all_partitions_and_are_not_picked() -> None:
    candidates = samples(300)
    kept = np.arange(300) % 10 == 0
    with_them = keeping(candidates, kept)
    for method in METHODS:
        picked = order(pick(method, with_them, 100, parts=3))
        assert not kept[picked].any() and len(set(picked)) == 100
    choice = pick("neighbor_confidence", with_them, 5, parts=2, overlap=1.0, oversample=100.0)
    single = pick("neighbor_confidence", with_them, 5)
    assert order(choice) == order(single)
    assert np.allclose(*(c.extras[0].columns["neighbor_confidence"] for c in (choice, single)))


@pytest.mark.parametrize("method", METHODS)
def test_classes_keep_their_proportion(method: str) -> None:
    candidates = samples()
    codes = candidates.codes("test")
    picked = order(pick(method, candidates, 60, parts=4, per_class=True))
    assert np.abs(np.bincount(codes[picked], minlength=3) - np.bincount(codes) / 10).max() < 1


@pytest.mark.parametrize("count", [60, 330, 500])
def test_classes_take_turns_as_in_the_single_run(count: int) -> None:
    """At 330 the smallest class (about 120) is empty and turns are not over yet, at 500 they are."""
    candidates = samples()
    codes = candidates.codes("test")
    single, found = (
        np.bincount(
            codes[order(pick("neighbor_confidence", candidates, count, parts=p, balance="labels", oversample=1.0))]
        )
        for p in (1, 4)
    )
    assert np.abs(single - found).max() <= (0 if count < 500 else 10)


@pytest.mark.parametrize("method", METHODS)
def test_parts_handed_out_give_the_same_bits_and_pick_nobody_twice(method: str) -> None:
    candidates = keeping(samples(), np.arange(600) % 20 == 0)
    elsewhere = Elsewhere()
    there = pick(method, candidates, 80, parts=5, map_blocks=MapBlocks(elsewhere))
    handed = elsewhere.handed
    here = pick(method, candidates, 80, parts=5)
    assert there.rankings[0].order_n.tobytes() == here.rankings[0].order_n.tobytes()
    assert there.rankings[0].gain_n.tobytes() == here.rankings[0].gain_n.tobytes()  # type: ignore[union-attr]
    assert len({part.name for part in handed}) == 5
    regions = regions_of(candidates, 5, 0.1)
    module = f"prune_cli.methods.selection.{'confidence.partitions' if method == METHODS[0] else 'coverage.facility_location'}"
    picked: list[int] = []
    for region, part, answer in zip(
        regions, handed, MapBlocks()("", f"{module}:pick_in_partition", handed), strict=True
    ):
        arrays = part.gather()
        assert arrays["core"].sum() == len(region.core) < len(region.members) == len(arrays["core"])
        owners = answer["owners"]
        assert arrays["core"][owners].all(), "a halo sample is picked by its own partition alone"
        picked += region.members[owners].tolist()
    assert len(picked) == len(set(picked))


@pytest.mark.parametrize("method", METHODS)
def test_a_halo_keeps_neighbors_across_the_cut(method: str) -> None:
    """Samples evenly on an arc: the cut in the middle goes through neighborhoods, and only a halo sees across it."""
    angles = np.linspace(0.1, 1.4, 80)
    probs = np.full((80, 2), 0.5)
    candidates = with_features(np.c_[np.cos(angles), np.sin(angles)], probs, np.zeros(80, np.int64))
    more: dict[str, object] = {"tau": 0.999} if method == METHODS[0] else {}
    single = pick(method, candidates, 20, **more)
    if method == METHODS[0]:
        columns = {
            overlap: pick(method, candidates, 80, parts=2, overlap=overlap, **more)
            .extras[0]
            .columns["neighbor_confidence"]
            for overlap in (0.0, 0.2)
        }
        whole = pick(method, candidates, 80, **more).extras[0].columns["neighbor_confidence"]
        assert np.allclose(columns[0.2], whole)
        lost = np.flatnonzero(columns[0.0] < whole - 1e-6)
        assert len(lost) and abs(lost - 39.5).max() < 6, "those at the cut"
    seen = {
        overlap: pick(method, candidates, 20, parts=2, overlap=overlap, oversample=4.0, **more)
        for overlap in (0.0, 0.2)
    }
    assert order(seen[0.2]) == order(single)
    assert order(seen[0.0]) != order(single)


def test_edges_that_do_not_fit_say_so_and_what_to_do() -> None:
    with pytest.raises(InputError, match=r"edges to what the partitions picked take .* allowed(?s:.)*-p oversample"):
        pick("neighbor_confidence", samples(200), 60, parts=3, memory=2000)


def test_cores_share_the_samples_and_halos_are_those_nearest_to_the_cuts() -> None:
    """On a line in two dimensions, at angles: the halves are cut at the middle, and a halo is what follows."""
    angles = np.linspace(0.0, 1.5, 100)
    candidates = with_features(np.c_[np.cos(angles), np.sin(angles)], np.ones((100, 1)), np.zeros(100, np.int64))
    halves = sorted(regions_of(candidates, 2, 0.1), key=lambda region: int(region.core[0]))
    assert [region.core.tolist() for region in halves] == [list(range(50)), list(range(50, 100))]
    assert [region.halo.tolist() for region in halves] == [list(range(50, 55)), list(range(45, 50))]
    quarters = sorted(regions_of(candidates, 4, 0.2), key=lambda region: int(region.core[0]))
    assert [len(region.core) for region in quarters] == [25] * 4
    assert quarters[0].halo.tolist() == list(range(25, 30))
    assert quarters[1].halo.tolist() == [*range(20, 25), *range(50, 60)], "its own cut, and that of the level above"
    for region in regions_of(candidates, 8, 0.2):
        beside = {int(region.core[0]) - 1, int(region.core[-1]) + 1} & set(range(100))
        assert beside <= set(region.halo.tolist()), "what is next to its ends"


def test_cores_do_not_depend_on_the_overlap() -> None:
    values = np.random.default_rng(0).normal(size=(300, 5))
    rows, by_id = make_rows(values), np.arange(300)
    for overlap in (0.1, 0.5):
        for plain, wide in zip(
            two_means_parts(rows, by_id, 7, 0, 0, silent), two_means_parts(rows, by_id, 7, 0, 0, silent, overlap), strict=True
        ):  # fmt: skip
            assert plain.core.tolist() == wide.core.tolist() and len(wide.halo)
            assert not set(wide.core.tolist()) & set(wide.halo.tolist())
            assert len(set(wide.halo.tolist())) == len(wide.halo)


def test_more_partitions_than_pairs_of_samples_are_fewer() -> None:
    for method in METHODS:
        candidates = samples(9, groups=2)
        choice = pick(method, candidates, 9, parts=50)
        assert sorted(order(choice)) == list(range(9)) and choice.extras[0].figures["partitions"] == 4


def test_shares_by_hand() -> None:
    """Class 0 has 2 and 4 free samples in the two partitions, class 1 has 3 and 0; 3 and 1 are wanted."""
    regions = [Region(np.arange(6), np.arange(6, 9)), Region(np.arange(6, 10), np.arange(3))]
    codes = np.array([0, 0, 1, 1, 1, -1, 0, 0, 0, 0])
    assert shares(regions, codes, np.array([3, 1]), 1.0).tolist() == [[1, 1], [2, 0]]
    assert shares(regions, codes, np.array([3, 1]), 2.0).tolist() == [[2, 2], [4, 0]]


def test_turns_by_hand() -> None:
    assert taken_by_turns(np.array([10, 10, 0]), 7).tolist() == [4, 4, 0]
    assert taken_by_turns(np.array([4, 100]), 8).tolist() == [4, 4]
    assert taken_by_turns(np.array([4, 100]), 90).tolist() == [4, 86]
    assert taken_by_turns(np.array([0, 0]), 0).tolist() == [0, 0]
