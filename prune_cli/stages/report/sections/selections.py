"""What is kept: how the scores are spread, of each class, how much of it is wrong, and the curve of windows that led there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prune_cli.core.plots import Plot, Series
from prune_cli.io.ids.columns import Labels
from prune_cli.stages.evaluate.relabels import noise_share
from prune_cli.stages.report.files import JoinedRows, ReportFile
from prune_cli.stages.report.sections.section import Section, Table
from prune_cli.stages.select.outputs import curve_plot

_BINS = 50


def scores_section(rows: JoinedRows) -> Section | None:
    """Return a histogram of each score column, and a table of their quantiles."""
    if not rows.scores:
        return None
    section = Section("scores", "Scores")
    table = []
    for name, values_n in rows.scores.items():
        finite = values_n[np.isfinite(values_n)]
        if not len(finite):
            section.blocks.append(f"{name}: no row has a value.")
            continue
        direction = rows.directions.get(name)
        means = f"{direction} when high" if direction else "direction not stated"
        low, high = np.quantile(finite, [0.001, 0.999])
        low, high = (low, high) if high > low else (finite.min() - 0.5, finite.max() + 0.5)
        edges = np.linspace(low, high, _BINS + 1)
        parts = [("kept", rows.selected), ("not kept", ~rows.selected)] if rows.selected is not None else [("", None)]
        series = []
        for label, mask in parts:
            values = values_n[mask] if mask is not None else values_n
            counts, _ = np.histogram(values[np.isfinite(values)].clip(low, high), edges)
            series.append(Series(label, edges.tolist(), counts.tolist()))
        middle = float(np.median(finite))
        words = f"Histogram of {name}, {means}: {len(finite):,} rows, median {middle:.4g}."
        plot = Plot(f"score-{_key(name)}", f"{name}: {means}", name, "rows", series, "histogram", words=words)
        section.blocks.append(plot)
        quantiles = np.quantile(finite, [0, 0.25, 0.5, 0.75, 1])
        table.append((name, means, f"{len(finite):,}", f"{len(values_n) - len(finite):,}", *(f"{q:.4g}" for q in quantiles)))
    heading = ("score", "direction", "rows", "missing", "lowest", "quarter", "median", "three quarters", "highest")
    section.blocks.append(Table("scores in numbers", heading, table, tuple(range(2, 9))))
    if any(len(v) > 1000 for v in rows.scores.values()):
        section.blocks.append("The outermost thousandth at either end is counted in the outermost bars.")
    return section


def _key(name: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in name)[:60]


_MANY = 60


def selections_section(rows: JoinedRows) -> Section | None:
    """Return the share kept of each class of every selection, and the share of wrong labels in it."""
    if not rows.selections:
        return None
    section = Section("selections", "What is kept")
    total, of_all = len(rows.ids), noise_share(rows.wrong_n)
    table = []
    for name, mask in rows.selections.items():
        row = [name, f"{int(mask.sum()):,}", f"{total:,}", f"{mask.mean():.2%}"]
        if of_all is not None:
            noise = noise_share(rows.wrong_n, mask)
            row.append("" if noise is None else f"{noise:.2%}")
        table.append(tuple(row))
    heading = ["selection", "kept", "rows", "share"]
    if of_all is not None:
        heading.append(f"wrong labels ({of_all:.2%} of all)")
    section.blocks.append(Table("selections", heading, table, tuple(range(1, len(heading)))))
    if rows.labels is not None:
        for number, (name, mask) in enumerate(rows.selections.items()):
            section.blocks += _per_class(rows.labels, name, mask, f"kept-{number}")
    return section


def _per_class(labels: Labels, name: str, mask: np.ndarray, key: str) -> list[Plot | Table]:
    codes, names = labels.codes_n, labels.display_names()
    known = codes >= 0
    there = np.bincount(codes[known], minlength=len(names))
    kept = np.bincount(codes[known & mask], minlength=len(names))
    shares = [k / t if t else 0.0 for k, t in zip(kept.tolist(), there.tolist(), strict=True)]
    counted = [(n, f"{k:,}", f"{t:,}", f"{s:.1%}") for n, k, t, s in zip(names, kept.tolist(), there.tolist(), shares, strict=True)]
    table = Table(f"{name}: kept of each class", ("class", "kept", "rows", "share"), counted, (1, 2, 3))
    if len(names) > _MANY:
        return [table]
    words = f"Share kept of each class in {name}: " + ", ".join(f"{n} {s:.0%}" for n, s in zip(names, shares, strict=True))
    bars = Series("", list(range(len(names))), shares)
    level = [("share of all", float(mask.mean()))]
    plot = Plot(key, f"{name}: share kept of each class", "class", "share kept", [bars], "bars", names, level, "y", words=words)
    return [plot, table]


def curves_section(curves: Sequence[ReportFile]) -> Section:
    """Return the accuracy of the linear proxy over the start of the window, a line a budget."""
    section = Section("curve", "Windows of difficulty")
    for number, file in enumerate(curves):
        rows = file.source.read(["count", "fraction", "method", "start", "proxy_accuracy", "best"]).to_pylist()
        curve = curve_plot(rows, f"curve-{number}", f"{file.name}: what was tried")
        heading = ("budget", "rows", "best", "proxy accuracy")
        section.blocks += [curve.plot, Table(f"{file.name}: the best of each budget", heading, curve.best, (1, 3))]
    return section
