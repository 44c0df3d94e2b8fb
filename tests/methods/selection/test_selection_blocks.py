"""Blocks of the methods that choose by features: handed out, each gives the same bits as here, and their names tell them apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from handing import Elsewhere

from prune_cli.engines.engine import Block
from prune_cli.engines.handout import MapBlocks
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.selection.capabilities import ProblemSize
from prune_cli.methods.selection.choosing import block_work, choose
from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Choice, Run
from prune_cli.methods.selection.neighbors import graph as similarity_graph
from prune_cli.methods.selection.neighbors import nearest as neighbors
from prune_cli.methods.selection.neighbors.nearest import nearest_neighbors
from prune_cli.methods.selection.proxy import accuracy, grams

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
    for module in (accuracy, grams):
        monkeypatch.setattr(module, "block_rows", lambda width: 64)
    monkeypatch.setattr(accuracy, "_OUTPUT_NUMBERS", 1)
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
    return choose(name, candidates, params, Run([40, 130], device="cpu", memory=10**9, **more))


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
    ahead = block_work(params, ProblemSize(400, 8, 3, [40, 130]))
    assert ahead is not None
    flops = sum(block.flops for block in elsewhere.handed)
    assert (
        0.5 < flops / ahead.flops < (2.0 if "cells" in case else 1.3)
    )  # a bias is a feature more, small cells have no sums
    assert max(block.nbytes for block in elsewhere.handed) <= 3 * ahead.nbytes


def test_what_has_no_blocks_says_so() -> None:
    params = find_method("selection", "herding").params_class()()
    assert block_work(params, ProblemSize(400, 8, 3, [40])) is None


@pytest.mark.parametrize("parts", [None, 3])
def test_each_class_has_blocks_of_its_own(parts: int | None) -> None:
    """Partitions of one class must not be taken for those of another."""
    candidates, elsewhere = samples(), Elsewhere()
    params = find_method("selection", "facility_location").params_class()(neighbors=8, parts=parts)

    def run(**more: Any) -> Choice:
        return choose("facility_location", candidates, params, Run([40], per_class=True, device="cpu", **more))

    assert told(run(map_blocks=MapBlocks(elsewhere))) == told(run())
    assert {block.name.split(":")[0] for block in elsewhere.handed} == {"class 0", "class 1", "class 2"}


def test_neighbors_of_equal_samples_do_not_depend_on_threads() -> None:
    import torch

    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(40, 33)).astype(np.float32), 12, axis=0)
    threads, found = torch.get_num_threads(), list[tuple[bytes, bytes]]()
    for n in (1, 2):
        torch.set_num_threads(n)
        near, far = nearest_neighbors(rows, 5, Run(device="cpu"))
        found.append((near.tobytes(), far.tobytes()))
    torch.set_num_threads(threads)
    assert found[0] == found[1]


def test_edges_that_do_not_fit_stop_the_blocks() -> None:
    from prune_cli.methods.selection.neighbors.tiles import prepare_similarity

    similarity = prepare_similarity(samples().vectors("test").array(), device="cpu")
    closed: list[Block] = []

    class Closed(Elsewhere):
        def run(self, function: str, blocks: Any, *others: Any, **more: Any) -> Any:
            try:
                yield from super().run(function, blocks, *others, **more)
            finally:
                closed.extend(blocks)

    assert similarity_graph.build_graph(similarity, 0.5, Run(map_blocks=MapBlocks(Closed())), max_bytes=1000) is None
    assert closed
