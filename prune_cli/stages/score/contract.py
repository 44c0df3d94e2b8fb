"""What every source of scores is: it says what it costs, reads what it needs, and scores the rows that are good."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa

from prune_cli.core.progress import Progress
from prune_cli.engines.pool import Pool
from prune_cli.io.ids.columns import Labels
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.parquet.provenance import InputFile, Provenance
from prune_cli.io.runs.events import EventFolder
from prune_cli.stages.score.reading import Channels, Reading
from prune_cli.stages.score.request import Request, ScoreOptions

PACKAGES = ("numpy", "torch", "pyarrow", "pillow")
"""Distributions whose versions count in whatever is computed of the samples."""

Loaded = TypeVar("Loaded")
Figures = Mapping[str, Any]
"""What ``--plan`` shows."""


@dataclass(frozen=True)
class Job:
    """What one command scores; ``events`` is where the history of trainings also goes."""

    options: ScoreOptions
    request: Request
    dataset: Dataset
    output: str
    channels: Channels = "auto"
    events: EventFolder | None = None


@dataclass(frozen=True)
class SourceFacts:
    """What provenance says of a source: parameters beside those of the scores, files beside the data, packages whose versions count."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[InputFile, ...] = ()
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scoring:
    """The good rows, and what scores them.

    Args:
        rows: (M,) their positions in the data.
        folder: finished work is kept there.
        provenance: of the scores, so far as it is known before they are computed.
        started: processes that are ready for blocks, None for none.
        note: told what the user should know.
    """

    rows: np.ndarray
    ids: pa.Array
    labels: Labels
    folder: Path
    provenance: Provenance
    started: Pool | None
    note: Callable[[str], None]
    progress: Progress


@dataclass
class Scored:
    """What came of it.

    Args:
        stated: method -> what provenance says beside its parameters.
        facts: for the summary.
        files: write other files, once provenance is whole.
    """

    columns: dict[str, np.ndarray] = field(default_factory=dict)
    stated: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    files: list[Callable[[Provenance], None]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, other: Scored) -> None:
        """Take in what came of other scores."""
        self.columns |= other.columns
        self.stated |= other.stated
        self.facts |= other.facts
        self.files += other.files
        self.warnings += other.warnings

    def told(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of provenance with what scores say beside theirs."""
        return {**parameters, **{name: {**parameters[name], **more} for name, more in self.stated.items()}}


@dataclass(frozen=True)
class Source(ABC, Generic[Loaded]):
    """Where scores come from."""

    job: Job

    @abstractmethod
    def plan(self, figures: Figures) -> Figures:
        """Return what all costs with this source, where what came before it costs ``figures``."""

    def require_room(self, figures: Figures) -> None:
        """Raise an InputError where memory or disk are less than it needs; most take little."""

    def workers_ahead(self, figures: Figures) -> AbstractContextManager[Pool | None]:
        """Return processes that get ready while the inputs are read; None of a source without blocks of work."""
        return nullcontext()

    def origin(self) -> SourceFacts:
        """Return what provenance says of it, beside the data."""
        return SourceFacts()

    @abstractmethod
    def load(self, reading: Reading) -> Loaded:
        """Return what it reads of the rows; of the good ones alone once the reading is settled."""

    @abstractmethod
    def scores(self, loaded: Loaded, scoring: Scoring) -> Scored:
        """Return the scores of the good rows."""
