"""Work in processes of this machine: jobs, each a JSON value in and a JSON value out, and blocks, which have arrays.

A worker is a fresh Python, started by `subprocess` for the reasons given in `prune_cli.io.images.workers`. It calls functions of ours,
named by their import paths, on what it is sent. It is ended with SIGTERM, so that a training in it can save its
checkpoint; where the system allows, it gets that signal too when this process dies.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from prune_cli.core import errors
from prune_cli.core.errors import PruneError
from prune_cli.engines.blocks import run_block
from prune_cli.engines.wire import read_parcel, write_parcel
from prune_cli.engines.work import Arrays, Block, resolve

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from prune_cli.engines.processes import serve; serve(sys.argv[2:])"
)
_PATIENCE = 30.0
"""Seconds a worker has to leave after SIGTERM."""

_RETRIES = 2
"""How often a block is handed out again whose worker was killed."""

Job = Mapping[str, Any]
_Parcel = tuple[Any, Arrays | None]


def map_jobs(
    function: str, jobs: Sequence[Job], *, workers: int, threads: int | None = None, keep_open: Sequence[int] = ()
) -> Iterator[tuple[int, Any]]:
    """Yield (number of the job, its result) as jobs are done, in whatever order that is.

    Args:
        function: ``module:name`` of a function of one job, within this package; job and result are JSON values.
        jobs: handed out in their order.
        workers: processes; with 1 the jobs run in this one.
        threads: of each worker's numeric libraries, or None to leave that to them.
        keep_open: descriptors that workers inherit, as that of a lock they share.
    Raises:
        PruneError: what a job raised, of the same class and exit code; or a worker died. The other workers are ended first.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        run = resolve(function)
        for number, job in enumerate(jobs):
            yield number, run(job)
        return
    parcels: list[Callable[[], _Parcel]] = [lambda job=job: (job, None) for job in jobs]  # type: ignore[misc]
    with Workers(workers, "--jobs 1", threads, keep_open) as pool:
        for number, (result, _) in pool.run(function, parcels, workers):
            yield number, result


def block_workers(workers: int, cards: Sequence[str] = ()) -> Workers:
    """Return processes for blocks, which load what every block computes with before it is known what they work on.

    Args:
        workers: how many.
        cards: CUDA devices that they take turns with, as CUDA_VISIBLE_DEVICES names them.
    """
    return Workers(workers, "--workers 1", 1, (), _RETRIES, cards, ("torch",))


def map_in_processes(
    function: str, blocks: Sequence[Block], shared: Arrays, pool: Workers, workers: int
) -> Iterator[tuple[int, Arrays]]:
    """Yield (number of the block, its arrays) as blocks are done, each on one thread of a process.

    A block whose process is killed, as by a system that runs out of memory, is handed out again.

    Args:
        function: see `prune_cli.engines.blocks.Engine.run`.
        blocks: handed out in their order.
        shared: arrays that every block has beside its own.
        pool: see `block_workers`.
        workers: how many of them work at most.
    Raises:
        PruneError: what a block raised; or its process was killed again and again.
    """
    parcels: list[Callable[[], _Parcel]] = [
        lambda b=block: (b.values, {**shared, **b.gather()})  # type: ignore[misc]
        for block in blocks
    ]
    for number, (_, arrays) in pool.run(function, parcels, workers):
        assert arrays is not None
        yield number, arrays


