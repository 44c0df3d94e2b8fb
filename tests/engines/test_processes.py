"""Jobs and blocks in processes: results, errors of the same kind, and a worker that dies."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from made_blocks import DOUBLE

from prune_cli.core.errors import InputError, PruneError
from prune_cli.engines import pool
from prune_cli.engines.processes import _pack_arrays, _unpack_arrays, block_pool, map_jobs
from prune_cli.engines.serving import resolve
from prune_cli.engines.threads import run_block

SIZE = "prune_cli.core.runtime:parse_size"


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_comes_back_with_its_number(workers: int) -> None:
    jobs = [f"{n}KiB" for n in range(7)]
    assert dict(map_jobs(SIZE, jobs, workers=workers)) == {n: 1024 * n for n in range(7)}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_kind_and_cure(workers: int) -> None:
    with pytest.raises(InputError, match="'junk' is not a size") as raised:
        list(map_jobs(SIZE, ["1", "junk", "2"], workers=workers))
    assert raised.value.exit_code == 2
    assert raised.value.cure == "write it as 4GiB, 500MB or a number of bytes"


def test_a_worker_that_dies_says_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_START", "import sys; sys.exit('no more of this')")
    with pytest.raises(PruneError, match=r"ended with code 1: no more of this(?s:.)*--jobs 1 -vv"):
        list(map_jobs(SIZE, ["1", "2"], workers=2))


def test_a_worker_that_is_killed_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_START", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(PruneError, match=r"killed by signal 9(?s:.*)--jobs 1"):
        list(map_jobs(SIZE, ["1", "2"], workers=2))


def test_processes_that_cannot_be_started_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(PruneError, match=r"processes cannot be started: No such file(?s:.*)--jobs 1"):
        list(map_jobs(SIZE, ["1", "2"], workers=2))
    with pytest.raises(PruneError, match=r"processes cannot be started: No such file(?s:.*)--workers 1"):
        block_pool(2)


def test_threads_are_shared_unless_the_user_said(monkeypatch: pytest.MonkeyPatch) -> None:
    words: dict[str, Any] = {"workers": 2, "threads": 3}
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert dict(map_jobs("prune_cli.made:variable", ["OMP_NUM_THREADS"] * 2, **words)) == {0: "3", 1: "3"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert dict(map_jobs("prune_cli.made:variable", ["OMP_NUM_THREADS"] * 2, **words)) == {0: "5", 1: "5"}


def test_arrays_go_over_a_pipe_as_they_are() -> None:
    arrays = {
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(1.5),
        "turned": np.arange(6, dtype=">i4").reshape(2, 3).T,
        "flags": np.array([True, False]),
    }
    kinds, buffers = _pack_arrays(arrays)
    found = _unpack_arrays(kinds, [bytearray(buffer) for buffer in buffers])
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array) and found[name].flags.writeable


def test_functions_of_others_are_not_run() -> None:
    with pytest.raises(ValueError, match="not ours"):
        resolve("os:getpid")


def test_a_block_runs_by_its_name() -> None:
    assert run_block(DOUBLE, {}, {"x": np.array(4.0)})["twice"] == 8.0
