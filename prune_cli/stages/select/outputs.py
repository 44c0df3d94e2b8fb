"""Where the answers go: a file a budget, and the curve of what was tried, as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prune_cli.core.errors import InputError
from prune_cli.core.plots import Plot, Series
from prune_cli.io.stores.atomic import check_output
from prune_cli.io.stores.locations import STDIN, beside
from prune_cli.methods.registry.lookup import methods_of
from prune_cli.stages.select.inputs import Inputs
from prune_cli.stages.select.request import Budget, Request, budgets_of


@dataclass(frozen=True)
class CurvePlot:
    """A curve's plot, and for each budget: its name, rows, the best start or method, and the proxy's accuracy there."""

    plot: Plot
    best: Sequence[tuple[str, str, str, str]]


def curve_plot(rows: Sequence[Mapping[str, Any]], key: str, title: str) -> CurvePlot:
    """Return the accuracy of the proxy over the start of the window, a line a budget with its best marked.

    Where trials have no start (methods other than windows), over the methods.

    Args:
        rows: with ``count``, ``fraction``, ``method``, ``start``, ``proxy_accuracy``, ``best``.
    """
    by_start = all(row["start"] is not None for row in rows)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    series, best = [], []
    for count in dict.fromkeys(row["count"] for row in rows):
        mine = [row for row in rows if row["count"] == count]
        marked = [i for i, row in enumerate(mine) if row["best"]]
        name = f"{mine[0]['fraction']:.3g} kept"
        places = [row["start"] if by_start else methods.index(row["method"]) for row in mine]
        series.append(Series(name, places, [row["proxy_accuracy"] for row in mine], marked=marked))
        top = mine[marked[0]]
        found = f"{top['start']:.0%}" if by_start else top["method"]
        best.append((name, f"{count:,}", found, f"{top['proxy_accuracy']:.4f}"))
    plot = Plot(
        key, title,
        "start of the window: share of samples that are harder" if by_start else "method",
        "accuracy of the linear proxy on all samples", series,
        "lines" if by_start else "points", None if by_start else methods, (), "x" if by_start else "",
        words="Best: " + "; ".join(f"{b[0]}: {'start ' if by_start else ''}{b[2]}, accuracy {b[3]}" for b in best),
    )  # fmt: skip
    return CurvePlot(plot, best)


@dataclass(frozen=True)
class Outputs:
    """Where the answers go.

    Args:
        base: what their names are made of.
        curve: the file of the curve, where a method tries several answers; None for standard output, which is one file.
    """

    base: str
    budgets: Sequence[Budget]
    curve: str | None

    def check(self, request: Request) -> None:
        """Raise where one of them is there already, or a plot is wanted of which there is none."""
        options, tries = request.options, request.method.tries
        outputs = [budget.output for budget in self.budgets]
        if options.plot and (not tries or self.curve is None):
            trying = " or ".join(f"--method {m.name}" for m in methods_of("selection").values() if m.tries)
            raise InputError("--plot draws the curve of what a method tried, and there is none here", f"use {trying}, and a file for -o")
        if tries and self.curve is not None:
            outputs += [self.curve, *([beside(self.curve, ".png")] if options.plot else [])]
        for output in outputs:
            check_output(output, options.force)


def outputs_of(request: Request, inputs: Inputs) -> Outputs:
    """Return where the answers go."""
    base = request.options.output or f"{inputs.scores.stem.removesuffix('.scores')}.selection.parquet"
    budgets = budgets_of(request.options, len(inputs.scores.ids), base)
    return Outputs(base, budgets, None if base == STDIN else beside(base, ".curve.parquet"))
