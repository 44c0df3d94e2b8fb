"""Plots drawn by matplotlib: as SVG that takes the page's colours, and as files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from prune_cli.core.plots import HeatMap, Plot, Series
from prune_cli.io.stores.atomic import atomic_file
from prune_cli.io.stores.locations import name_of

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#7f6000", "#6a51a3")
"""Wong's colours, told apart by colour-blind readers, yellow darkened for white paper."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", "--", "-.", ":")
_INK, _FAINT, _PAPER = "#111213", "#d1d2d3", "#fefdfc"
_LONGEST_NAME = 28
_SETTINGS: Any = {"svg.fonttype": "none", "font.size": 11.0, "text.parse_math": False, "font.family": "DejaVu Sans"}


def inline_svg(plot: Plot | HeatMap) -> str:
    """Return a plot as an SVG element for a page; ink, grid and paper are the page's ``--ink``, ``--line`` and ``--paper``.

    Text stays text, so that it can be read aloud, searched and copied. The same plot gives the same bytes.
    """
    text = _saved(plot, "svg").decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*\n\s*", "\n", text)
    for before in ('id="', "url(#", 'href="#'):  # of its own among all plots of a page
        text = text.replace(before, f"{before}{plot.key}-")
    for colour, name in ((_INK, "ink"), (_FAINT, "line"), (_PAPER, "paper")):
        text = text.replace(colour, f"var(--{name})")
    for number, colour in enumerate(PALETTE):
        text = text.replace(colour, f"var(--series-{number})")
    # what a style attribute names by var() is heeded there, in an attribute of its own it is not
    text = re.sub(r' (fill|stroke|stop-color)="(var\([^"]*\))"', r' style="\1: \2"', text)
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1)


def write_plot(plot: Plot | HeatMap, output: str | Path) -> None:
    """Write a plot as PNG or SVG, as the name's ending says, whole or not at all. The same plot gives the same bytes."""
    with atomic_file(output) as file:
        file.write(_saved(plot, name_of(output).rpartition(".")[2]))


def short(name: str, length: int = _LONGEST_NAME) -> str:
    """Return a name that fits beside an axis: long ones lose their middle.

    >>> short("a" * 50, 9)
    'aaaa…aaaa'
    """
    if len(name) <= length:
        return name
    return f"{name[: length // 2]}…{name[len(name) - (length - 1) // 2 :]}"


def _saved(plot: Plot | HeatMap, suffix: str) -> bytes:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({**_SETTINGS, "svg.hashsalt": plot.key}):
        figure = Figure(figsize=(7.6, 4.2), dpi=120, layout="constrained", facecolor=_PAPER)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(facecolor=_PAPER)
        if isinstance(plot, HeatMap):
            _heat(figure, axes, plot)
        else:
            _plot(axes, plot)
        axes.set_title(short(plot.title, 70), loc="left", color=_INK, fontsize="medium", fontweight="bold")
        axes.set_xlabel(plot.x_label, color=_INK)
        axes.set_ylabel(plot.y_label, color=_INK)
        axes.tick_params(colors=_INK)
        for spine in axes.spines.values():
            spine.set_color(_FAINT)
        buffer = BytesIO()
        metadata: Mapping[str, Any] = {"Date": None, "Creator": None} if suffix == "svg" else {"Software": None}
        figure.savefig(buffer, format=suffix, metadata=metadata)
        return buffer.getvalue()


def _plot(axes: Any, plot: Plot) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.grid(color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    below: list[float] = [0.0] * max((len(s.y) for s in plot.series), default=0)
    for number, series in enumerate(plot.series):
        colour = PALETTE[number % len(PALETTE)]
        name = short(series.name)
        stacked: Any = {"color": colour, "label": name, "hatch": ("", "//", "..")[number % 3], "edgecolor": _PAPER}
        if plot.kind == "histogram":
            top = [b + y for b, y in zip(below, series.y, strict=False)]
            axes.stairs(top, series.x, baseline=below[: len(top)], fill=True, alpha=0.85, **stacked)
            below = top
        elif plot.kind == "bars":
            axes.bar(series.x, series.y, 0.8, bottom=below[: len(series.y)], **stacked)
            below = [b + y for b, y in zip(below, series.y, strict=True)]
        elif plot.kind == "points":
            axes.plot(
                series.x, series.y, linestyle="", marker=_MARKERS[number % len(_MARKERS)], color=colour,
                markersize=3 if len(series.x) > 40 else 7,
                alpha=0.6, label=name, rasterized=len(series.x) > 500, zorder=10 - number,
            )  # fmt: skip
        else:
            _line(axes, series, number, colour, name)
    for number, series in enumerate(plot.series):
        for place in series.marked:
            axes.plot(
                series.x[place], series.y[place], marker="o", markersize=12, markerfacecolor="none",
                markeredgecolor=PALETTE[number % len(PALETTE)],
            )  # fmt: skip
    for number, (name, height) in enumerate(plot.levels):
        axes.axhline(height, color=_INK, linestyle=_DASHES[(number + 1) % len(_DASHES)], linewidth=1, label=short(name))
    if plot.log:
        axes.set_xscale("log")
        places = sorted({x for s in plot.series for x in s.x})
        axes.set_xticks(places, [f"{x:.0%}" if "x" in plot.percent else f"{x:g}" for x in places])
        axes.minorticks_off()
    elif plot.ticks is not None:
        slanted = sum(len(short(t, 16)) for t in plot.ticks) > 70
        names = [short(t, 16) for t in plot.ticks]
        axes.set_xticks(range(len(names)), names, rotation=40 if slanted else 0, ha="right" if slanted else "center")
    elif "x" in plot.percent:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    if "y" in plot.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    named = [s for s in plot.series if s.name]
    if named or plot.levels:
        count = len(named) + len(plot.levels)
        legend = axes.figure.legend(
            loc="outside right upper", fontsize="small", labelcolor=_INK, facecolor=_PAPER, edgecolor=_FAINT,
            ncols=1 + count // 14,
        )  # fmt: skip
        for handle in legend.legend_handles:
            if plot.kind == "points":
                handle.set_markersize(7)


def _line(axes: Any, series: Series, number: int, colour: str, name: str) -> None:
    style = _DASHES[number // len(PALETTE) % len(_DASHES)]
    marker = _MARKERS[number % len(_MARKERS)] if len(series.x) <= 40 else ""
    axes.plot(series.x, series.y, style, color=colour, marker=marker, markersize=5, label=name)
    if series.low is not None and series.high is not None:
        axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.15, linewidth=0)


def _heat(figure: Any, axes: Any, plot: HeatMap) -> None:
    top = max((max(row) for row in plot.values), default=1.0) or 1.0
    for i, row in enumerate(plot.values):
        for j, value in enumerate(row):
            if value:
                axes.add_patch(_cell(j, i, value / top))
    axes.set_xlim(-0.5, len(plot.columns) - 0.5)
    axes.set_ylim(len(plot.rows) - 0.5, -0.5)
    step = max(1, len(plot.columns) // 20)
    shown = range(0, len(plot.columns), step)
    axes.set_xticks(list(shown), [short(plot.columns[i], 14) for i in shown], rotation=40, ha="right")
    axes.set_yticks(list(shown), [short(plot.rows[i], 14) for i in shown])
    if len(plot.columns) <= 12:
        for i, row in enumerate(plot.values):
            for j, value in enumerate(row):
                if value:
                    axes.text(j, i, f"{value:g}", ha="center", va="center", fontsize=8, color=_INK)


def _cell(column: int, row: int, share: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=PALETTE[5], alpha=0.1 + 0.9 * share, linewidth=0)
