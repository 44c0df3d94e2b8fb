"""Sorting by one key after the other."""

from __future__ import annotations

import numpy as np
import pytest

from prune_cli.core import sorting
from prune_cli.core.sorting import position_type, sort_within_runs


def sorted_by(keys: list[np.ndarray], descending: bool) -> tuple[list[int], list[bool]]:
    order_n, first_n = np.arange(len(keys[0]), dtype=np.int32), np.zeros(len(keys[0]), bool)
    first_n[:1] = True
    for key_n in keys:
        sort_within_runs(order_n, first_n, key_n, descending=descending, kind="stable")
    return order_n.tolist(), first_n.tolist()


def test_the_second_key_orders_what_the_first_calls_equal() -> None:
    """By the first key: 2 | 0, 1, 3. By the second 1 | 0, 3: equal in both, and in the order they had."""
    keys = [np.array([5.0, 5.0, 1.0, 5.0]), np.array([8.0, 2.0, 9.0, 8.0])]
    assert sorted_by(keys, descending=False) == ([2, 1, 0, 3], [True, True, True, False])
    assert sorted_by(keys, descending=True) == ([0, 3, 1, 2], [True, False, True, True])


def test_nothing_to_sort() -> None:
    assert sorted_by([np.zeros(0)], descending=False) == ([], [])
    assert sorted_by([np.zeros(1)], descending=False) == ([0], [True])


@pytest.mark.parametrize("block", [1, 2, 5, 1 << 20])
@pytest.mark.parametrize("descending", [False, True])
def test_it_is_a_sort_by_all_keys(monkeypatch: pytest.MonkeyPatch, block: int, descending: bool) -> None:
    monkeypatch.setattr(sorting, "_BLOCK", block)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 30))
        keys = [rng.integers(0, 3, n).astype(float) for _ in range(3)]
        order, first = sorted_by(keys, descending)
        sign = -1 if descending else 1
        assert order == np.lexsort([sign * key for key in reversed(keys)]).tolist()
        in_order = np.stack(keys)[:, order]
        assert first == [True, *(in_order[:, 1:] != in_order[:, :-1]).any(axis=0).tolist()]


def test_positions_take_four_bytes_while_they_can() -> None:
    assert position_type(2**31 - 1) is np.int32
    assert position_type(2**31) is np.int64
