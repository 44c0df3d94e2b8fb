"""The life of a worker: a process that answers what it is asked, and imports nothing but what answers."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
from array import array
from collections.abc import Callable, Sequence
from io import BufferedIOBase
from typing import Any, TypeAlias

from prune_cli.core.errors import PruneError

Buffer: TypeAlias = "bytes | bytearray | memoryview | array[int]"
Parcel: TypeAlias = tuple[Any, Sequence[Buffer]]


def write_parcel(file: BufferedIOBase, value: Any, buffers: Sequence[Buffer] = ()) -> None:
    """Write a value and buffers, each contiguous.

    Raises:
        OSError: the reader is gone.
    """
    file.write(json.dumps([value, [memoryview(buffer).nbytes for buffer in buffers]]).encode() + b"\n")
    for buffer in buffers:
        file.write(buffer)
    file.flush()


def read_parcel(file: BufferedIOBase) -> tuple[Any, list[bytearray]] | None:
    """Return the next value and its buffers, or None where the other side ended."""
    line = file.readline()
    if not line.endswith(b"\n"):
        return None
    value, sizes = json.loads(line)
    buffers = [bytearray(size) for size in sizes]
    for buffer in buffers:
        if file.readinto(buffer) != len(buffer):
            return None
    return value, buffers


Answer: TypeAlias = Callable[[Any, list[bytearray]], Parcel]


def serve(service: str, settings: Any) -> None:
    """Answer what comes from standard input until it ends: the whole life of a worker.

    Args:
        service: ``module:name`` of a function of the settings that returns the function from a question to its answer.
    """
    with os.fdopen(0, "rb", closefd=False) as questions, os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # nothing that a library prints gets between the replies
        answer: Answer = resolve(service)(settings)
        while (question := read_parcel(questions)) is not None:
            try:
                value, buffers = answer(*question)
                reply: dict[str, Any] = {"result": value}
            except PruneError as error:
                reply, buffers = {"error": type(error).__name__, "message": error.message, "cure": error.cure}, ()
            try:
                write_parcel(replies, reply, buffers)
            except BrokenPipeError:  # the parent is gone; what is done is done
                return


def resolve(function: str) -> Callable[..., Any]:
    """Return the function of an import path, ``module:name``.

    Raises:
        ValueError: it lies outside this package.
    """
    module, _, name = function.partition(":")
    if not module.startswith("prune_cli."):
        raise ValueError(f"{function} is not ours")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def leave_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent dies, for work that takes long: the end of the input tells the others."""
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG
