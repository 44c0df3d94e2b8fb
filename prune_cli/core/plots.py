"""What a plot shows, apart from how it is drawn: the same numbers go into the page and into files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Series:
    """One line, set of bars or cloud of points.

    Args:
        name: for the legend; empty for none.
        x, y: coordinates; for bars ``x`` are places.
        low, high: bounds of ``y``, or None.
        marked: places in ``x`` that are marked, as the best of a curve.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    marked: Sequence[int] = ()


@dataclass(frozen=True)
class Plot:
    """A plot.

    Args:
        key: name of its files: letters, digits, hyphens.
        x_label, y_label: with units.
        series: what is drawn, in the order of the legend.
        kind: lines, bars on top of one another, steps of a histogram on top of one another (``x`` are edges), or points.
        ticks: names of the places 0, 1, ... on the x axis, or None for numbers.
        levels: name -> height of horizontal lines, as of a baseline.
        percent: which axes are shares from 0 to 1, shown as percent: "", "x", "y" or "xy".
        log: whether the x axis is logarithmic.
        words: the plot in one sentence, for who cannot see it.
    """

    key: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    kind: Literal["lines", "bars", "histogram", "points"] = "lines"
    ticks: Sequence[str] | None = None
    levels: Sequence[tuple[str, float]] = ()
    percent: Literal["", "x", "y", "xy"] = ""
    log: bool = False
    words: str = ""


@dataclass(frozen=True)
class HeatMap:
    """A table of numbers as shades.

    Args:
        key, title, x_label, y_label, words: as in `Plot`.
        values: rows of numbers.
        columns, rows: names of them.
    """

    key: str
    title: str
    x_label: str
    y_label: str
    values: Sequence[Sequence[float]]
    columns: Sequence[str]
    rows: Sequence[str]
    words: str = ""
