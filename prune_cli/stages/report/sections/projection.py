"""Embeddings in two dimensions: principal components of a sample of the rows."""

from __future__ import annotations

import numpy as np

from prune_cli.core.plots import Plot, Series
from prune_cli.core.rng import generator
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.stages.report.files import JoinedRows
from prune_cli.stages.report.sections.section import Section

MOST = 20_000
_CLASSES = 8


def projection_section(rows: JoinedRows, dataset: Dataset | None) -> Section | None:
    """Return the embeddings as points, by class and by what is kept; nothing for pictures."""
    if dataset is None or dataset.kind != "embedding":
        return None
    positions = np.arange(len(dataset))
    if len(positions) > MOST:
        positions = np.sort(generator(0, "report", "projection").permutation(len(positions))[:MOST])
    ledger = Ledger()
    vectors = dataset.load_inputs(ledger, rows=positions)
    good = ledger.good(len(dataset))[positions]
    positions, vectors = positions[good], vectors[good].astype(np.float64)
    if len(positions) < 3 or vectors.shape[1] < 2:
        return None
    points, share = principal_components(vectors)
    about = f"Principal components of {len(positions):,} of {len(dataset):,} rows; the two hold {share:.0%} of the variance."
    section = Section("projection", "Embeddings in two dimensions", [about])
    if rows.labels is not None:
        codes = rows.labels.codes_n[positions]
        names = rows.labels.display_names()
        largest = np.argsort(-np.bincount(codes[codes >= 0], minlength=len(names)), kind="stable")[: _CLASSES - 1]
        series = [_series(names[c], points[codes == c]) for c in sorted(largest.tolist())]
        others = ~np.isin(codes, largest)
        if others.any():
            series.append(_series(f"{len(names) - len(largest)} other class(es)", points[others]))
        section.blocks.append(_plot("classes", "by class", series))
    if rows.selected is not None:
        kept = rows.selected[positions]
        series = [_series("kept", points[kept]), _series("not kept", points[~kept])]
        section.blocks.append(_plot("kept", "by what is kept", series))
    if rows.labels is None and rows.selected is None:
        section.blocks.append(_plot("rows", "all rows", [_series("", points)]))
    return section


def principal_components(vectors_nd: np.ndarray) -> tuple[np.ndarray, float]:
    """Return (N, 2) coordinates along the two directions of largest variance, and the share of the variance they hold.

    The sign of each is such that the largest coordinate by absolute value is positive.

    Args:
        vectors_nd: (N, D) float64.
    """
    centred = vectors_nd - vectors_nd.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    points = centred @ directions[:, ::-1][:, :2]
    largest = np.abs(points).argmax(axis=0)
    points *= np.where(points[largest, [0, 1]] < 0, -1.0, 1.0)
    total = float(variances.clip(0).sum())
    return points, float(variances[::-1][:2].clip(0).sum() / total) if total > 0 else 1.0


def _series(name: str, points: np.ndarray) -> Series:
    return Series(name, points[:, 0].tolist(), points[:, 1].tolist())


def _plot(key: str, title: str, series: list[Series]) -> Plot:
    words = "Points of the two first principal components: " + ", ".join(f"{len(s.x):,} {s.name}" for s in series) + "."
    return Plot(f"projection-{key}", f"Embeddings {title}", "first component", "second component", series, "points", words=words)
