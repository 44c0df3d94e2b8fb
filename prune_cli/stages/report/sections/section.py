"""What a part of a report page consists of; the template knows nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from prune_cli.core.plots import HeatMap, Plot
from prune_cli.io.manifests.thumbnails import Thumbnail


@dataclass(frozen=True)
class Table:
    """A table of texts; ``numeric`` are the columns that are aligned to the right, ``caption`` says what it is."""

    caption: str
    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[int] = ()


@dataclass(frozen=True)
class Cell:
    """One sample of a grid: a thumbnail or None, its id, its score as text, and a mark for a label that is wrong."""

    thumbnail: Thumbnail | None
    id: str
    score: str
    kept: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class SampleGrid:
    """Samples of one class and kind."""

    caption: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Drawing:
    """An SVG element of our own making, with the same in words."""

    svg: str
    words: str


@dataclass(frozen=True)
class Details:
    """Lines that are shown when they are asked for."""

    summary: str
    lines: Sequence[str]


Block = Details | Table | Plot | HeatMap | SampleGrid | Drawing | str


@dataclass
class Section:
    """A part of the page."""

    key: str
    title: str
    blocks: list[Block] = field(default_factory=list)
