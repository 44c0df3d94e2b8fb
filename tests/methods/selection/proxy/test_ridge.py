"""The proxy: sums over cells and outputs, block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handing import Elsewhere

from prune_cli.core.arrays import VectorBatch
from prune_cli.core.errors import NumericalError
from prune_cli.engines.handout import MapBlocks
from prune_cli.io.runs.finished import BlockFolder
from prune_cli.methods.selection.contract import ArrayFeatures, Features, Run
from prune_cli.methods.selection.proxy import accuracy
from prune_cli.methods.selection.proxy import grams as sums
from prune_cli.methods.selection.proxy.accuracy import Proxy, count_right, proxy_accuracies
from prune_cli.methods.selection.proxy.grams import accumulate, sum_cells
from prune_cli.methods.selection.proxy.samples import LabelledVectors, Subsets


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of few samples."""
    for module in (sums, accuracy):
        monkeypatch.setattr(module, "block_rows", lambda width: 64)
    monkeypatch.setattr(accuracy, "_OUTPUT_NUMBERS", 1)


def right_counts(features: Features | np.ndarray, codes: np.ndarray, subsets: Subsets, ridge: float = 1.0, **more: Any) -> np.ndarray:
    vectors = ArrayFeatures(features) if isinstance(features, np.ndarray) else features
    (found,) = proxy_accuracies(LabelledVectors(vectors, codes, subsets.by_cell()), [subsets], Proxy(ridge), Run(**more))
    return np.round(found * len(codes)).astype(np.int64)


class Stored:
    """Features in the order of a file; ``read`` has the numbers of the parts that were."""

    ordered = False

    def __init__(self, values: np.ndarray, step: int) -> None:
        self.values, self.shape, self.step = values, (values.shape[0], values.shape[1]), step
        self.read: list[int] = []

    def batches(self, rows: int, order_n: np.ndarray) -> list[VectorBatch]:
        return [
            VectorBatch(np.arange(start, min(start + self.step, len(self.values))), self._reader(start))
            for start in range(0, len(self.values), self.step)
        ]

    def _reader(self, start: int) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            self.read.append(start)
            return self.values[start : start + self.step]

        return read

    def array(self) -> np.ndarray:
        raise AssertionError("these stay where they are")

    def take(self, positions: np.ndarray) -> Features:
        raise AssertionError("these stay where they are")


def cells(n: int, width: int) -> tuple[np.ndarray, np.ndarray, Subsets]:
    """Two large cells, one of three samples and some samples in none; three subsets."""
    rng = np.random.default_rng(2)
    features = rng.normal(size=(n, width)).astype(np.float32)
    cell_n = rng.choice([-1, 0, 2], n)
    cell_n[[7, 100, 150]] = 1
    member_wk = np.array([[True, True, False], [True, True, True], [False, True, False]])
    return features, rng.integers(0, 3, n), Subsets(cell_n, member_wk)


@pytest.mark.parametrize("stored", [False, True])
def test_sums_are_those_of_each_cell(stored: bool) -> None:
    features, codes, subsets = cells(300, 5)
    vectors: Features = Stored(features, 90) if stored else ArrayFeatures(features)
    grams = accumulate(LabelledVectors(vectors, codes, subsets.by_cell()), subsets, True, Run(device="cpu"))
    wide, one_hot = np.c_[features, np.ones(300)], np.eye(3)[codes]
    assert grams.large.tolist() == [0, 2]
    for slot, cell in enumerate([0, 2]):
        mine = subsets.cell_n == cell
        assert np.allclose(grams.ff[slot].numpy(), wide[mine].T @ wide[mine], rtol=1e-12)
        assert np.allclose(grams.fy[slot].numpy(), wide[mine].T @ one_hot[mine], rtol=1e-12)
    assert np.array_equal(grams.rows.numpy(), wide[[7, 100, 150]].astype(np.float32))
    assert grams.row_codes.tolist() == codes[[7, 100, 150]].tolist()


def test_rows_of_small_cells_are_read_where_the_blocks_around_them_are_finished(tmp_path: Path) -> None:
    features, codes, subsets = cells(300, 5)
    stored = Stored(features, 90)

    class Kept(MapBlocks):
        def __call__(self, task: str, function: str, blocks: Any, **more: Any) -> Any:
            return super().__call__(task, function, [replace(block, kept=True) for block in blocks], **more)

    kept = Kept(store=BlockFolder(tmp_path, {}))
    first = right_counts(stored, codes, subsets, map_blocks=kept)
    assert stored.read == [0, 90, 180, 270] * 2, "for the sums, and for the outputs"
    stored.read.clear()
    again = right_counts(stored, codes, subsets, map_blocks=kept)
    assert again.tolist() == first.tolist() == right_counts(features, codes, subsets).tolist()
    assert stored.read == [0, 90], "the two parts that samples of the small cell are in, each once"


def test_what_is_larger_than_what_it_is_made_of_is_not_kept() -> None:
    features, codes, subsets = cells(300, 5)
    elsewhere = Elsewhere()
    right_counts(features, codes, subsets, map_blocks=MapBlocks(elsewhere))
    wide = Elsewhere()
    features, codes, subsets = cells(300, 60)
    right_counts(features, codes, subsets, map_blocks=MapBlocks(wide))
    sums = [[block.kept for block in found.handed if "sums" in block.name] for found in (elsewhere, wide)]
    assert all(sums[0]) and sums[0] and not any(sums[1]) and sums[1]
    assert all(block.kept for block in wide.handed if "outputs" in block.name)


def test_a_block_of_sums_by_hand() -> None:
    """(1, 2) of class 1 in cell 3, then (0, 1) and (1, 1) of classes 0 and 1 in cell 5."""
    arrays = {"rows": np.array([[1, 2], [0, 1], [1, 1]], np.float32), "codes": np.array([1, 0, 1]), "cells": np.array([3, 5, 5])}
    found = sum_cells({"n_classes": 2, "bias": False, "device": "cpu"}, arrays)
    assert found["cells"].tolist() == [3, 5]
    assert found["ff"].tolist() == [[[1, 2], [2, 4]], [[1, 1], [1, 2]]]
    assert found["fy"].tolist() == [[[0, 1], [0, 2]], [[0, 1], [1, 1]]]


def test_a_block_of_outputs_by_hand() -> None:
    """One feature; the first classifier says class 1 of what is positive, the second says class 0 of it, the third is silent."""
    weights = np.array([[[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 0.0]]])
    arrays = {
        "rows": np.array([[2.0], [1.0], [-1.0]], np.float32),
        "codes": np.array([1, 1, 1]),
        "weights": weights,
        "weights32": weights.transpose(2, 0, 1).reshape(6, 1).astype(np.float32),
        "lengths": np.array([1.0, 1.0, 0.0]),
    }
    assert count_right({"bias": False, "device": "cpu"}, arrays)["right"].tolist() == [2, 1, 0]


def test_a_tie_is_not_right() -> None:
    found = right_counts(np.ones((2, 1), np.float32), np.array([0, 1]), Subsets(np.zeros(2, np.int64), np.ones((1, 1), bool)))
    assert found.tolist() == [0]


def test_a_singular_problem_names_the_ridge() -> None:
    features = np.ones((30, 2), np.float32)
    with pytest.raises(NumericalError, match="ridge=1"):
        right_counts(features, np.arange(30) % 2, Subsets(np.zeros(30, np.int64), np.ones((1, 1), bool)), ridge=0.0)
