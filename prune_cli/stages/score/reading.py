"""The rows of a data set as they are read: a bad one goes to the ledger, and leaves every column at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeAlias, TypeVar

import numpy as np

from prune_cli.core.progress import Progress
from prune_cli.core.runtime import Runtime
from prune_cli.io.images.spool import drop_rows
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.methods.training.data.inputs import Inputs
from prune_cli.stages.train.run import load_inputs

SPOOL = "spool"
"""Folder within the work folder for what does not fit into memory, while the command runs."""

Channels: TypeAlias = Literal["auto", 1, 3]

_SHARE_IN_MEMORY = 0.5
"""Of the memory that may be used, for inputs that are held there."""

_Values = TypeVar("_Values")


@dataclass
class Column(Generic[_Values]):
    """What was read of each row; of the good ones alone once the reading is settled."""

    values: _Values


InputColumn: TypeAlias = Column[np.ndarray] | Column[Inputs]


class Reading:
    """Reads what scores are computed from.

    Args:
        within: (M,) int64, the rows that are meant, ascending.
        folder: where what does not fit into memory goes.
        runtime: memory and decoding processes.
        as_stored: whether numbers stay of the type they have; else they come as float32.
    """

    def __init__(
        self,
        dataset: Dataset,
        within: np.ndarray,
        ledger: Ledger,
        folder: Path,
        runtime: Runtime,
        progress: Progress,
        *,
        channels: Channels = "auto",
        as_stored: bool = False,
    ) -> None:
        self.dataset, self.within, self.ledger, self.folder = dataset, within, ledger, folder
        self.runtime, self.progress, self._channels, self._as_stored = runtime, progress, channels, as_stored
        # of a part of less work than there are parts, the first row tells the shape of nothing
        self.rows: np.ndarray = within if len(within) else np.arange(1)
        self._ledger = ledger if len(within) else Ledger()
        self._columns: list[Column[np.ndarray]] = []
        self._inputs: Column[np.ndarray] | None = None
        self._checks: list[Callable[[], tuple[np.ndarray, str]]] = []

    def probabilities(self) -> Column[np.ndarray]:
        """Return the column ``prob``."""
        found = self.dataset.load_probabilities(self._ledger, rows=self.rows, progress=self.progress)
        return self._kept(found)

    def embeddings(self) -> Column[np.ndarray]:
        """Return the column of embeddings, whatever the input is."""
        spool = self._spool("features.npy")
        return self._kept(self.dataset.load_embeddings(self._ledger, spool=spool, progress=self.progress))

    def array(self) -> Column[np.ndarray]:
        """Return the inputs, in memory or mapped from a file; whoever asks again gets the same."""
        if self._inputs is None:
            found = self.dataset.load_inputs(
                self._ledger,
                rows=self.rows,
                workers=self.runtime.worker_count(),
                channels=self._channels,
                as_float32=not self._as_stored,
                spool=self._spool("embeddings.npy"),
                progress=self.progress,
            )
            self._inputs = self._kept(found)
        return self._inputs

    def inputs(self) -> InputColumn:
        """Return the inputs, pictures that do not fit into memory streamed."""
        pictures = self.dataset.kind == "image" and not self._as_stored
        if not pictures or len(self.within) * self.dataset.input_width() <= self.runtime.memory_budget() // 2:
            return self.array()
        spool = self.folder / SPOOL
        spool.mkdir(parents=True, exist_ok=True)
        found, self.rows = load_inputs(self.dataset, self.rows, self.ledger, spool, self.runtime, self.progress, self._channels)
        return Column(found)

    def looked_at(self, rows: np.ndarray) -> None:
        """Take the good rows from what read them itself."""
        self.rows = rows

    def check(self, bad_rows: Callable[[], tuple[np.ndarray, str]]) -> None:
        """Have what was read checked once rows that could not be read are gone: (M,) bool of the bad rows left, and the reason."""
        self._checks.append(bad_rows)

    def settle(self) -> None:
        """Leave the good rows alone in all columns."""
        if not len(self.within):
            self._drop(np.zeros(len(self.rows), bool))
            return
        self._drop(self.ledger.good(len(self.dataset))[self.rows])
        for check in self._checks if len(self.rows) else []:
            bad, reason = check()
            self.ledger.add_all(self.rows[bad], reason)
            self._drop(~bad)

    def _kept(self, values: np.ndarray) -> Column[np.ndarray]:
        self._columns.append(Column(values))
        return self._columns[-1]

    def _drop(self, good: np.ndarray) -> None:
        self.rows = self.rows[good]
        for column in self._columns:
            column.values = drop_rows(column.values, good)

    def _spool(self, name: str) -> Path | None:
        """Return the file that embeddings are memory-mapped from where they would take too much of the memory."""
        if self.dataset.options.embedding_column not in self.dataset.source.schema.names:
            return None
        mapped = is_mapped(len(self.dataset) * self.dataset.embedding_bytes(), self.runtime)
        return self.folder / SPOOL / name if mapped else None


def is_mapped(nbytes: int, runtime: Runtime) -> bool:
    """Return whether so many bytes of embeddings are memory-mapped from a file of the work folder."""
    return nbytes > _SHARE_IN_MEMORY * runtime.memory_budget()
