"""Standard streams that cannot fail a command: what became of the data decides the exit code, not whether somebody listened."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, TextIO, cast

_STREAMS = ((0, "stdin", os.O_RDONLY, "r"), (1, "stdout", os.O_WRONLY, "w"), (2, "stderr", os.O_WRONLY, "w"))


def settle_streams() -> None:
    """Open the streams that are closed on nothing, so that no file takes their number, and let none fail over a letter.

    What the encoding of a stream has no letter for is written as its bytes where it is UTF-8 (names of files that are none), else escaped.
    """
    for number, name, access, mode in _STREAMS:
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, access)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            stream = open(number, mode, closefd=False)  # noqa: SIM115 -- as long as the process
            stream.was_closed = True  # type: ignore[attr-defined]
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        plain = (stream.encoding or "").lower().replace("-", "") == "utf8"
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="surrogateescape" if plain else "backslashreplace")  # type: ignore[union-attr]
    sys.stderr = cast(TextIO, Forgiving(sys.stderr))


def abandon(stream: TextIO) -> None:
    """Let what is still in the buffers of a stream go nowhere: it has no reader, or no room."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class Forgiving:
    """A stream for people: a line that cannot be written, for it is full or closed, goes nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text and return its length."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            abandon(self._stream)
            return len(text)

    def flush(self) -> None:
        """Write what is in the buffers."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            abandon(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
