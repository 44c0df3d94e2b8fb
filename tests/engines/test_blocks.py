"""Blocks of work: in order, once, on one thread, in this process or several, and after a process was killed."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from prune_cli.core.errors import InputError, NumericalError, PruneError
from prune_cli.core.progress import Progress
from prune_cli.engines import processes
from prune_cli.engines.blocks import map_blocks, run_block
from prune_cli.engines.local import LocalEngine
from prune_cli.engines.wire import read_parcel, write_parcel
from prune_cli.engines.work import Arrays, Block, resolve
from prune_cli.io.runs.finished import BlockFolder

MADE = """
import os, signal
import numpy as np
import torch
from prune_cli.core.errors import NumericalError

def double(values, arrays, progress):
    if os.path.exists(values.get("kills", "")):
        os.remove(values["kills"])
        os.kill(os.getpid(), signal.SIGKILL)
    if values.get("always_kills"):
        os.kill(os.getpid(), signal.SIGKILL)
    if values.get("raises"):
        raise NumericalError("no number", "take another")
    print("libraries print what they like")
    pid = int(os.environ.get("WARM_PID", os.getpid()))  # of who was started, where a fork does the work
    return {"twice": 2 * arrays["x"], "threads": np.array(torch.get_num_threads()), "pid": np.array(pid)}
"""
DOUBLE = "prune_cli.made:double"
WORK = 1e12  # flops enough for processes


@pytest.fixture(autouse=True)
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_workers: None) -> None:
    """A module of blocks that looks like one of the package's, here and in the workers."""
    path = tmp_path / "made_blocks.py"
    path.write_text(MADE)
    module = ModuleType("prune_cli.made")
    exec(MADE, module.__dict__)
    monkeypatch.setitem(sys.modules, "prune_cli.made", module)
    start = (
        "import sys, json, types; sys.path[:] = json.loads(sys.argv[1]); import prune_cli; "
        f"made = types.ModuleType('prune_cli.made'); exec(open({str(path)!r}).read(), made.__dict__); "
        "sys.modules['prune_cli.made'] = made; "
        "from prune_cli.engines.processes import serve; serve(sys.argv[2:])"
    )
    monkeypatch.setattr(processes, "_START", start)


def blocks_of(count: int, flops: float = 0.0, **values: Any) -> list[Block]:
    return [Block(f"block {n}", values, lambda n=n: {"x": np.array([n, n + 0.5])}, flops=flops) for n in range(count)]  # type: ignore[misc]


def list_blocks(*args: Any, **more: Any) -> list[Arrays]:
    return [*map_blocks(*args, **more)]


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_blocks_each_on_one_thread(workers: int) -> None:
    threads = torch.get_num_threads()
    found = list_blocks(LocalEngine(workers), DOUBLE, blocks_of(5, WORK))
    assert [f["twice"].tolist() for f in found] == [[2.0 * n, 2.0 * n + 1] for n in range(5)]
    assert {int(f["threads"]) for f in found} == {1} and torch.get_num_threads() == threads
    pids = {int(f["pid"]) for f in found}
    assert pids == {os.getpid()} if workers == 1 else os.getpid() not in pids and len(pids) <= 2


def test_processes_that_are_there_are_taken_again_and_again() -> None:
    with processes.block_workers(3) as started:
        there = {p.pid for p in started._processes}
        engine = LocalEngine(2, started=started)
        pids = [{int(f["pid"]) for f in list_blocks(engine, DOUBLE, blocks_of(5, WORK))} for _ in range(2)]
        assert all(found <= there and len(found) <= 2 for found in pids)
        assert {int(f["pid"]) for f in list_blocks(engine, DOUBLE, blocks_of(5))} == {os.getpid()}
    assert all(p.returncode is not None for p in started._processes)


def test_processes_that_an_engine_starts_serve_all_that_runs_there() -> None:
    with LocalEngine(2) as engine:
        pids = [{int(f["pid"]) for f in list_blocks(engine, DOUBLE, blocks_of(5, WORK))} for _ in range(2)]
        assert len(pids[0] | pids[1]) <= 2 and os.getpid() not in pids[0]
    assert engine._started is None


