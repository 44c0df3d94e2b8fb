"""What a run would call its samples: how many labels it changed, and into what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.plots import Plot, Series
from prune_cli.stages.report.files import ReportFile
from prune_cli.stages.report.sections.section import Section, Table

_BINS, _CHANGES = 40, 20


def relabels_section(files: Sequence[ReportFile]) -> Section | None:
    """Return the changes of each file of new labels, and how sure the run is that the given ones are right."""
    if not files:
        return None
    section = Section("relabels", "New labels")
    for number, file in enumerate(files):
        found = file.source.read(["label", "new_label", "p_clean"])
        old, new = (found[name].cast(pa.string()) for name in ("label", "new_label"))
        differs = pc.not_equal(old, new).fill_null(False)
        changed = pc.sum(differs).as_py() or 0
        section.blocks.append(
            f"{file.name}: {changed:,} of {len(found):,} labels changed ({changed / len(found):.1%})."
        )
        pairs = (
            pa.table({"label": old, "new label": new})
            .filter(differs)
            .group_by(["label", "new label"])
            .aggregate([([], "count_all")])
        )
        pairs = pairs.sort_by([("count_all", "descending"), ("label", "ascending"), ("new label", "ascending")])
        rows = [(r["label"], r["new label"], f"{r['count_all']:,}") for r in pairs.slice(0, _CHANGES).to_pylist()]
        if rows:
            section.blocks.append(
                Table(f"{file.name}: most frequent changes", ("label", "new label", "rows"), rows, (2,))
            )
        p_clean = found["p_clean"].cast(pa.float64()).to_numpy()
        edges = np.linspace(0, 1, _BINS + 1)
        mask = differs.combine_chunks().to_numpy(zero_copy_only=False)
        series = [
            Series(name, edges.tolist(), np.histogram(p_clean[part & np.isfinite(p_clean)], edges)[0].tolist())
            for name, part in (("label kept", ~mask), ("label changed", mask))
        ]
        section.blocks.append(
            Plot(
                f"p-clean-{number}", f"{file.name}: probability that the given label is right", "p_clean", "rows", series,
                "histogram", words=f"Histogram of p_clean, median {np.nanmedian(p_clean):.3g}.",
            )
        )  # fmt: skip
    return section
