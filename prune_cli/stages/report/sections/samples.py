"""Samples of each class: the hardest, the easiest, the most suspicious, as pictures where there are any."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.thumbnails import Thumbnail, thumbnails
from prune_cli.stages.evaluate.relabels import label_names
from prune_cli.stages.report.files import JoinedRows
from prune_cli.stages.report.sections.section import Cell, SampleGrid, Section

MOST = 10_000
"""Samples on a page at most."""

SUSPICIOUS = ("ntk_margin", "ntk_residual", "p_clean", "label_score", "cg_ab", "aum", "margin")
"""Scores that mark wrong labels, the best known first; see docs/methods.md."""


def samples_section(rows: JoinedRows, dataset: Dataset | None, wanted: int) -> Section | None:
    """Return grids of samples by class; nothing without scores.

    Args:
        dataset: where the pictures are, or None.
        wanted: samples a class and kind; fewer where a page would have more than `MOST`.
    """
    if not rows.scores or wanted < 1:
        return None
    key = rows.key if rows.key is not None else next(iter(rows.scores))
    kinds = [(f"hardest by {key}", key, _difficulty(rows, key)), (f"easiest by {key}", key, -_difficulty(rows, key))]
    suspicious = next((name for name in SUSPICIOUS if name in rows.scores), None)
    if suspicious is not None:
        kinds.append((f"most suspicious by {suspicious}", suspicious, _difficulty(rows, suspicious)))
    if rows.labels is not None:
        names = rows.labels.display_names()
        groups = [(f"{name}: ", np.flatnonzero(rows.labels.codes_n == c)) for c, name in enumerate(names)]
        groups = [(name, members) for name, members in groups if len(members)]
    else:
        groups = [("", np.arange(len(rows.ids)))]
    each = max(1, min(wanted, MOST // (len(groups) * len(kinds))))
    picked = [(f"{name}{what}", column, _top(members, order, each)) for name, members in groups for what, column, order in kinds]
    section = Section("samples", "Samples")
    if each < wanted:
        section.blocks.append(f"{each} a class and kind, so that the page has {MOST:,} samples at most.")
    if rows.wrong_n is not None:
        section.blocks.append("Labels that are known to be wrong are marked with their true class.")
    pictures: dict[int, Thumbnail] = {}
    if dataset is not None and dataset.kind == "image":
        pictures = thumbnails(dataset, sorted({p for _, _, positions in picked for p in positions.tolist()}))
    truth = _truth(rows, dataset)
    for caption, column, positions in picked:
        cells = [_cell(rows, int(p), rows.scores[column][p], pictures.get(int(p)), truth) for p in positions]
        section.blocks.append(SampleGrid(caption, cells))
    return section


def _difficulty(rows: JoinedRows, column: str) -> np.ndarray:
    values = rows.scores[column]
    return -values if rows.directions.get(column) == "easier" else values


def _top(members: np.ndarray, order_n: np.ndarray, count: int) -> np.ndarray:
    values = order_n[members]
    members, values = members[np.isfinite(values)], values[np.isfinite(values)]
    if len(members) > count:
        part = np.argpartition(-values, count - 1)[:count]
        members, values = members[part], values[part]
    return members[np.lexsort((members, -values))]


def _truth(rows: JoinedRows, dataset: Dataset | None) -> np.ndarray | None:
    if rows.wrong_n is None or dataset is None or dataset.true_labels is None:
        return None
    return label_names(dataset.true_labels)


def _cell(rows: JoinedRows, position: int, score: float, picture: Thumbnail | None, truth: np.ndarray | Sequence[str] | None) -> Cell:
    note = ""
    if truth is not None and rows.wrong_n is not None and rows.wrong_n[position] == 1:
        note = f"true: {truth[position]}"
    kept = None if rows.selected is None else bool(rows.selected[position])
    return Cell(picture, str(rows.ids[position].as_py()), f"{score:.3g}", kept, note)
