"""Tiles, stores and float32: what is solved column by column is what is solved at once, after a kill, too."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from kernel_problems import problem, solved_set

from prune_cli.methods.scores.kernel.solver import sets as solver


class Shelf:
    """A store in memory that may refuse after a number of writes, as a kill does."""

    def __init__(self, patience: int = 10**9) -> None:
        self.arrays: dict[str, object] = {}
        self.panels: dict[str, np.ndarray] = {}
        self.patience = patience
        self.written: list[str] = []

    def _write(self, name: str) -> None:
        if self.patience == 0:
            raise KeyboardInterrupt
        self.patience -= 1
        self.written.append(name)

    def get_panel(self, name: str) -> np.ndarray | None:
        return self.panels.get(name)

    def put_panel(self, name: str, panel: np.ndarray) -> None:
        self._write(f"panel {name}")
        self.panels[name] = panel.copy()

    def get(self, block: str) -> dict[str, np.ndarray] | None:
        return self.arrays.get(block)  # type: ignore[return-value]

    def put(self, block: str, arrays: Mapping[str, np.ndarray]) -> None:
        self._write(block)
        self.arrays[block] = dict(arrays)


@pytest.mark.parametrize("width", [7, 16, 64])
def test_tiles_change_nothing_but_rounding(width, monkeypatch):
    values, codes = problem(6, 61)
    whole = solved_set(values, codes)
    monkeypatch.setattr(solver, "WIDTH", width)
    tiled = solved_set(values, codes, Shelf())
    np.testing.assert_allclose(tiled.diagonal_b, whole.diagonal_b, rtol=1e-10)
    np.testing.assert_allclose(tiled.solution_bc, whole.solution_bc, rtol=1e-8, atol=1e-9)
    assert tiled.smallest_pivot == pytest.approx(whole.smallest_pivot)


@pytest.mark.parametrize("mode", ["exact", "nystrom"])
@pytest.mark.parametrize("duplicate", [False, True])
def test_killed_after_any_write_it_goes_on_to_the_same_bytes(mode, duplicate, monkeypatch):
    values, codes = problem(7, 50)
    if duplicate:
        values[9] = values[30]
    monkeypatch.setattr(solver, "WIDTH", 16)
    undisturbed = Shelf()
    expected = solved_set(values, codes, undisturbed, "float32", mode=mode)
    assert (expected.jitter > 0) == (duplicate and mode == "exact") or mode == "nystrom"
    for writes in range(len(undisturbed.written)):
        shelf = Shelf(writes)
        with pytest.raises(KeyboardInterrupt):
            solved_set(values, codes, shelf, "float32", mode=mode)
        shelf.patience, before = 10**9, list(shelf.written)
        found = solved_set(values, codes, shelf, "float32", mode=mode)
        again = set(before) & set(shelf.written[len(before) :])
        assert len(again) <= 1, "finished work was done again"
        for name in ("diagonal_b", "solution_bc"):
            assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()


def test_float32_is_refined_to_float64():
    values, codes = problem(8, 400, features=30)
    single, double = solved_set(values, codes, precision="float32"), solved_set(values, codes)
    scale = np.abs(double.solution_bc).max()
    assert np.abs(single.solution_bc - double.solution_bc).max() < 1e-8 * scale
    assert 0 < single.residual < 1e-9 and double.residual == 0
    assert 1e-9 < np.max(np.abs(single.diagonal_b / double.diagonal_b - 1)) < 1e-3
