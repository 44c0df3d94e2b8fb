"""Jobs in processes: results, errors of the same kind, and a worker that dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prune_cli.core.errors import InputError, PruneError
from prune_cli.engines import processes
from prune_cli.engines.processes import map_jobs

SIZE = "prune_cli.core.runtime:parse_size"


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_comes_back_with_its_number(workers: int) -> None:
    jobs = [f"{n}KiB" for n in range(7)]
    assert dict(map_jobs(SIZE, jobs, workers=workers)) == {n: 1024 * n for n in range(7)}  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_kind_and_cure(workers: int) -> None:
    with pytest.raises(InputError, match="'junk' is not a size") as raised:
        list(map_jobs(SIZE, ["1", "junk", "2"], workers=workers))  # type: ignore[arg-type]
    assert raised.value.exit_code == 2
    assert raised.value.cure == "write it as 4GiB, 500MB or a number of bytes"


def test_a_worker_that_dies_says_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_START", "import sys; sys.exit('no more of this')")
    with pytest.raises(PruneError, match="ended with code 1: no more of this"):
        list(map_jobs(SIZE, ["1", "2"], workers=2))  # type: ignore[arg-type]


def test_a_worker_that_is_killed_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_START", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(PruneError, match=r"killed by signal 9(?s:.*)--jobs 1"):
        list(map_jobs(SIZE, ["1", "2"], workers=2))  # type: ignore[arg-type]


def test_threads_are_shared_unless_the_user_said(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import os, sys, json\n"
        "for line in sys.stdin: print(json.dumps([{'result': os.environ['OMP_NUM_THREADS']}, None]), flush=True)"
    )
    monkeypatch.setattr(processes, "_START", script)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert dict(map_jobs(SIZE, ["1", "2"], workers=2, threads=3)) == {0: "3", 1: "3"}  # type: ignore[arg-type]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert dict(map_jobs(SIZE, ["1", "2"], workers=2, threads=3)) == {0: "5", 1: "5"}  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_workers_leave_with_their_parent(tmp_path: Path) -> None:
    script = (
        "from prune_cli.engines.processes import Workers\n"
        "pool = Workers(2, '--jobs 1').__enter__()\n"
        "import time; time.sleep(1.5)\n"
        "print(*(p.pid for p in pool._processes), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2 and all(Path(f"/proc/{pid}").exists() for pid in workers)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 20
    while any(_runs(pid) for pid in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in workers)


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() and os.getpgid(pid) > 0
    except (OSError, ProcessLookupError):
        return False
