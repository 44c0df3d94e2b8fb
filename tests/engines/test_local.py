"""Blocks on this machine: each on one thread, in this process or several, and after a process was killed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_blocks import DOUBLE, WORK, blocks_of

from prune_cli.core.errors import NumericalError, PruneError
from prune_cli.engines.engine import Arrays, Block, Engine
from prune_cli.engines.handout import MapBlocks
from prune_cli.engines.local import LocalEngine
from prune_cli.engines.processes import block_pool


def list_blocks(engine: Engine, blocks: list[Block], **more: Any) -> list[Arrays]:
    return [*MapBlocks(engine)("doubled", DOUBLE, blocks, **more)]


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_blocks_each_on_one_thread(workers: int) -> None:
    threads = torch.get_num_threads()
    found = list_blocks(LocalEngine(workers), blocks_of(5, WORK))
    assert [f["twice"].tolist() for f in found] == [[2.0 * n, 2.0 * n + 1] for n in range(5)]
    assert {int(f["threads"]) for f in found} == {1} and torch.get_num_threads() == threads
    pids = {int(f["pid"]) for f in found}
    assert pids == {os.getpid()} if workers == 1 else os.getpid() not in pids and len(pids) <= 2


def test_processes_that_are_there_are_taken_again_and_again() -> None:
    with block_pool(3) as started:
        processes = started.processes
        there = {p.pid for p in processes}
        engine = LocalEngine(2, started=started)
        pids = [{int(f["pid"]) for f in list_blocks(engine, blocks_of(5, WORK))} for _ in range(2)]
        assert all(found <= there and len(found) <= 2 for found in pids)
        assert {int(f["pid"]) for f in list_blocks(engine, blocks_of(5))} == {os.getpid()}
    assert all(p.returncode is not None for p in processes)


def test_processes_that_an_engine_starts_serve_all_that_runs_there() -> None:
    with LocalEngine(2) as engine:
        pids = [{int(f["pid"]) for f in list_blocks(engine, blocks_of(5, WORK))} for _ in range(2)]
        assert len(pids[0] | pids[1]) <= 2 and os.getpid() not in pids[0]
    assert engine._started is None


@pytest.mark.parametrize(("workers", "memory"), [(1, None), (3, None), (3, 0)])
def test_threads_serve_where_they_do_as_well(workers: int, memory: int | None) -> None:
    threads = torch.get_num_threads()
    blocks = [replace(block, nbytes=10) for block in blocks_of(6, WORK)]
    found = list_blocks(LocalEngine(workers, memory), blocks, shared={"y": np.ones(1)}, in_threads=True)
    assert [f["twice"].tolist() for f in found] == [[2.0 * n, 2.0 * n + 1] for n in range(6)]
    assert {int(f["pid"]) for f in found} == {os.getpid()}
    assert {int(f["threads"]) for f in found} == {1} and torch.get_num_threads() == threads


def test_processes_without_a_card_are_not_for_cards() -> None:
    with block_pool(2) as started:
        engine = LocalEngine(1, cards=("3", "5"), started=started)
        found = list_blocks(engine, blocks_of(4, WORK))
        assert not {int(f["pid"]) for f in found} & {p.pid for p in started.processes}


def test_little_work_starts_no_process_and_much_no_more_than_fit() -> None:
    engine = LocalEngine(4, memory=100)
    assert engine.processes(blocks_of(8, 1.0)) == 1
    assert engine.processes(blocks_of(8, WORK)) == 4
    large = [Block("one", {}, dict, nbytes=40, flops=WORK)] * 8
    assert engine.processes(large) == 2
    assert engine.processes(large[:1]) == 1
    assert LocalEngine(1, cards=("0", "3")).processes(blocks_of(8, WORK)) == 2


def test_each_process_sees_a_card_of_its_own() -> None:
    found = list_blocks(LocalEngine(cards=("3", "5")), blocks_of(6, WORK))
    assert {int(f["card"]) for f in found} <= {3, 5} and len(found) == 6


@pytest.mark.parametrize("workers", [1, 2])
def test_shared_arrays_come_with_every_block(workers: int) -> None:
    blocks = [Block(f"b{n}", {}, dict, flops=WORK) for n in range(3)]
    found = list_blocks(LocalEngine(workers), blocks, shared={"x": np.array(21.0)})
    assert [float(f["twice"]) for f in found] == [42.0] * 3


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_block_keeps_its_kind(workers: int) -> None:
    with pytest.raises(NumericalError, match="no number") as raised:
        list_blocks(LocalEngine(workers), blocks_of(3, WORK, raises=True))
    assert raised.value.cure == "take another"


def test_a_block_whose_process_is_killed_is_done_by_another(tmp_path: Path) -> None:
    (tmp_path / "once").touch()
    found = list_blocks(LocalEngine(2), blocks_of(4, WORK, kills=str(tmp_path / "once")))
    assert [f["twice"][0] for f in found] == [0.0, 2.0, 4.0, 6.0]
    assert not (tmp_path / "once").exists()


def test_a_block_that_kills_again_and_again_is_told() -> None:
    with pytest.raises(PruneError, match=r"killed by signal 9(?s:.*)--workers 1"):
        list_blocks(LocalEngine(2), blocks_of(2, WORK, always_kills=True))


def test_a_block_that_fills_the_memory_is_told() -> None:
    with pytest.raises(PruneError, match=r"out of memory: 8 EiB(?s:.)*run fewer at once"):
        list_blocks(LocalEngine(2), blocks_of(2, WORK, fills_memory=True))
