"""Blocks of the methods that choose by features: handed out, each gives the same bits as here, and their names tell them apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handing import Elsewhere

from prune_cli.core.parts import Part
from prune_cli.engines.block import Block
from prune_cli.engines.handout import MapBlocks
from prune_cli.io.runs.finished import BlockFolder
from prune_cli.methods.registry.lookup import find_method, methods_of
from prune_cli.methods.selection.choosing import choose
from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Choice, Features
from prune_cli.methods.selection.neighbors import graph as similarity_graph
from prune_cli.methods.selection.neighbors import nearest as neighbors
from prune_cli.methods.selection.neighbors.nearest import nearest_neighbors
from prune_cli.methods.selection.window import ridge
from prune_cli.methods.selection.window.ridge import Subsets, accumulate, count_right, ridge_right_counts, sum_cells

METHODS: dict[str, dict[str, Any]] = {
    "window": {},
    "window, the classes as one": {"scope": "global", "bias": True},
    "best": {},
    "best, of two that search for neighbors": {"methods": "d2+facility_location"},
    "neighbor_confidence": {"tau": 0.8},
    "neighbor_confidence, cells": {"tau": 0.8, "neighbors": "ivf", "probes": 3},
    "neighbor_confidence, bfloat16": {"tau": 0.8, "precision": "bfloat16"},
    "facility_location": {"neighbors": 8},
    "d2": {"neighbors": 8},
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of few samples."""
    monkeypatch.setattr(ridge, "_block_rows", lambda width: 64)
    monkeypatch.setattr(ridge, "_OUTPUT_NUMBERS", 1)
    monkeypatch.setattr(neighbors, "_BLOCK_NUMBERS", 30_000)
    monkeypatch.setattr(neighbors, "_DEVICE_NUMBERS", 50_000)
    monkeypatch.setattr(similarity_graph, "_TILE_ROWS", 32)
    monkeypatch.setattr(similarity_graph, "_PAIRS_HERE", 1000)
    monkeypatch.setattr(similarity_graph, "_PAIRS_THERE", 1300)


def samples(n: int = 400, width: int = 8) -> Candidates:
    rng = np.random.default_rng(5)
    groups = rng.integers(0, 9, n)
    features = (rng.normal(size=(9, width))[groups] + 0.3 * rng.normal(size=(n, width))).astype(np.float32)
    probs = rng.dirichlet(np.ones(3), n).astype(np.float32)
    return Candidates(
        rng.permutation(n), rng.normal(size=n), codes_n=groups % 3, features=ArrayFeatures(features), probabilities=ArrayFeatures(probs)
    )  # fmt: skip


def chosen(case: str, candidates: Candidates, **more: Any) -> Choice:
    name = case.split(",")[0]
    params = find_method("selection", name).params_class()(**METHODS[case])
    return choose(name, candidates, params, counts=[40, 130], device="cpu", memory=10**9, **more)


def told(choice: Choice) -> list[bytes]:
    found = [ranking.order_n.tobytes() for ranking in choice.rankings]
    if choice.curve is not None:
        found.append(choice.curve.proxy_accuracy.tobytes())
    return found + [extra.columns["neighbor_confidence"].tobytes() for extra in choice.extras]


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("case", METHODS)
def test_blocks_handed_out_give_the_same_bits(case: str, per_class: bool) -> None:
    candidates, elsewhere = samples(), Elsewhere()
    there = chosen(case, candidates, per_class=per_class, map_blocks=MapBlocks(elsewhere))
    assert told(there) == told(chosen(case, candidates, per_class=per_class))
    assert len(elsewhere.handed) >= 3 and len({block.name for block in elsewhere.handed}) == len(elsewhere.handed)
    assert all(block.flops > 0 and block.nbytes > 0 for block in elsewhere.handed)


@pytest.mark.parametrize("case", METHODS)
def test_what_blocks_will_come_to_is_known_ahead(case: str) -> None:
    candidates, elsewhere = samples(), Elsewhere()
    chosen(case, candidates, map_blocks=MapBlocks(elsewhere))
    params = find_method("selection", case.split(",")[0]).params_class()(**METHODS[case])
    ahead = params.block_work(400, 8, 3, [40, 130])
    flops = sum(block.flops for block in elsewhere.handed)
    assert (
        0.5 < flops / ahead.flops < (2.0 if "cells" in case else 1.3)
    )  # a bias is a feature more, small cells have no sums
    assert max(block.nbytes for block in elsewhere.handed) <= 3 * ahead.nbytes


def test_methods_with_blocks_say_what_they_come_to() -> None:
    for method in methods_of("selection").values():
        assert method.in_blocks == hasattr(method.params_class(), "block_work"), method.name


