"""How much memory a command takes whose arrays grow with the rows: what is left for sorting ids, and whether the rest fits."""

from __future__ import annotations

from dataclasses import dataclass

from prune_cli.core.errors import InputError
from prune_cli.core.runtime import format_size
from prune_cli.io.ids.order import SORT_BYTES, parts_for

PROCESS_BYTES = 260 * 2**20
"""Memory of Python with pyarrow, and of what is read and written at a time: a measured upper bound."""

HELD_BYTES = 9
"""Memory of a row beside `SORT_BYTES` while ids are sorted: orders of two files and where a run begins."""

LEAST_BYTES = 32 * 2**20
"""What is used for rows however small the limit is, so that small files need no thought."""


@dataclass(frozen=True)
class RowMemory:
    """The memory of a command over many rows.

    Args:
        row_bytes: the most that arrays by position take a row, once the ids are sorted.
        limit: bytes that the run may use.
    """

    rows: int
    row_bytes: int
    limit: int

    @property
    def for_sorting(self) -> int:
        """Bytes that sorting ids may take beside arrays by position."""
        return max(LEAST_BYTES, self.limit - PROCESS_BYTES - HELD_BYTES * self.rows)

    @property
    def peak(self) -> int:
        """Bytes of the process at most."""
        sorting = HELD_BYTES * self.rows + min(SORT_BYTES * self.rows, self.for_sorting)
        return PROCESS_BYTES + max(sorting, self.row_bytes * self.rows)

    def check(self) -> None:
        """Raise, before any work, where the arrays by position do not fit.

        Raises:
            InputError: they do not; names how much is needed.
        """
        needed = max(HELD_BYTES, self.row_bytes) * self.rows
        if needed > max(LEAST_BYTES, self.limit - PROCESS_BYTES):
            raise InputError(
                f"{self.rows:,} rows take {format_size(PROCESS_BYTES + needed)} of memory, and the limit is {format_size(self.limit)}",
                f"give more: --memory-limit {-(-(PROCESS_BYTES + needed) // 2**20)}MiB, or take the rows in parts",
            )

    def sorting(self) -> str:
        """Return how the ids are sorted, in words."""
        parts = parts_for(SORT_BYTES * self.rows, self.for_sorting)
        return "sorted at once" if parts == 1 else f"sorted in {parts} or more ranges, each read by itself"
