"""Work in processes of this machine: jobs, each a JSON value in and a JSON value out, and blocks, which have arrays."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np

from prune_cli.core.errors import PruneError
from prune_cli.engines.engine import Arrays, Block
from prune_cli.engines.pool import LostWorker, NoWorker, Pool
from prune_cli.engines.serving import Answer, Buffer, Parcel, leave_with_parent, resolve
from prune_cli.engines.threads import run_block

_RETRIES = 2
"""How often a block is handed out again whose worker was killed."""


def map_jobs(
    function: str, jobs: Sequence[Any], *, workers: int, threads: int | None = None, keep_open: Sequence[int] = ()
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
    service, environments = f"{__name__}:answer_jobs", [_threads_environment(threads)]
    with _told("--jobs 1"), Pool(service, function, count=workers, environments=environments, keep_open=keep_open) as pool:
        for (number, _), (result, _) in pool.run(enumerate(jobs), lambda task: (task[1], ())):
            yield number, result


def block_pool(workers: int, cards: Sequence[str] = ()) -> Pool:
    """Return processes for blocks, which load what every block computes with before it is known what they work on.

    Args:
        cards: CUDA devices that they take turns with, as CUDA_VISIBLE_DEVICES names them.
    """
    common = _threads_environment(1)
    environments = [{**common, "CUDA_VISIBLE_DEVICES": card} for card in cards] or [common]
    with _told("--workers 1"):
        return Pool(f"{__name__}:answer_blocks", count=workers, retries=_RETRIES, environments=environments)


def map_in_processes(
    function: str, blocks: Sequence[Block], shared: Arrays, pool: Pool, workers: int
) -> Generator[tuple[int, Arrays], None, None]:
    """Yield (number of the block, its arrays) as blocks are done, each on one thread of a process.

    A block whose process is killed, as by a system that runs out of memory, is handed out again.

    Args:
        function: see `prune_cli.engines.engine.Engine.run`.
        blocks: handed out in their order.
        shared: arrays that every block has beside its own.
        pool: see `block_pool`.
        workers: how many of them work at most.
    Raises:
        PruneError: what a block raised; or its process was killed again and again.
    """

    def pack(task: tuple[int, Block]) -> Parcel:
        kinds, buffers = _pack_arrays({**shared, **task[1].gather()})
        return [function, dict(task[1].values), kinds], buffers

    with _told("--workers 1"):
        for (number, _), (kinds, buffers) in pool.run(enumerate(blocks), pack, workers):
            yield number, _unpack_arrays(kinds, buffers)


def answer_jobs(function: str) -> Answer:
    """Return what answers in a worker of `map_jobs`."""
    leave_with_parent()

    def answer(job: Any, buffers: Sequence[Buffer]) -> Parcel:
        with _enough_memory():
            return resolve(function)(job), ()

    return answer


def answer_blocks(settings: None) -> Answer:
    """Return what answers in a worker of `block_pool`."""
    leave_with_parent()
    importlib.import_module("torch")

    def answer(question: Any, buffers: Sequence[Buffer]) -> Parcel:
        function, values, kinds = question
        with _enough_memory():
            return _pack_arrays(run_block(function, values, _unpack_arrays(kinds, buffers)))

    return answer


def _pack_arrays(arrays: Arrays) -> tuple[list[list[Any]], list[Buffer]]:
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    kinds = [[name, array.dtype.str, list(array.shape)] for name, array in contiguous.items()]
    return kinds, [array.reshape(-1).view(np.uint8).data for array in contiguous.values()]


def _unpack_arrays(kinds: Sequence[Sequence[Any]], buffers: Sequence[Buffer]) -> dict[str, np.ndarray]:
    return {
        name: np.frombuffer(buffer, np.dtype(kind), math.prod(shape)).reshape(shape)
        for (name, kind, shape), buffer in zip(kinds, buffers, strict=True)
    }


def _threads_environment(threads: int | None) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {} if threads is None else {name: str(threads) for name in names if name not in os.environ}


@contextlib.contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise PruneError(f"out of memory: {error}", "run fewer at once") from None


@contextlib.contextmanager
def _told(alone: str) -> Iterator[None]:
    """Turn what befalls processes into messages for the user, who can do without them by the option ``alone``."""
    try:
        yield
    except NoWorker as reason:
        raise PruneError(f"processes cannot be started: {reason}", f"run in this one: {alone}") from None
    except LostWorker as lost:
        if lost.code >= 0:
            raise PruneError(f"a process ended with code {lost.code}: {lost.said}", f"run in this one: {alone} -vv") from None
        raise PruneError(
            f"a process was killed by signal {-lost.code} while it worked",
            f"if memory ran out, run fewer at once: {alone}; the command goes on where it was",
        ) from None