@pytest.mark.parametrize(("workers", "memory"), [(1, None), (3, None), (3, 0)])
def test_threads_serve_where_they_do_as_well(workers: int, memory: int | None) -> None:
    threads = torch.get_num_threads()
    blocks = [replace(block, nbytes=10) for block in blocks_of(6, WORK)]
    found = list_blocks(LocalEngine(workers, memory), DOUBLE, blocks, shared={"y": np.ones(1)}, in_threads=True)
    assert [f["twice"].tolist() for f in found] == [[2.0 * n, 2.0 * n + 1] for n in range(6)]
    assert {int(f["pid"]) for f in found} == {os.getpid()}
    assert {int(f["threads"]) for f in found} == {1} and torch.get_num_threads() == threads


def test_answers_come_while_later_blocks_are_to_be_done(tmp_path: Path) -> None:
    store, told = BlockFolder(tmp_path, {}), list[tuple[int, int]]()
    list_blocks(LocalEngine(), DOUBLE, [replace(b, kept=b.name != "block 1") for b in blocks_of(3)], store)
    assert [store.has(f"block {n}") for n in range(4)] == [True, False, True, False]
    found = map_blocks(LocalEngine(), DOUBLE, blocks_of(6), store, done=lambda *numbers: told.append(numbers))
    assert next(found)["twice"].tolist() == [0.0, 1.0] and told == [(2, 6)]
    assert next(found)["twice"].tolist() == [2.0, 3.0] and told == [(2, 6), (3, 6)]
    found.close()
    assert store.has("block 1") and not store.has("block 3")


def test_a_kept_block_that_is_damaged_is_done_again(tmp_path: Path) -> None:
    store = BlockFolder(tmp_path, {})
    first = list_blocks(LocalEngine(), DOUBLE, blocks_of(2), store)
    path = store._path("block 1")
    path.write_bytes(path.read_bytes()[:-3])
    assert not store.has("block 1") and store.get("block 1") is None
    again = list_blocks(LocalEngine(), DOUBLE, blocks_of(2), store)
    assert [a["twice"].tolist() for a in again] == [f["twice"].tolist() for f in first]
    assert store.has("block 1")


def test_processes_without_a_card_are_not_for_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    with processes.block_workers(2) as started:
        engine = LocalEngine(1, cards=("3", "5"), started=started)
        found = list_blocks(engine, DOUBLE, blocks_of(4, WORK))
        assert not {int(f["pid"]) for f in found} & {p.pid for p in started._processes}


def test_little_work_starts_no_process_and_much_no_more_than_fit() -> None:
    engine = LocalEngine(4, memory=100)
    assert engine.processes(blocks_of(8, 1.0)) == 1
    assert engine.processes(blocks_of(8, WORK)) == 4
    large = [Block("one", {}, dict, nbytes=40, flops=WORK)] * 8
    assert engine.processes(large) == 2
    assert engine.processes(large[:1]) == 1
    assert LocalEngine(1, cards=("0", "3")).processes(blocks_of(8, WORK)) == 2


def test_each_process_sees_a_card_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import os, sys; from prune_cli.engines.wire import read_parcel, write_parcel; import numpy as np\n"
        "while read_parcel(sys.stdin.buffer):\n"
        "    write_parcel(sys.stdout.buffer, {'result': None}, {'card': np.array(int(os.environ['CUDA_VISIBLE_DEVICES']))})"
    )
    monkeypatch.setattr(processes, "_START", script)
    found = list_blocks(LocalEngine(cards=("3", "5")), DOUBLE, blocks_of(6, WORK))
    assert {int(f["card"]) for f in found} <= {3, 5} and len(found) == 6