class Workers:
    """Processes that are handed parcels, each a value with arrays or without, and hand back parcels.

    They are ended when the block ends that they are entered for.

    Args:
        count: how many.
        alone: the option that does without them, for messages.
        retries: how often a parcel is handed out again whose worker was killed.
        cards: the CUDA device that each worker sees; none: all that there are.
        needed: modules that they import before anything comes.
    """

    def __init__(
        self,
        count: int,
        alone: str,
        threads: int | None = None,
        keep_open: Sequence[int] = (),
        retries: int = 0,
        cards: Sequence[str] = (),
        needed: Sequence[str] = (),
    ) -> None:
        self._environment = dict(os.environ)
        if threads is not None:
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
                self._environment.setdefault(name, str(threads))
        self._command = [sys.executable, "-c", _START, json.dumps([str(place) for place in sys.path]), *needed]
        self._alone, self._keep_open, self._retries, self._cards = alone, tuple(keep_open), retries, cards
        self._errors: list[IO[bytes]] = []
        self._busy: dict[int, int] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            for worker in range(count):
                self._errors.append(tempfile.TemporaryFile())  # noqa: SIM115 -- closed in __exit__
                self._processes.append(self._start(worker))
        except BaseException:
            self.__exit__()
            raise

    def _start(self, worker: int) -> subprocess.Popen[bytes]:
        card = {"CUDA_VISIBLE_DEVICES": self._cards[worker % len(self._cards)]} if self._cards else {}
        try:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors[worker],
                env={**self._environment, **card},
                pass_fds=self._keep_open,
                process_group=0,  # Ctrl-C is for the parent, which then ends them
            )
        except OSError as error:
            raise PruneError(
                f"processes cannot be started: {error.strerror or error}", f"run in this one: {self._alone}"
            ) from None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            with contextlib.suppress(OSError):
                process.terminate()
            with contextlib.suppress(OSError):  # what was still to be written has no reader left
                _pipe(process.stdin).close()
        for process in self._processes:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _pipe(process.stdout).close()
        for file in self._errors:
            file.close()

    def run(
        self, function: str, parcels: Sequence[Callable[[], _Parcel]], workers: int
    ) -> Iterator[tuple[int, _Parcel]]:
        """Yield (number, reply of a function) as they come, from so many workers; a parcel is made when it is handed out."""
        waiting, killed = deque(range(len(parcels))), Counter[int]()
        with selectors.DefaultSelector() as selector:
            for worker in range(min(workers, len(self._processes))):
                self._hand_out(worker, waiting, function, parcels, selector)
            while self._busy:
                for key, _ in selector.select():
                    worker = key.data
                    selector.unregister(key.fileobj)
                    number = self._busy.pop(worker)
                    reply = self._receive(worker)
                    if reply is None:
                        killed[number] += 1
                        self._replace(worker, killed[number])
                        waiting.appendleft(number)
                    self._hand_out(worker, waiting, function, parcels, selector)
                    if reply is not None:
                        yield number, reply

    def _hand_out(
        self,
        worker: int,
        waiting: deque[int],
        function: str,
        parcels: Sequence[Callable[[], _Parcel]],
        selector: selectors.BaseSelector,
    ) -> None:
        if not waiting:
            return
        number = waiting.popleft()
        process = self._processes[worker]
        value, arrays = parcels[number]()
        with contextlib.suppress(OSError):  # it died: which is seen where its reply is waited for
            write_parcel(_pipe(process.stdin), [function, value], arrays)
        self._busy[worker] = number
        selector.register(_pipe(process.stdout), selectors.EVENT_READ, worker)

    def _receive(self, worker: int) -> _Parcel | None:
        """Return a worker's reply, or None where it died without one.

        Raises:
            PruneError: what the work raised.
        """
        reply = read_parcel(_pipe(self._processes[worker].stdout))
        if reply is None:
            return None
        value, arrays = reply
        if "error" in value:
            kind = getattr(errors, value["error"], PruneError)
            raise kind(value["message"], value["cure"])
        return value["result"], arrays

    def _replace(self, worker: int, times: int) -> None:
        """Start another process in the place of one that was killed.

        Raises:
            PruneError: it ended by itself, or what it worked on has killed as many as may be.
        """
        process = self._processes[worker]
        code = process.wait()
        if code >= 0:
            self._errors[worker].seek(0)
            said = self._errors[worker].read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise PruneError(f"a process ended with code {code}: {said[-1]}", f"run in this one: {self._alone} -vv")
        if times > self._retries:
            raise PruneError(
                f"a process was killed by signal {-code} while it worked",
                f"if memory ran out, run fewer at once: {self._alone}; the command goes on where it was",
            )
        _pipe(process.stdout).close()
        with contextlib.suppress(OSError):
            _pipe(process.stdin).close()
        self._processes[worker] = self._start(worker)


def serve(needed: Sequence[str] = ()) -> None:
    """Do the work that comes from standard input until it ends: the whole life of a worker.

    Args:
        needed: modules to import before anything comes.
    """
    _leave_with_parent()
    for name in needed:
        importlib.import_module(name)
    source = sys.stdin.buffer
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # nothing that a library prints gets between the replies
        while (parcel := read_parcel(source)) is not None:
            (function, value), arrays = parcel
            made: Arrays | None = None
            try:
                if arrays is None:
                    reply: dict[str, Any] = {"result": resolve(function)(value)}
                else:
                    made, reply = run_block(function, value, arrays), {"result": None}
            except PruneError as error:
                reply = {"error": type(error).__name__, "message": error.message, "cure": error.cure}
            except MemoryError as error:
                reply = {"error": "PruneError", "message": f"out of memory: {error}", "cure": "run fewer at once"}
            try:
                write_parcel(replies, reply, made)
            except BrokenPipeError:  # the parent is gone; what is done is done
                return


def _leave_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent dies."""
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
