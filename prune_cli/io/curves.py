"""The curve of what a selection tried: a picture of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.io.atomic import atomic_file


def draw_curve(path: Path, curve: pa.Table) -> None:
    """Draw the accuracy of the proxy over the start of the window, a line a budget, the best one marked.

    Where trials have no start (other methods than windows), a group of bars a budget.

    Args:
        path: the PNG, written whole or not at all.
        curve: columns ``count``, ``fraction``, ``method``, ``start``, ``proxy_accuracy``, ``best``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    counts = pc.unique(curve["count"]).to_pylist()
    shades = _shades(len(counts))
    with_start = curve["start"].null_count == 0
    for place, count in enumerate(counts):
        rows = curve.filter(pc.equal(curve["count"], count))
        name = f"{rows['fraction'][0].as_py():.3g}"
        accuracy = rows["proxy_accuracy"].to_pylist()
        if with_start:
            starts = rows["start"].to_pylist()
            axes.plot(starts, accuracy, color=shades[place], marker=".", label=name)
            best = rows["best"].to_pylist().index(True)
            axes.plot(
                starts[best], accuracy[best], color=shades[place], marker="o", markersize=9, markerfacecolor="none"
            )
        else:
            methods = rows["method"].to_pylist()
            width = 0.8 / len(counts)
            axes.bar([i + place * width for i in range(len(methods))], accuracy, width, color=shades[place], label=name)
            axes.set_xticks([i + 0.4 for i in range(len(methods))], methods)
    axes.set_xlabel("start of the window: share of the samples that are harder" if with_start else "method")
    axes.set_ylabel("accuracy of the linear proxy on all samples")
    axes.legend(title="share kept", fontsize="small", ncols=max(1, len(counts) // 10 + 1))
    axes.grid(alpha=0.3)
    FigureCanvasAgg(figure)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


def _shades(number: int) -> Sequence[tuple[float, float, float, float]]:
    from matplotlib import colormaps

    return [colormaps["viridis"](0.9 * i / max(1, number - 1)) for i in range(number)]
