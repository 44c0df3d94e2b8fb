"""The history of a training as TensorBoard reads it: scalars in event files, written while it goes.

Records and protocol buffers are those of the ``tensorboard`` package. Its writers, and torch's around them, are not used: they import
TensorFlow where it is installed, which takes seconds and prints, and they name files after the host.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from prune_cli.core.errors import InputError, UnavailableError

_PREFIX, _SUFFIX = "events.out.tfevents.", ".prune"
_NOT_DRAWN = frozenset({"step", "samples", "seconds"})


def require() -> None:
    """Raise where event files cannot be written.

    Raises:
        UnavailableError: the package ``tensorboard`` is missing, or does not go with its protocol buffers.
    """
    try:
        import tensorboard.compat.proto.event_pb2
        import tensorboard.summary.writer.record_writer  # noqa: F401
    except (ImportError, TypeError) as error:
        raise UnavailableError(
            f"event files are written by tensorboard, which cannot be imported: {error}", "pip install 'prune-cli[tensorboard]'"
        ) from error


class EventFolder:
    """The folder of one training's event files. Only files that we named are ever removed from it.

    Args:
        path: made when it is first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, *, replace: bool) -> None:
        """Raise before any work where events could not be written.

        Args:
            replace: whether events that are there may go, or are gone on from.
        Raises:
            InputError: the path is a file, or has events already and may not be replaced.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is not a folder", "name another: --report-to tensorboard:DIR")
        if not replace and any(self.path.glob(f"**/{_PREFIX}*{_SUFFIX}")):
            raise InputError(
                f"{self.path} has events already", "pass --force to replace them, or name another folder: --report-to tensorboard:DIR"
            )

    @contextlib.contextmanager
    def writing(self, history: Sequence[Mapping[str, Any]]) -> Iterator[EventWriter]:
        """Yield what takes the rows that come.

        Args:
            history: rows of the training that this one goes on from. What was written after them is void, and they are written
                where no events are there; without any, earlier events are removed.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not history:
            for file in self._files():
                file.unlink()
        earlier = self._files()
        # A name that sorts after those before it, which is the order TensorBoard reads them in.
        number = max([int(time.time()), *(int(file.name[len(_PREFIX) : -len(_SUFFIX)]) + 1 for file in earlier[-1:])])
        with (self.path / f"{_PREFIX}{number:010d}{_SUFFIX}").open("xb") as stream:
            writer = EventWriter(stream, history[-1]["step"] + 1 if earlier else None)
            for row in history if not earlier else ():
                writer.add(row)
            yield writer

    def _files(self) -> list[Path]:
        return sorted(self.path.glob(f"{_PREFIX}*{_SUFFIX}"))


class EventWriter:
    """Writes one event file; each row is there for a reader as soon as it is added.

    Args:
        void_from: step from which on earlier files of the folder do not count; None where there are none.
    """

    def __init__(self, stream: BinaryIO, void_from: int | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._records = RecordWriter(stream)
        self._put(Event(file_version="brain.Event:2"))
        if void_from is not None:
            self._put(Event(step=void_from, session_log=SessionLog(status=SessionLog.START)))
        self._records.flush()

    def add(self, row: Mapping[str, Any]) -> None:
        """Write the numbers of one row of history at its ``step``; lists are left out."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        numbers = {k: v for k, v in row.items() if isinstance(v, int | float) and k not in _NOT_DRAWN}
        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in numbers.items()]
        self._put(Event(step=int(row["step"]), summary=Summary(value=values)))
        self._records.flush()

    def _put(self, event: Any) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
