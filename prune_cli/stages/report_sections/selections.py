"""What is kept: of each class, how much of it is wrong, and the curve of windows that led there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prune_cli.core.plots import Plot, Series
from prune_cli.stages.report_files import ReportFile
from prune_cli.stages.report_rows import ReportRows
from prune_cli.stages.report_sections.section import Section, Table

_MANY = 60


def selections_section(rows: ReportRows) -> Section | None:
    """Return the share kept of each class of every selection, and the share of wrong labels in it."""
    if not rows.selections:
        return None
    section = Section("selections", "What is kept")
    total = len(rows.ids)
    table = []
    for name, mask in rows.selections.items():
        row = [name, f"{int(mask.sum()):,}", f"{total:,}", f"{mask.mean():.2%}"]
        if rows.wrong_n is not None:
            row.append(f"{rows.wrong_n[mask].mean():.2%}" if mask.any() else "")
        table.append(tuple(row))
    heading = ["selection", "kept", "rows", "share"]
    if rows.wrong_n is not None:
        heading.append(f"wrong labels ({rows.wrong_n.mean():.2%} of all)")
    section.blocks.append(Table("selections", heading, table, tuple(range(1, len(heading)))))
    if rows.labels is not None:
        for number, (name, mask) in enumerate(rows.selections.items()):
            section.blocks += _per_class(rows, name, mask, f"kept-{number}")
    return section


def _per_class(rows: ReportRows, name: str, mask: np.ndarray, key: str) -> list[Plot | Table]:
    assert rows.labels is not None
    codes, names = rows.labels.codes_n, rows.labels.display_names()
    known = codes >= 0
    there = np.bincount(codes[known], minlength=len(names))
    kept = np.bincount(codes[known & mask], minlength=len(names))
    shares = [k / t if t else 0.0 for k, t in zip(kept.tolist(), there.tolist(), strict=True)]
    counted = [
        (n, f"{k:,}", f"{t:,}", f"{s:.1%}")
        for n, k, t, s in zip(names, kept.tolist(), there.tolist(), shares, strict=True)
    ]
    table = Table(f"{name}: kept of each class", ("class", "kept", "rows", "share"), counted, (1, 2, 3))
    if len(names) > _MANY:
        return [table]
    words = f"Share kept of each class in {name}: " + ", ".join(
        f"{n} {s:.0%}" for n, s in zip(names, shares, strict=True)
    )
    bars = Series("", list(range(len(names))), shares)
    level = [("share of all", float(mask.mean()))]
    plot = Plot(
        key, f"{name}: share kept of each class", "class", "share kept", [bars], "bars", names, level, "y", words=words
    )
    return [plot, table]


def curves_section(curves: Sequence[ReportFile]) -> Section | None:
    """Return the accuracy of the linear proxy over the start of the window, a line a budget."""
    if not curves:
        return None
    section = Section("curve", "Windows of difficulty")
    for number, file in enumerate(curves):
        rows = file.source.read(["count", "fraction", "method", "start", "proxy_accuracy", "best"]).to_pylist()
        counts = list(dict.fromkeys(row["count"] for row in rows))
        series, best = [], []
        for count in counts:
            mine = [row for row in rows if row["count"] == count]
            marked = [i for i, row in enumerate(mine) if row["best"]]
            name = f"{mine[0]['fraction']:.3g} kept"
            starts = [row["start"] if row["start"] is not None else i for i, row in enumerate(mine)]
            series.append(Series(name, starts, [row["proxy_accuracy"] for row in mine], marked=marked))
            top = mine[marked[0]]
            found = top["method"] if top["start"] is None else f"{top['start']:.0%}"
            best.append((name, f"{count:,}", found, f"{top['proxy_accuracy']:.4f}"))
        by_start = all(row["start"] is not None for row in rows)
        ticks = None if by_start else list(dict.fromkeys(row["method"] for row in rows))
        words = "Best: " + "; ".join(f"{b[0]}: start {b[2]}, accuracy {b[3]}" for b in best)
        label = "start of the window: share of samples that are harder" if by_start else "method"
        section.blocks.append(
            Plot(
                f"curve-{number}", f"{file.name}: what was tried", label, "accuracy of the linear proxy", series, "lines",
                ticks, (), "x" if by_start else "", words=words,
            )
        )  # fmt: skip
        section.blocks.append(
            Table(f"{file.name}: the best of each budget", ("budget", "rows", "best", "proxy accuracy"), best, (1, 3))
        )
    return section
