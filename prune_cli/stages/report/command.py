"""``prune report``: files in, one page of HTML out that says what was done, what is kept, and whether it pays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prune_cli.core.errors import InputError
from prune_cli.core.plots import HeatMap, Plot
from prune_cli.core.progress import Progress, silent
from prune_cli.io.manifests.data import DataOptions, Dataset
from prune_cli.io.pages.drawing import inline_svg, write_plot
from prune_cli.io.pages.page import page_html, safe_svg
from prune_cli.io.parquet.tables import open_output
from prune_cli.io.stores.atomic import check_output
from prune_cli.stages.evaluate.relabels import noise_share
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.report.files import FileKind, JoinedRows, ReportFile, of_kind, read_file, read_rows
from prune_cli.stages.report.sections.comparisons import comparison_section, verdict
from prune_cli.stages.report.sections.history import history_section
from prune_cli.stages.report.sections.projection import projection_section
from prune_cli.stages.report.sections.runs import evaluation_section, ledger_section, relabels_section, runs_section
from prune_cli.stages.report.sections.samples import samples_section
from prune_cli.stages.report.sections.section import Block, Details, Drawing, SampleGrid, Section, Table
from prune_cli.stages.report.sections.selections import curves_section, scores_section, selections_section

SAMPLES = 12
_ROW_BYTES, _PROCESS_BYTES = 500, 400 * 2**20


@dataclass(frozen=True)
class ReportOptions:
    """The options of ``prune report``; see docs/commands.md.

    Args:
        files: of any kind and in any order.
        data: how the data manifest is read; its location is empty where none is named.
        samples: of each class and kind in the grids.
        plots: folder that every plot is also written to, as PNG and SVG.
    """

    files: tuple[str, ...]
    data: DataOptions
    samples: int = SAMPLES
    plots: Path | None = None
    title: str | None = None
    output: str | None = None
    force: bool = False
    plan: bool = False


def report(options: ReportOptions, progress: Progress = silent) -> Outcome:
    """Write one page about some files.

    Returns:
        Outcome whose output is the page, and the plots where they are wanted.
    Raises:
        InputError: a file that is none of ours, or files of different data; nothing is written.
    """
    watch = Stopwatch()
    if not options.files:
        raise InputError("a report of no files", "name what prune wrote: scores, selections, reports, run folders")
    named = (*options.files, *((options.data.location,) if options.data.location else ()))
    files = [read_file(location) for location in dict.fromkeys(named)]
    dataset = _dataset(options, files)
    first = files[0].name.removesuffix(".parquet")
    output = options.output or f"{first}.report.html"
    if options.plan:
        rows = max([file.source.rows for file in of_kind(files, "scores", "selection")] or [0])
        figures = {
            "files": len(files),
            "rows": rows,
            "algorithm": "what each file allows, on one page",
            "peak_memory_bytes": _PROCESS_BYTES + _ROW_BYTES * rows,
            "disk_bytes": 400_000,
        }
        return plan_outcome("report", figures)
    check_output(output, options.force)
    outcome = Outcome()
    rows_found = read_rows(files, dataset)
    sections = _sections(files, rows_found, dataset, options, progress)
    said = verdict(of_kind(files, "comparison"))
    page = page_html(
        {
            "title": options.title or f"Report: {first}",
            "verdict": said,
            "verdict_class": "bad" if said and " 0 failed" not in said else "good" if " 0 undecided" in said else "",
            "figures": _figures(files, rows_found),
            "sections": [{"key": s.key, "title": s.title, "blocks": [_shown(block, progress) for block in s.blocks]} for s in sections],
        }
    )
    content = page.encode()
    plots = [b for s in sections for b in s.blocks if isinstance(b, Plot | HeatMap)]
    if options.plots is not None:
        options.plots.mkdir(parents=True, exist_ok=True)
        drawn = {options.plots / f"{plot.key}.{suffix}": plot for plot in plots for suffix in ("png", "svg")}
        for path in drawn:
            check_output(path, options.force)
        for path, plot in drawn.items():
            write_plot(plot, path)
    with open_output(output) as file:
        file.write(content)
    outcome.outputs = [output]
    outcome.tables["page"] = [["part", "of"], *([s.title, _counted(s)] for s in sections)]
    folder = None if options.plots is None else str(options.plots)
    told = {"sections": [s.key for s in sections], "plots": len(plots), "plots_folder": folder}
    outcome.summary = watch.summary("report", output=output, bytes=len(content), **told)
    return outcome


def _dataset(options: ReportOptions, files: Sequence[ReportFile]) -> Dataset | None:
    """Return the data: as named, or the data manifest among the files; raise where there are several."""
    if options.data.location:
        return Dataset(options.data)
    own = of_kind(files, "data")
    if len(own) > 1:
        raise InputError(f"{len(own)} data manifests: {', '.join(f.name for f in own)}", "name the one that the others are of: --data")
    return Dataset(dataclasses.replace(options.data, location=own[0].source.location)) if own else None


def _sections(
    files: Sequence[ReportFile], rows: JoinedRows | None, dataset: Dataset | None, options: ReportOptions, progress: Progress
) -> list[Section]:
    def about(kind: FileKind, section: Callable[[Sequence[ReportFile]], Section]) -> Section | None:
        return section(found) if (found := of_kind(files, kind)) else None

    made = [
        about("comparison", comparison_section),
        selections_section(rows) if rows is not None else None,
        about("curve", curves_section),
        scores_section(rows) if rows is not None else None,
        projection_section(rows, dataset) if rows is not None else None,
        about("run", runs_section),
        about("relabels", relabels_section),
        about("evaluation", evaluation_section),
        samples_section(rows, dataset, options.samples) if rows is not None else None,
        about("ledger", ledger_section),
        history_section(files),
    ]
    return [section for section in made if section is not None]


def _shown(block: Block, progress: Progress) -> tuple[str, Any]:
    if isinstance(block, Plot | HeatMap):
        progress("drawing", 0, 0, None)
        return "plot", {"svg": safe_svg(inline_svg(block)), "words": block.words or block.title}
    if isinstance(block, Drawing):
        return "drawing", {"svg": safe_svg(block.svg), "words": block.words}
    return {Table: "table", SampleGrid: "grid", Details: "details"}.get(type(block), "text"), block


def _figures(files: Sequence[ReportFile], rows: JoinedRows | None) -> list[tuple[str, str]]:
    figures = [("files", f"{len(files):,}")]
    if rows is not None:
        figures.append(("rows", f"{len(rows.ids):,}"))
        if rows.labels is not None:
            figures.append(("classes", f"{len(rows.labels.classes):,}"))
        if rows.selected is not None:
            figures.append(("kept", f"{int(rows.selected.sum()):,} ({rows.selected.mean():.1%})"))
        noise = noise_share(rows.wrong_n)
        if noise is not None:
            figures.append(("wrong labels", f"{noise:.1%}"))
    return figures


def _counted(section: Section) -> str:
    plots = sum(isinstance(b, Plot | HeatMap) for b in section.blocks)
    tables = sum(isinstance(b, Table) for b in section.blocks)
    samples = sum(len(b.cells) for b in section.blocks if isinstance(b, SampleGrid))
    return ", ".join(f"{n:,} {what}" for n, what in ((plots, "plots"), (tables, "tables"), (samples, "samples")) if n)
