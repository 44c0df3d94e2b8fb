"""Jobs in processes of this machine: each a JSON value in, a JSON value out.

A worker is a fresh Python, started by `subprocess` for the reasons given in `prune_cli.io.decode_workers`. It calls one function
of ours, named by its import path, on every job that it is sent. It is ended with SIGTERM, so that a training in it can save its
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from prune_cli.core import errors
from prune_cli.core.errors import PruneError

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from prune_cli.engines.processes import serve; serve(sys.argv[2])"
)
_PATIENCE = 30.0
"""Seconds a worker has to leave after SIGTERM."""

Job = Mapping[str, Any]


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
    with _Workers(function, workers, threads, keep_open) as pool:
        yield from pool.run(jobs)


def resolve(function: str) -> Callable[[Job], Any]:
    """Return the function of an import path.

    Raises:
        ValueError: it lies outside this package.
    """
    module, _, name = function.partition(":")
    if not module.startswith("prune_cli."):
        raise ValueError(f"{function} is not ours")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


class _Workers:
    def __init__(self, function: str, count: int, threads: int | None, keep_open: Sequence[int]) -> None:
        environment = dict(os.environ)
        if threads is not None:
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
                environment.setdefault(name, str(threads))
        command = [sys.executable, "-c", _START, json.dumps([str(place) for place in sys.path]), function]
        self._errors: list[IO[bytes]] = []
        self._busy: dict[int, int] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            for _ in range(count):
                self._errors.append(tempfile.TemporaryFile())  # noqa: SIM115 -- closed in __exit__
                self._processes.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=self._errors[-1],
                        env=environment,
                        pass_fds=tuple(keep_open),
                        process_group=0,  # Ctrl-C is for the parent, which then ends them
                    )
                )
        except OSError as error:
            self.__exit__()
            raise PruneError(
                f"processes cannot be started: {error.strerror or error}", "run in this one: --jobs 1"
            ) from None
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> _Workers:
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

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Any]]:
        ahead = iter(enumerate(jobs))
        with selectors.DefaultSelector() as selector:
            for worker, process in enumerate(self._processes):
                if self._send(worker, next(ahead, None)):
                    selector.register(_pipe(process.stdout), selectors.EVENT_READ, worker)
            while self._busy:
                for key, _ in selector.select():
                    number, result = self._receive(key.data)
                    if not self._send(key.data, next(ahead, None)):
                        selector.unregister(key.fileobj)
                    yield number, result

    def _send(self, worker: int, job: tuple[int, Job] | None) -> bool:
        if job is None:
            return False
        pipe = _pipe(self._processes[worker].stdin)
        self._busy[worker] = job[0]
        try:
            pipe.write(json.dumps(job[1]).encode() + b"\n")
            pipe.flush()
        except OSError:
            raise self._death(worker) from None
        return True

    def _receive(self, worker: int) -> tuple[int, Any]:
        line = _pipe(self._processes[worker].stdout).readline()
        if not line.endswith(b"\n"):
            raise self._death(worker)
        reply = json.loads(line)
        if "error" in reply:
            kind = getattr(errors, reply["error"], PruneError)
            raise kind(reply["message"], reply["cure"])
        return self._busy.pop(worker), reply["result"]

    def _death(self, worker: int) -> PruneError:
        code = self._processes[worker].wait()
        if code < 0:
            return PruneError(
                f"a process was killed by signal {-code} while it worked",
                "if memory ran out, run fewer at once: --jobs 1; the command goes on where it was",
            )
        self._errors[worker].seek(0)
        said = self._errors[worker].read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
        return PruneError(f"a process ended with code {code}: {said[-1]}", "run in this one: --jobs 1 -vv")


def serve(function: str) -> None:
    """Run the jobs that come from standard input until it ends: the whole life of a worker."""
    _leave_with_parent()
    source = sys.stdin.buffer
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # nothing that a library prints gets between the replies
        run = resolve(function)
        while line := source.readline():
            try:
                reply: dict[str, Any] = {"result": run(json.loads(line))}
            except PruneError as error:
                reply = {"error": type(error).__name__, "message": error.message, "cure": error.cure}
            try:
                replies.write(json.dumps(reply).encode() + b"\n")
                replies.flush()
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
