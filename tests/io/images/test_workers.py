"""Images decoded by workers: one that dies is an error, and none is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import encode, noise, some_images, source
from waiting import runs, wait_until

from prune_cli.core.errors import PruneError
from prune_cli.engines import pool
from prune_cli.io.images.column import decode_images
from prune_cli.io.images.decoding import decode_image


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_worker_is_an_error(number: signal.Signals, started: list[Any]) -> None:
    """Not a hang, and not silence: the message names the rows and the cure, and the others are gone."""
    data = [encode(picture) for picture in some_images(5)] * 100

    def kill(task: str, done: int, total: int, facts: Any = None) -> None:
        if started:
            started[1].send_signal(number)

    with pytest.raises(PruneError, match=rf"{number.name}.*rows \d+ to \d+") as caught:
        decode_images(source(data), 500, workers=2, progress=kill)
    assert caught.value.cure is not None and "--workers 1" in caught.value.cure
    assert len(started) == 2 and all(process.poll() is not None for process in started)


def test_a_worker_that_fails_says_why(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of its traceback is in the message."""
    monkeypatch.setattr(pool, "_START", "raise SystemError('no decoder here')")
    with pytest.raises(PruneError, match=r"code 1 .*SystemError: no decoder here"):
        decode_images(source([encode(picture) for picture in some_images(30)]), 30, workers=2)


def test_workers_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, started: list[Any]) -> None:
    """An error with a cure, and nothing left open."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(PruneError, match="cannot be started: No such file") as caught:
        decode_images(source([encode(picture) for picture in some_images(30)]), 30, workers=2)
    assert caught.value.cure is not None and "--workers 1" in caught.value.cure


def test_an_interrupt_leaves_nothing_behind(started: list[Any]) -> None:
    """Ctrl-C: the workers are gone, and there is no file that could stay."""
    open_files = Path("/proc/self/fd")  # the pixels lie in a nameless file: what could stay is an open descriptor
    gc.collect()
    before = len(list(open_files.iterdir()))

    def interrupt(task: str, done: int, total: int, facts: Any = None) -> None:
        if started:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_images(source([encode(picture) for picture in some_images(60)]), 60, workers=2, progress=interrupt)
    assert len(started) == 2 and all(process.poll() is not None for process in started)
    gc.collect()
    assert len(list(open_files.iterdir())) <= before


def test_workers_leave_with_their_parent() -> None:
    """A parent that is killed outright takes them along: the end of their pipe tells them."""
    code = """
import dataclasses, signal
from prune_cli.engines.pool import Pool
from prune_cli.io.images.chunk_decoder import PixelPlan
settings = {"plan": dataclasses.asdict(PixelPlan(100)), "descriptor": -1}
pool = Pool("prune_cli.io.images.chunk_decoder:answer_chunks", settings, count=2)
print(*[process.pid for process in pool.processes], flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2 and all(runs(pid) for pid in pids)
        parent.kill()
    wait_until(lambda: not any(runs(pid) for pid in pids))


def test_a_worker_imports_pillow_and_nothing_heavy() -> None:
    code = (
        "import sys; from prune_cli.engines import serving; from prune_cli.io.images import chunk_decoder\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "PIL" in loaded and not loaded & {"numpy", "pyarrow", "torch", "safetensors", "subprocess", "typer", "rich"}


def test_memory_without_memfd(monkeypatch: pytest.MonkeyPatch, started: list[Any]) -> None:
    """Where the system has none, a file without a name does it."""
    monkeypatch.delattr(os, "memfd_create")
    pictures = some_images(30)
    decoded = decode_images(source([encode(picture) for picture in pictures]), 30, workers=2)
    assert len(started) == 2 and np.array_equal(decoded.images_nhwc[:, :, :, 0], pictures)


def test_threads_of_the_caller_are_no_danger(started: list[Any]) -> None:
    """Workers are started and used while other threads decode; nobody waits for a lock for ever."""
    import threading

    data = encode(noise(8, 8, 3), "GIF")
    stop = threading.Event()
    failures: list[BaseException] = []

    def decode() -> None:
        try:
            while not stop.is_set():
                decode_image(data)
        except BaseException as error:
            failures.append(error)

    filters = list(warnings.filters)
    threads = [threading.Thread(target=decode) for _ in range(3)]
    for thread in threads:
        thread.start()
    decoded = decode_images(source([data] * 40), 40, workers=2)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures and not decoded.bad and warnings.filters == filters
