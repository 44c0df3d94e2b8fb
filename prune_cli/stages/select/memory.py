"""What the vectors take of the memory: whether they fit, what is held of them, and what is left for a method."""

from __future__ import annotations

from dataclasses import dataclass

from prune_cli.io.manifests.features import FeatureFile
from prune_cli.methods.selection.greedy import Division, Partitioned
from prune_cli.stages.frame.memory import PROCESS_BYTES, RowMemory
from prune_cli.stages.select.request import Request

LIBRARY_BYTES = 500 * 2**20
"""Memory of torch and numba: a measured upper bound."""

ROW_BYTES, OTHER_FILE_ROW_BYTES, CLASS_ROW_BYTES, FEATURE_ROW_BYTES = 36, 20, 90, 200
"""Memory of a row: of a choice by one score, and what another file, ``--per-class`` and a method with features add; upper bounds."""


def row_memory(request: Request, rows: int) -> RowMemory:
    """Return what the rows take beside their vectors."""
    row_bytes = ROW_BYTES + OTHER_FILE_ROW_BYTES * (len(request.options.scores) - 1)
    if "features" in request.method.uses:
        row_bytes += FEATURE_ROW_BYTES
    if request.options.per_class or (request.options.per_class is None and request.method.in_classes):
        row_bytes += CLASS_ROW_BYTES
    return RowMemory(rows, row_bytes, request.options.runtime.memory_budget())


@dataclass(frozen=True)
class VectorMemory:
    """The memory of a selection's vectors; ``features`` is where they are, or None where there are none."""

    request: Request
    features: FeatureFile | None

    @property
    def budget(self) -> int:
        """Bytes that the run may use."""
        return self.request.options.runtime.memory_budget()

    @property
    def fits(self) -> bool:
        """Whether all of them can be in memory."""
        return self.features is None or 2 * self.features.nbytes <= self.budget

    @property
    def division(self) -> Division | None:
        """The partitions that the method goes by, or None."""
        params = self.request.params
        return params.division if isinstance(params, Partitioned) else None

    @property
    def streamed(self) -> bool:
        """Whether they stay in the file: they do not fit, and the method reads blocks or one partition at a time."""
        return (self.request.method.reads_blocks or self.division is not None) and not self.fits

    @property
    def held(self) -> int:
        """Bytes that are in memory together: of all, of one partition and its halo, or of a few blocks, which count as none."""
        if self.features is None:
            return 0
        if not self.streamed:
            return self.features.nbytes
        if self.division is None:
            return 0
        return 4 * self.features.width * sum(self.division.sizes(self.features.rows))

    @property
    def engine_bytes(self) -> int:
        """Bytes of this process while blocks of work run, those of the blocks aside."""
        return PROCESS_BYTES + LIBRARY_BYTES + self.held

    @property
    def left(self) -> int:
        """Bytes that a method may take beside the rows and its vectors."""
        return max(0, self.budget - LIBRARY_BYTES - 3 * self.held)
