"""What is kept: of each class, how much of it is wrong, and the curve of windows that led there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prune_cli.core.plots import Plot, Series
from prune_cli.io.ids.columns import Labels
from prune_cli.stages.evaluate.label_noise import noise_share
from prune_cli.stages.report.files import ReportFile
from prune_cli.stages.report.rows import JoinedRows
from prune_cli.stages.report.sections.section import Section, Table
from prune_cli.stages.select.curves import curve_plot

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
        curve = curve_plot(rows, f"curve-{number}", f"{file.name}: what was tried")
        heading = ("budget", "rows", "best", "proxy accuracy")
        section.blocks += [curve.plot, Table(f"{file.name}: the best of each budget", heading, curve.best, (1, 3))]
    return section
