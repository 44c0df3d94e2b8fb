import numpy as np
import pytest

from prune_cli.core.errors import InputError
from prune_cli.methods.selection.baselines import RandomParams, TopParams, random_order, top_order
from prune_cli.methods.selection.ranking import Candidates, proportional_order


def test_top_by_hand() -> None:
    # ids in the order 2, 0, 1, 3; samples 1 and 3 tie, and 1 comes before 3 by id.
    candidates = Candidates(np.array([2, 0, 1, 3]), np.array([0.2, 0.7, 0.1, 0.7]))
    assert top_order(candidates, TopParams(), seed=0).order_n.tolist() == [1, 3, 0, 2]
    assert top_order(candidates, TopParams(order="easiest"), seed=0).order_n.tolist() == [2, 0, 1, 3]
    skipping = top_order(candidates, TopParams(offset=0.25), seed=0)
    assert skipping.order_n.tolist() == [3, 0, 2, 1] and skipping.skipped == 1


def test_top_needs_a_score() -> None:
    with pytest.raises(InputError, match="prune score"):
        top_order(Candidates(np.arange(3)), TopParams(), seed=0)


def test_random_is_uniform_over_the_samples() -> None:
    first = [int(random_order(Candidates(np.arange(4)), RandomParams(), seed=s).order_n[0]) for s in range(2000)]
    counts = np.bincount(first, minlength=4)
    assert counts.sum() == 2000 and np.all(np.abs(counts - 500) < 100)  # five standard deviations


def test_random_goes_by_ids_and_not_by_rows() -> None:
    rows = np.array([3, 1, 0, 2])  # the sample at position p is the rows.index(p)-th by id
    plain = random_order(Candidates(np.arange(4)), RandomParams(), seed=5).order_n
    assert random_order(Candidates(rows), RandomParams(), seed=5).order_n.tolist() == rows[plain].tolist()


def slow_proportional(order: list[int], codes: list[int]) -> list[int]:
    """Sainte-Lague seat by seat: the next seat goes to the class with the largest size / (2 seats + 1)."""
    queues = {c: [p for p in order if codes[p] == c] for c in sorted(set(codes))}
    sizes, seats, result = {c: len(q) for c, q in queues.items()}, dict.fromkeys(queues, 0), []
    place = {p: i for i, p in enumerate(order)}
    while len(result) < len(order):
        open_classes = [c for c in queues if seats[c] < sizes[c]]
        best = max(open_classes, key=lambda c: (sizes[c] / (2 * seats[c] + 1), -place[queues[c][seats[c]]]))
        result.append(queues[best][seats[best]])
        seats[best] += 1
    return result


@pytest.mark.parametrize("seed", range(10))
def test_proportional_order_is_the_apportionment_seat_by_seat(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.choice(4, 50, p=[0.6, 0.25, 0.1, 0.05])
    order = rng.permutation(50)
    assert proportional_order(order, codes).tolist() == slow_proportional(order.tolist(), codes.tolist())


def test_every_prefix_is_within_one_of_its_share_for_two_classes() -> None:
    codes = np.array([0] * 70 + [1] * 30)
    counts = np.cumsum(codes[proportional_order(np.arange(100), codes)] == 1)
    assert np.all(np.abs(counts - 0.3 * np.arange(1, 101)) < 1)
