from __future__ import annotations

import numpy as np
import pytest

from prune_cli.methods.selection.combining import IN_NONE, NO_LABEL, OVER_QUOTA, Combination, fill_quotas, intersect, subtract, unite

# Rows a to e. The first keeps a, c, b in this order and would go on with d, e; the second keeps b, d, c.
SELECTED = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0]], bool)
RANKS = np.array([[1, 3, 2, 4, 5], [4, 1, 3, 2, 0]])
BY_ID = np.arange(5)
NAMES = ("first", "second")


def reasons(found: Combination) -> list[str | None]:
    return [found.reasons[code] if code >= 0 else None for code in found.reason_n]


def test_union_by_hand() -> None:
    found = unite(SELECTED, RANKS, BY_ID)
    assert found.selected_n.tolist() == [True, True, True, True, False]
    # Best ranks: a 1 (first), b 1 (second), c 2 (first), d 2 (second): its rank 4 in the first, which leaves it out, says nothing.
    assert found.rank_n.tolist() == [1, 2, 3, 4, 0]
    assert reasons(found) == [None, None, None, None, IN_NONE]


def test_a_rank_counts_only_where_its_selection_keeps_the_row() -> None:
    # The first ranks row 0 first and leaves it out; the second keeps it as its fifth. Row 1 is the second of the first.
    found = unite(np.array([[0, 1], [1, 0]], bool), np.array([[1, 2], [5, 1]]), np.arange(2))
    assert found.rank_n.tolist() == [2, 1]


def test_intersection_by_hand() -> None:
    found = intersect(SELECTED, RANKS, BY_ID, NAMES)
    # Worst ranks: b 3 (of the first), c 3 (of the second).
    assert found.selected_n.tolist() == [False, True, True, False, False]
    assert found.rank_n.tolist() == [0, 1, 2, 0, 0]
    assert reasons(found) == ["not in second", None, None, "not in first", "not in first"]


def test_difference_by_hand() -> None:
    found = subtract(SELECTED, RANKS, BY_ID, NAMES)
    assert found.selected_n.tolist() == [True, False, False, False, False] and found.rank_n.tolist() == [1, 0, 0, 0, 0]
    assert reasons(found) == [None, "in second", "in second", "not in first", "not in first"]
    three = subtract(np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0]], bool), np.ones((3, 3), int), np.arange(3), "xyz")
    assert reasons(three) == ["in y", "in z", None]
    other = subtract(SELECTED[::-1], RANKS[::-1], BY_ID, NAMES)
    assert other.selected_n.tolist() == [False, False, False, True, False], "and its rank 2 is closed up"
    assert other.rank_n.tolist() == [0, 0, 0, 1, 0]


def test_quotas_by_hand() -> None:
    # In turn: a, c, b of the first, then d of the second. Classes: a 0, b 1, c 0, d 1, e none.
    codes = np.array([0, 1, 0, 1, -1])
    found = fill_quotas(SELECTED, RANKS, BY_ID, codes, np.array([1, 1]))
    assert found.rank_n.tolist() == [1, 2, 0, 0, 0] and found.selected_n.tolist() == [True, True, False, False, False]
    assert reasons(found) == [None, None, OVER_QUOTA, OVER_QUOTA, IN_NONE]
    found = fill_quotas(SELECTED, RANKS, BY_ID, np.array([0, 1, 0, -1, 1]), np.array([2, 0]))
    assert found.rank_n.tolist() == [1, 0, 2, 0, 0]
    assert reasons(found) == [None, OVER_QUOTA, None, NO_LABEL, IN_NONE]


def test_what_nobody_ranks_has_no_rank_and_ids_break_ties() -> None:
    everything = np.ones((2, 3), bool)
    ranks = np.array([[0, 0, 5], [0, 7, 0]])
    assert unite(everything, ranks, np.arange(3)).rank_n.tolist() == [0, 2, 1]
    assert intersect(everything, ranks, np.arange(3), NAMES).rank_n.tolist() == [0, 2, 1]
    alike = np.array([[2, 2, 2]])
    assert unite(everything[:1], alike, np.array([2, 0, 1])).rank_n.tolist() == [3, 1, 2]
    no_order = fill_quotas(everything[:1], np.zeros((1, 3), int), np.array([2, 0, 1]), np.zeros(3, int), np.array([2]))
    assert no_order.rank_n.tolist() == [0, 1, 2], "by id where there is no order"


@pytest.mark.parametrize("seed", range(5))
def test_prefixes_are_unions_and_intersections_of_prefixes(seed: int) -> None:
    """The law that the two orders are chosen for: where all rows are kept, the rows of best (worst) rank <= k are those of the first k."""
    rng = np.random.default_rng(seed)
    ranks = np.stack([rng.permutation(30) + 1 for _ in range(3)])
    kept = np.ones((3, 30), bool)
    united, common = unite(kept, ranks, np.arange(30)), intersect(kept, ranks, np.arange(30), "abc")
    for k in range(1, 31):
        for found, wanted in ((united, (ranks <= k).any(axis=0)), (common, (ranks <= k).all(axis=0))):
            assert np.array_equal((found.rank_n > 0) & (found.rank_n <= wanted.sum()), wanted)


@pytest.mark.parametrize("seed", range(5))
def test_quotas_are_what_one_would_do_row_by_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    selected = rng.random((3, 60)) < 0.4
    ranks = np.stack([rng.permutation(60) + 1 for _ in range(3)]) * (rng.random((3, 60)) < 0.9)
    place, codes = rng.permutation(60), rng.integers(-1, 4, 60)
    quotas = np.array([3, 0, 5, 100])
    left, taken = quotas.tolist(), []
    for f in range(3):
        for row in sorted(np.flatnonzero(selected[f]), key=lambda r: (ranks[f, r] or 1000, place[r])):
            if row not in taken and codes[row] >= 0 and left[codes[row]] > 0:
                left[codes[row]] -= 1
                taken.append(int(row))
    found = fill_quotas(selected, ranks, place, codes, quotas)
    assert np.argsort(np.where(found.rank_n > 0, found.rank_n, 999), kind="stable")[: len(taken)].tolist() == taken
    assert int(found.selected_n.sum()) == len(taken) == int(found.rank_n.max())
