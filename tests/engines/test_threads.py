"""Blocks in this process: each on one thread of torch, several at a time where that is meant."""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from waiting import HANGS

from prune_cli.engines.engine import Block
from prune_cli.engines.handout import blocks_here
from prune_cli.engines.threads import in_order


@pytest.mark.parametrize(("in_threads", "on_threads"), [(False, True), (True, True), (True, False)])
def test_every_block_computes_on_one_thread(in_threads: bool, on_threads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2, timeout=HANGS)

    def look(values: Any, arrays: Any, progress: Any) -> dict[str, np.ndarray]:
        if in_threads and on_threads:
            together.wait()  # only ends where two are under way
        return {"threads": np.array(torch.get_num_threads()), "who": np.array(threading.get_ident()), **arrays}

    module = ModuleType("prune_cli.made")
    module.look = look  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "prune_cli.made", module)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    told: list[tuple[Any, ...]] = []
    try:
        here = blocks_here(lambda *words: told.append(words), on_threads)
        blocks = [Block(f"{n}", {}, lambda n=n: {"n": np.array(n)}) for n in range(4)]  # type: ignore[misc]
        found = [*here("looks", "prune_cli.made:look", blocks, shared={"all": np.ones(1)}, in_threads=in_threads)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert {int(f["threads"]) for f in found} == {1}
    assert [int(f["n"]) for f in found] == [0, 1, 2, 3] and all("all" in f for f in found)
    here_alone = {int(f["who"]) for f in found} == {threading.get_ident()}
    assert here_alone == (not (in_threads and on_threads))
    assert told == [("looks", n, 4) for n in range(5)]


def test_few_tasks_are_taken_ahead() -> None:
    taken: list[int] = []

    def tasks() -> Any:
        for n in range(20):
            taken.append(n)
            yield n

    answers = in_order(lambda n: n * n, tasks(), 3)
    assert next(answers) == (0, 0) and len(taken) == 4
    assert [answer for _, answer in answers] == [n * n for n in range(1, 20)]


def test_what_a_task_raises_ends_it() -> None:
    def compute(n: int) -> int:
        if n == 2:
            raise ValueError("two")
        return n

    answers = in_order(compute, iter(range(100)), 2)
    with pytest.raises(ValueError, match="two"):
        list(answers)
