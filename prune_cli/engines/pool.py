"""A pool of workers, which knows nothing of what the work is.

A worker is a fresh Python that imports what answers, and no more. It is started by `subprocess`, not forked and not by
`multiprocessing`: fork copies the locks of other threads (pyarrow and torch have some), and multiprocessing's other ways run the
caller's script a second time. It reads parcels from a pipe and answers with parcels, one at a time. A worker whose parent is gone
reads the end of its pipe and leaves. It is ended with SIGTERM, so that a training in it can save its checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from io import BufferedReader, BufferedWriter
from itertools import islice
from typing import Any, TypeVar, cast

from prune_cli.core import errors
from prune_cli.core.errors import PruneError
from prune_cli.engines.serving import Parcel, read_parcel, write_parcel

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from prune_cli.engines.serving import serve; serve(sys.argv[2], json.loads(sys.argv[3]))"
)
_PATIENCE = 30.0
"""Seconds a worker has to leave after SIGTERM."""

_Task = TypeVar("_Task")


class NoWorker(Exception):
    """A process cannot be started: the reason, one line."""


class LostWorker(Exception):
    """A worker ended without an answer.

    Args:
        task: what it had.
        code: it ended with, or minus the number of the signal that killed it.
        said: the last line that it wrote to standard error.
    """

    def __init__(self, task: Any, code: int, said: str) -> None:
        self.task, self.code, self.said = task, code, said


class Pool:
    """Workers that are ended when the block ends that they are entered for.

    Args:
        service: what answers: see `prune_cli.engines.serving.serve`.
        settings: a JSON value for it.
        retries: how often a task is handed out again whose worker was killed.
        environments: variables that workers have beside those of this process; they take turns with them.
        keep_open: descriptors that they inherit.
    Raises:
        NoWorker: one cannot be started.
    """

    def __init__(
        self,
        service: str,
        settings: Any = None,
        *,
        count: int,
        retries: int = 0,
        environments: Sequence[Mapping[str, str]] = ({},),
        keep_open: Sequence[int] = (),
    ) -> None:
        paths = json.dumps([str(place) for place in sys.path])
        self._command = [sys.executable, "-c", _START, paths, service, json.dumps(settings)]
        self._count, self._retries = count, retries
        self._environments, self._keep_open = environments, keep_open
        self._workers: dict[int, _Worker] = {}
        try:
            for number in range(count):
                self._worker(number)
        except BaseException:
            self.__exit__()
            raise

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        """Return the processes of all workers."""
        return [worker.process for worker in self._workers.values()]

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end(list(self._workers))

    def run(
        self, tasks: Iterable[_Task], pack: Callable[[_Task], Parcel], at_most: int | None = None
    ) -> Generator[tuple[_Task, Parcel], None, None]:
        """Yield every task with its answer, as they come.

        Args:
            tasks: taken in their order, one ahead of the need.
            pack: makes the question of a task when it is handed out.
            at_most: workers that are asked; None: all.
        Raises:
            PruneError: what an answer raised, of the same class and exit code.
            LostWorker: it ended by itself, or its task has killed more than as many as it may.
            NoWorker: one that was killed cannot be replaced.
        """
        source = iter(tasks)
        ahead = deque(islice(source, 1))
        busy: dict[int, tuple[_Task, int]] = {}  # worker -> its task, and how many that has killed
        try:
            with selectors.DefaultSelector() as selector:

                def ask(number: int, task: _Task, kills: int = 0) -> None:
                    worker = self._worker(number)
                    busy[number] = task, kills
                    worker.ask(pack(task))
                    selector.register(worker.answers, selectors.EVENT_READ, number)

                def ask_next(number: int) -> None:
                    if ahead:
                        ask(number, ahead.popleft())
                        ahead.extend(islice(source, 1))

                for number in range(self._count if at_most is None else min(at_most, self._count)):
                    ask_next(number)
                while busy:
                    for key, _ in selector.select():
                        number = key.data
                        selector.unregister(key.fileobj)
                        reply = self._workers[number].answer()
                        task, kills = busy.pop(number)
                        if reply is None:
                            self._bury(number, task, kills + 1)
                            ask(number, task, kills + 1)
                            continue
                        ask_next(number)
                        yield task, reply
        finally:
            self._end(list(busy))  # what they answer to this would be taken for the answer to something else

    def _worker(self, number: int) -> _Worker:
        if number not in self._workers:
            more = self._environments[number % len(self._environments)]
            self._workers[number] = _Worker(self._command, more, self._keep_open)
        return self._workers[number]

    def _bury(self, number: int, task: Any, kills: int) -> None:
        """Make room for another worker in the place of one that was killed, or raise `LostWorker` where there shall be none."""
        worker = self._workers.pop(number)
        worker.wait()
        code, said = worker.process.returncode, worker.last_words()
        worker.close()
        if code >= 0 or kills > self._retries:
            raise LostWorker(task, code, said)

    def _end(self, numbers: Sequence[int]) -> None:
        ended = [self._workers.pop(number) for number in numbers if number in self._workers]
        for worker in ended:
            worker.terminate()
        for worker in ended:
            worker.wait(_PATIENCE)
            worker.close()


class _Worker:
    """A process with its pipes, as its parent sees it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], keep_open: Sequence[int]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in close
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, **environment},
                pass_fds=keep_open,
                process_group=0,  # Ctrl-C is for the parent, which then ends them
            )
        except OSError as error:
            self._errors.close()
            raise NoWorker(str(error.strerror or error)) from None
        self._questions = cast(BufferedWriter, self.process.stdin)
        self.answers = cast(BufferedReader, self.process.stdout)

    def ask(self, question: Parcel) -> None:
        with contextlib.suppress(OSError):  # it died: which is seen where its answer is waited for
            write_parcel(self._questions, *question)

    def answer(self) -> Parcel | None:
        """Return its answer, or None where it died without one; raise what the work raised."""
        reply = read_parcel(self.answers)
        if reply is None:
            return None
        value, buffers = reply
        if "error" in value:
            raise getattr(errors, value["error"], PruneError)(value["message"], value["cure"])
        return value["result"], buffers

    def last_words(self) -> str:
        self._errors.seek(0)
        return (self._errors.read().decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]

    def terminate(self) -> None:
        with contextlib.suppress(OSError):
            self.process.terminate()
        with contextlib.suppress(OSError):  # what was still to be written has no reader left
            self._questions.close()

    def wait(self, patience: float | None = None) -> None:
        """Wait until it is gone, and kill it if it takes too long."""
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._questions.close()
        self.answers.close()
        self._errors.close()