@pytest.mark.parametrize("parts", [None, 3])
def test_each_class_has_blocks_of_its_own(parts: int | None) -> None:
    """Partitions of one class must not be taken for those of another."""
    candidates, elsewhere = samples(), Elsewhere()
    params = find_method("selection", "facility_location").params_class()(neighbors=8, parts=parts)

    def run(**more: Any) -> Choice:
        return choose("facility_location", candidates, params, counts=[40], per_class=True, device="cpu", **more)

    assert told(run(map_blocks=MapBlocks(elsewhere))) == told(run())
    assert {block.name.split(":")[0] for block in elsewhere.handed} == {"class 0", "class 1", "class 2"}


class Stored:
    """Features in the order of a file; ``read`` has the numbers of the parts that were."""

    ordered = False

    def __init__(self, values: np.ndarray, step: int) -> None:
        self.values, self.shape, self.step = values, (values.shape[0], values.shape[1]), step
        self.read: list[int] = []

    def parts(self, rows: int, order_n: np.ndarray) -> list[Part]:
        return [
            Part(np.arange(start, min(start + self.step, len(self.values))), self._reader(start))
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
    order_n = np.argsort(subsets.cell_n, kind="stable")
    vectors: Features = Stored(features, 90) if stored else ArrayFeatures(features)
    grams = accumulate(vectors, codes, subsets, order_n, 3, True, "cpu", MapBlocks())
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
    order_n, stored = np.argsort(subsets.cell_n, kind="stable"), Stored(features, 90)

    class Kept(MapBlocks):
        def __call__(self, task: str, function: str, blocks: Any, **more: Any) -> Any:
            return super().__call__(task, function, [replace(block, kept=True) for block in blocks], **more)

    kept = Kept(store=BlockFolder(tmp_path, {}))
    first = ridge_right_counts(stored, codes, subsets, order_n=order_n, map_blocks=kept)
    assert stored.read == [0, 90, 180, 270] * 2, "for the sums, and for the outputs"
    stored.read.clear()
    again = ridge_right_counts(stored, codes, subsets, order_n=order_n, map_blocks=kept)
    assert again.tolist() == first.tolist() == ridge_right_counts(ArrayFeatures(features), codes, subsets).tolist()
    assert stored.read == [0, 90], "the two parts that samples of the small cell are in, each once"


def test_what_is_larger_than_what_it_is_made_of_is_not_kept() -> None:
    features, codes, subsets = cells(300, 5)
    elsewhere = Elsewhere()
    order_n = np.argsort(subsets.cell_n, kind="stable")
    ridge_right_counts(ArrayFeatures(features), codes, subsets, order_n=order_n, map_blocks=MapBlocks(elsewhere))
    wide = Elsewhere()
    features, codes, subsets = cells(300, 60)
    ridge_right_counts(ArrayFeatures(features), codes, subsets, order_n=order_n, map_blocks=MapBlocks(wide))
    sums = [[block.kept for block in found.handed if "sums" in block.name] for found in (elsewhere, wide)]
    assert all(sums[0]) and sums[0] and not any(sums[1]) and sums[1]
    assert all(block.kept for block in wide.handed if "outputs" in block.name)


def test_a_block_of_sums_by_hand() -> None:
    """(1, 2) of class 1 in cell 3, then (0, 1) and (1, 1) of classes 0 and 1 in cell 5."""
    arrays = {
        "rows": np.array([[1, 2], [0, 1], [1, 1]], np.float32),
        "codes": np.array([1, 0, 1]),
        "cells": np.array([3, 5, 5]),
    }
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


def test_neighbors_of_equal_samples_do_not_depend_on_threads() -> None:
    import torch

    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(40, 33)).astype(np.float32), 12, axis=0)
    threads, found = torch.get_num_threads(), list[tuple[bytes, bytes]]()
    for n in (1, 2):
        torch.set_num_threads(n)
        near, far = nearest_neighbors(rows, 5, device="cpu")
        found.append((near.tobytes(), far.tobytes()))
    torch.set_num_threads(threads)
    assert found[0] == found[1]


def test_edges_that_do_not_fit_stop_the_blocks() -> None:
    from prune_cli.methods.selection.neighbors.similarity import prepare_similarity

    similarity = prepare_similarity(samples().vectors("test").array(), device="cpu")
    closed: list[Block] = []

    class Closed(Elsewhere):
        def run(self, function: str, blocks: Any, *others: Any, **more: Any) -> Any:
            try:
                yield from super().run(function, blocks, *others, **more)
            finally:
                closed.extend(blocks)

    assert similarity_graph.build_graph(similarity, 0.5, max_bytes=1000, map_blocks=MapBlocks(Closed())) is None
    assert closed
