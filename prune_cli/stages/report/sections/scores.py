"""How the scores are spread, among what is kept and what is not."""

from __future__ import annotations

import numpy as np

from prune_cli.core.plots import Plot, Series
from prune_cli.stages.report.rows import JoinedRows
from prune_cli.stages.report.sections.section import Section, Table

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
        table.append(
            (name, means, f"{len(finite):,}", f"{len(values_n) - len(finite):,}", *(f"{q:.4g}" for q in quantiles))
        )
    heading = ("score", "direction", "rows", "missing", "lowest", "quarter", "median", "three quarters", "highest")
    section.blocks.append(Table("scores in numbers", heading, table, tuple(range(2, 9))))
    if any(len(v) > 1000 for v in rows.scores.values()):
        section.blocks.append("The outermost thousandth at either end is counted in the outermost bars.")
    return section


def _key(name: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in name)[:60]
