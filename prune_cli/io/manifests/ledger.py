"""Rows that are bad: counted, listed with a reason, and never silently lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import BadRowsError, InputError
from prune_cli.io.parquet.provenance import Provenance, read_provenance
from prune_cli.io.parquet.tables import ParquetSource, write_table
from prune_cli.io.stores.atomic import remove_object
from prune_cli.io.stores.locations import STDIN, beside, is_remote
from prune_cli.io.stores.reading import there


@dataclass(frozen=True)
class ErrorAllowance:
    """How many bad rows a run may have: a count, or a share of all rows."""

    count: int = 0
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> ErrorAllowance:
        """Return the allowance of ``N`` or ``P%``.

        >>> ErrorAllowance.parse("10"), ErrorAllowance.parse("0.5%")
        (ErrorAllowance(count=10, share=None), ErrorAllowance(count=0, share=0.005))
        """
        try:
            found = cls(share=float(text[:-1]) / 100) if text.endswith("%") else cls(count=int(text))
            if found.count < 0 or not 0 <= (found.share or 0) <= 1:
                raise ValueError
        except ValueError:
            raise InputError(f"--max-errors {text!r} is neither a number nor a percentage", "write 10 or 0.5%") from None
        return found

    def allows(self, bad: int, rows: int) -> bool:
        """Return whether that many bad rows are within it."""
        return bad <= (self.count if self.share is None else self.share * rows)


class Ids(Protocol):
    """The ids of a dataset's rows, in memory or not."""

    def __len__(self) -> int: ...

    def take(self, positions: pa.Array, /) -> pa.Array:
        """Return the ids of some rows."""


LEDGER_COLUMNS = ("id", "path", "reason")


@dataclass
class Ledger:
    """The bad rows of one run, each once: position in the dataset, path where it has one, reason."""

    rows: dict[int, tuple[str | None, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, position: int, reason: str, path: str | None = None) -> None:
        """List a row; the first reason stays."""
        self.rows.setdefault(int(position), (path, reason))

    def add_all(self, positions: np.ndarray, reason: str) -> None:
        """List rows that share a reason."""
        for position in positions.tolist():
            self.add(position, reason)

    def good(self, rows: int) -> np.ndarray:
        """Return (rows,) bool, True where the row is not listed."""
        good = np.ones(rows, bool)
        good[list(self.rows)] = False
        return good

    def table(self, ids: Ids) -> pa.Table:
        """Return ``id``, ``path``, ``reason``, in the order of the dataset."""
        positions = sorted(self.rows)
        return pa.table(
            {
                "id": ids.take(pa.array(positions, pa.int64())),
                "path": pa.array([self.rows[p][0] for p in positions], pa.string()),
                "reason": pa.array([self.rows[p][1] for p in positions], pa.string()),
            }
        )


def ledger_path(output: str, default_stem: str) -> str:
    """Return where the ledger of an output goes: ``scores.parquet`` -> ``scores.errors.parquet``."""
    return beside(f"{default_stem}.parquet" if output == STDIN else output, ".errors.parquet")


def settle(ledger: Ledger, ids: Ids, allowance: ErrorAllowance, path: str, provenance: Provenance) -> None:
    """Write the ledger where there are bad rows; remove one that an earlier run left where there are none.

    Raises:
        BadRowsError: more bad rows than allowed, or no good one; the ledger is written all the same.
    """
    if not len(ledger):
        _remove_stale(path)
        return
    table = ledger.table(ids)
    write_table(path, table, provenance)
    if len(ledger) == len(ids):
        raise BadRowsError(f"all {len(ids)} rows are bad", f"see {path}")
    if not allowance.allows(len(ledger), len(ids)):
        row = table.slice(0, 1).to_pylist()[0]
        where = f" ({row['path']})" if row["path"] else ""
        first = f"{row['id']}{where}: {row['reason']}"
        raise BadRowsError(
            f"{len(ledger)} of {len(ids)} rows are bad, more than --max-errors allows; the first: {first}",
            f"see {path}, mend or remove those rows, or allow them: --max-errors {len(ledger)}",
        )


def _remove_stale(location: str) -> None:
    if not there(location):
        return
    try:
        ours = read_provenance(ParquetSource(location).schema) is not None
    except InputError:
        return
    if ours and is_remote(location):
        remove_object(location)
    elif ours:
        Path(location).unlink()
