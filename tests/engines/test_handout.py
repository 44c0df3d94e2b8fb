"""Blocks handed out: in order, those of a store once, and kept as they come."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_blocks import DOUBLE, WORK, blocks_of

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress
from prune_cli.engines.engine import Arrays, Block, Engine
from prune_cli.engines.handout import MapBlocks
from prune_cli.engines.threads import ThreadEngine
from prune_cli.io.runs.finished import BlockFolder


def list_blocks(blocks: list[Block], store: BlockFolder, engine: Engine | None = None, **more: Any) -> list[Arrays]:
    return [*MapBlocks(engine or ThreadEngine(), store, **more)("doubled", DOUBLE, blocks)]


def test_answers_come_while_later_blocks_are_to_be_done(tmp_path: Path) -> None:
    store, told = BlockFolder(tmp_path, {}), list[tuple[int, int]]()
    list_blocks([replace(b, kept=b.name != "block 1") for b in blocks_of(3)], store)
    assert [store.has(f"block {n}") for n in range(4)] == [True, False, True, False]
    map_blocks = MapBlocks(store=store, progress=lambda task, *numbers: told.append(numbers))
    found = map_blocks("doubled", DOUBLE, blocks_of(6))
    assert next(found)["twice"].tolist() == [0.0, 1.0] and told == [(2, 6)]
    assert next(found)["twice"].tolist() == [2.0, 3.0] and told == [(2, 6), (3, 6)]
    found.close()
    assert store.has("block 1") and not store.has("block 3")


def test_a_kept_block_that_is_damaged_is_done_again(tmp_path: Path) -> None:
    store = BlockFolder(tmp_path, {})
    first = list_blocks(blocks_of(2), store)
    path = store._path("block 1")
    path.write_bytes(path.read_bytes()[:-3])
    assert not store.has("block 1") and store.get("block 1") is None
    again = list_blocks(blocks_of(2), store)
    assert [a["twice"].tolist() for a in again] == [f["twice"].tolist() for f in first]
    assert store.has("block 1")


def test_what_is_finished_is_taken_and_what_is_gathered_is_what_is_missing(tmp_path: Path) -> None:
    gathered: list[int] = []

    def block(n: int) -> Block:
        def gather() -> Arrays:
            gathered.append(n)
            return {"x": np.array([float(n)])}

        return Block(f"block {n}", {}, gather)

    store, told = BlockFolder(tmp_path / "w", {"seed": 0}), list[tuple[int, int]]()
    first = list_blocks([block(n) for n in (0, 2)], store)
    again = list_blocks([block(n) for n in range(4)], store, progress=lambda task, *numbers: told.append(numbers))
    assert gathered == [0, 2, 1, 3]
    assert told == [(2, 4), (3, 4), (4, 4)]
    assert [a["twice"].tolist() for a in again] == [[0.0], [2.0], [4.0], [6.0]]
    assert first[1]["twice"].tolist() == [4.0]
    other = BlockFolder(tmp_path / "w", {"seed": 1})
    list_blocks([block(0)], other)
    assert gathered[-1] == 0 and len(gathered) == 5


def test_results_are_kept_as_they_come(tmp_path: Path) -> None:
    class Broken:
        elsewhere = False

        def run(
            self, function: str, blocks: Sequence[Block], shared: Arrays, progress: Progress, *, in_threads: bool = False
        ) -> Generator[tuple[int, Arrays], None, None]:
            yield 1, {"a": np.ones(1)}
            raise InputError("the rest is lost")

    store = BlockFolder(tmp_path, {})
    with pytest.raises(InputError, match="the rest is lost"):
        list_blocks(blocks_of(3), store, Broken())
    assert store.get("block 1") is not None and store.get("block 0") is None


def test_names_are_longer_for_work_that_is_done_several_times(tmp_path: Path) -> None:
    store = BlockFolder(tmp_path, {})
    once = MapBlocks(store=store).named("class 1: ")
    assert not once.elsewhere
    list(once.named("top: ")("doubled", DOUBLE, blocks_of(2)))
    assert store.has("class 1: top: block 1") and not store.has("block 1")


def test_little_work_is_kept_where_all_is(tmp_path: Path) -> None:
    store = BlockFolder(tmp_path, {})
    list_blocks(blocks_of(2), store, keep_all=False)
    assert not store.has("block 0")
    list_blocks(blocks_of(2, WORK), store, keep_all=False)
    assert store.has("block 0")
