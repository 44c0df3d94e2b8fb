"""A pool of workers: answers as they come, no answer to a question that was given up, and nobody left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from waiting import runs, wait_until

from prune_cli.engines import pool as module
from prune_cli.engines.pool import LostWorker, NoWorker, Pool
from prune_cli.engines.serving import Parcel

SERVICE = "prune_cli.made:answer_with_number"


def pack(task: object) -> Parcel:
    return task, (b"abc", b"")


def test_every_task_comes_back_with_its_answer() -> None:
    with Pool(SERVICE, "settings", count=3) as pool:
        pids = {process.pid for process in pool.processes}
        found = list(pool.run(range(20), pack))
        assert sorted(task for task, _ in found) == list(range(20))
        for task, ((settings, question, pid), buffers) in found:
            assert (settings, question) == ("settings", task) and pid in pids and buffers == [b"abc", b""]
        two = {pid for _, ((_, _, pid), _) in pool.run(range(9), pack, 2)}
        assert len(two) <= 2 and two <= pids
        assert not list(pool.run([], pack))
        processes = pool.processes
    assert all(process.returncode is not None for process in processes)


def test_tasks_are_taken_one_ahead(tmp_path: Path) -> None:
    taken: list[int] = []

    def tasks() -> object:
        for number in range(9):
            taken.append(number)
            yield number

    with Pool(SERVICE, count=2) as pool:
        answers = pool.run(tasks(), pack)  # type: ignore[arg-type, var-annotated]
        next(answers)
        assert taken == [0, 1, 2, 3]
        assert len(list(answers)) == 8


def test_an_answer_that_nobody_waits_for_is_not_taken_for_another(tmp_path: Path) -> None:
    late = str(tmp_path / "late")
    with Pool(SERVICE, count=2) as pool:
        answers = pool.run([late, 1, 2], pack)
        assert next(answers)[0] == 1
        answers.close()
        Path(late).touch()
        assert {task: answer[1] for task, (answer, _) in pool.run([3, 4], pack)} == {3: 3, 4: 4}


def test_a_worker_that_leaves_says_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_START", "import sys; sys.exit('no more of this')")
    with Pool(SERVICE, count=2, retries=5) as pool, pytest.raises(LostWorker) as lost:
        list(pool.run("ab", pack))
    assert lost.value.task in {"a", "b"} and (lost.value.code, lost.value.said) == (1, "no more of this")


def test_what_cannot_be_started_leaves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(NoWorker, match="No such file or directory"):
        Pool(SERVICE, count=2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_workers_leave_their_work_with_their_parent(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom prune_cli.engines import pool, processes\nimport made_blocks\n"
        "pool._START = made_blocks.START\n"
        "list(processes.map_jobs('prune_cli.made:sleep', [sys.argv[1]] * 2, workers=2))\n"
    )
    tests = str(Path(__file__).parents[1])
    parent = subprocess.Popen([sys.executable, "-c", f"import sys; sys.path.append({tests!r})\n{script}", str(tmp_path)])
    try:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not any(runs(int(file.name)) for file in tmp_path.iterdir()))