def test_what_is_finished_is_taken_and_what_is_gathered_is_what_is_missing(tmp_path: Path) -> None:
    gathered: list[int] = []

    def block(n: int) -> Block:
        def gather() -> Arrays:
            gathered.append(n)
            return {"x": np.array([float(n)])}

        return Block(f"block {n}", {}, gather)

    store, told = BlockFolder(tmp_path / "w", {"seed": 0}), list[tuple[int, int]]()
    first = list_blocks(LocalEngine(), DOUBLE, [block(n) for n in (0, 2)], store)
    again = list_blocks(
        LocalEngine(), DOUBLE, [block(n) for n in range(4)], store, done=lambda *numbers: told.append(numbers)
    )
    assert gathered == [0, 2, 1, 3]
    assert told == [(2, 4), (3, 4), (4, 4)]
    assert [a["twice"].tolist() for a in again] == [[0.0], [2.0], [4.0], [6.0]]
    assert first[1]["twice"].tolist() == [4.0]
    other = BlockFolder(tmp_path / "w", {"seed": 1})
    list_blocks(LocalEngine(), DOUBLE, [block(0)], other)
    assert gathered[-1] == 0 and len(gathered) == 5


def test_results_are_kept_as_they_come(tmp_path: Path) -> None:
    class Broken:
        elsewhere = False

        def run(
            self,
            function: str,
            blocks: Sequence[Block],
            shared: Arrays,
            progress: Progress,
            *,
            in_threads: bool = False,
        ) -> Iterator[tuple[int, Arrays]]:
            yield 1, {"a": np.ones(1)}
            raise InputError("the rest is lost")

    store = BlockFolder(tmp_path, {})
    with pytest.raises(InputError, match="the rest is lost"):
        list_blocks(Broken(), DOUBLE, blocks_of(3), store)
    assert store.get("block 1") is not None and store.get("block 0") is None


@pytest.mark.parametrize("workers", [1, 2])
def test_shared_arrays_come_with_every_block(workers: int) -> None:
    blocks = [Block(f"b{n}", {}, dict, flops=WORK) for n in range(3)]
    found = list_blocks(LocalEngine(workers), DOUBLE, blocks, shared={"x": np.array(21.0)})
    assert [float(f["twice"]) for f in found] == [42.0] * 3


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_block_keeps_its_kind(workers: int) -> None:
    with pytest.raises(NumericalError, match="no number") as raised:
        list_blocks(LocalEngine(workers), DOUBLE, blocks_of(3, WORK, raises=True))
    assert raised.value.cure == "take another"


def test_a_block_whose_process_is_killed_is_done_by_another(tmp_path: Path) -> None:
    (tmp_path / "once").touch()
    found = list_blocks(LocalEngine(2), DOUBLE, blocks_of(4, WORK, kills=str(tmp_path / "once")))
    assert [f["twice"][0] for f in found] == [0.0, 2.0, 4.0, 6.0]
    assert not (tmp_path / "once").exists()


def test_a_block_that_kills_again_and_again_is_told() -> None:
    with pytest.raises(PruneError, match=r"killed by signal 9(?s:.*)--workers 1"):
        list_blocks(LocalEngine(2), DOUBLE, blocks_of(2, WORK, always_kills=True))


def test_arrays_go_over_a_pipe_as_they_are() -> None:
    arrays = {
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(1.5),
        "turned": np.arange(6, dtype=">i4").reshape(2, 3).T,
        "flags": np.array([True, False]),
    }
    file = io.BytesIO()
    write_parcel(file, {"n": 1}, arrays)
    write_parcel(file, "alone")
    file.write(b'[null, [["cut", "<f8", [4]]]]\n12345')
    file.seek(0)
    parcel = read_parcel(file)
    assert parcel is not None and parcel[0] == {"n": 1} and parcel[1] is not None
    for name, array in arrays.items():
        assert parcel[1][name].dtype == array.dtype and np.array_equal(parcel[1][name], array)
    assert read_parcel(file) == ("alone", None)
    assert read_parcel(file) is None and read_parcel(file) is None


def test_functions_of_others_are_not_run() -> None:
    with pytest.raises(ValueError, match="not ours"):
        resolve("os:getpid")


def test_a_block_runs_by_its_name() -> None:
    values: Mapping[str, Any] = {}
    assert run_block(DOUBLE, values, {"x": np.array(4.0)})["twice"] == 8.0
