"""What all windows of all budgets cost beside one ridge fit.

    python benchmarks/window.py [--rows 60000] [--features 512] [--classes 10] [--repeats 7] [--write]

Random features with a class mean each. One fit: float64 Gram matrix of all rows, Cholesky, accuracy on all rows. All windows: every
(budget, start) of 5 % to 95 % in steps of 5 %, 209 in all, as ``select --method window`` computes them, once with the
features in memory and once read block by block. Taken in turns; medians, and the median of the ratios. Before, all
accuracies of a smaller problem are compared with a fit for each window.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
from complexity_gap import Table, markdown, write_page

from prune_cli.core.arrays import VectorBatch
from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Features, Run
from prune_cli.methods.selection.window import WindowParams, select_window

FRACTIONS = [k / 20 for k in range(1, 20)]


class Blocks(ArrayFeatures):
    """The same features in the order of a file."""

    ordered = False

    def batches(self, rows: int, order_n: np.ndarray) -> Sequence[VectorBatch]:
        """Return batches in the order of the rows, whatever order is asked for."""
        return super().batches(8192, np.arange(len(order_n)))


def problem(rows: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, classes, rows)
    features = rng.normal(size=(rows, width)).astype(np.float32)
    features += 0.3 * rng.normal(size=(classes, width)).astype(np.float32)[codes]
    return features, codes, rng.normal(size=rows)


def one_fit(features: np.ndarray, codes: np.ndarray, classes: int) -> float:
    """Ridge regression on all rows and its accuracy, float64."""
    rows = torch.from_numpy(features).to(torch.float64)
    labels = torch.from_numpy(codes)
    gram = rows.T @ rows
    gram.diagonal().add_(1.0)
    right = rows.T @ torch.nn.functional.one_hot(labels, classes).to(torch.float64)
    weights = torch.cholesky_solve(right, torch.linalg.cholesky(gram))
    return float(((rows @ weights).argmax(dim=1) == labels).to(torch.float64).mean())


def check() -> None:
    features, codes, difficulty = problem(3000, 64, 10)
    counts = [round(f * 3000) for f in FRACTIONS]
    candidates = Candidates(np.arange(3000), difficulty, codes_n=codes, features=ArrayFeatures(features))
    curve = select_window(candidates, WindowParams(scope="global"), Run(counts, device="cpu")).curve
    assert curve is not None and len(curve.start) == 209
    ranked = np.argsort(-difficulty)
    for row in range(209):
        inside = ranked[curve.window_start[row] : curve.window_start[row] + counts[curve.budget[row]]]
        f, y = features[inside].astype(np.float64), np.eye(10)[codes[inside]]
        weights = np.linalg.solve(f.T @ f + np.eye(64), f.T @ y)
        right = ((features.astype(np.float64) @ weights).argmax(axis=1) == codes).sum()
        assert right == round(curve.proxy_accuracy[row] * 3000), row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true", help="update docs/results/window.md")
    arguments = parser.parse_args()
    check()
    features, codes, difficulty = problem(arguments.rows, arguments.features, arguments.classes)
    counts = [round(f * arguments.rows) for f in FRACTIONS]
    order_n = np.arange(arguments.rows)
    in_memory, cut = ArrayFeatures(features), WindowParams(scope="global")
    kinds: dict[str, tuple[Features, WindowParams]] = {
        "features in memory": (in_memory, cut),
        "features block by block": (Blocks(features), cut),
        "cut inside each class": (in_memory, WindowParams(scope="class")),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ("one fit", *kinds)}
    for _ in range(arguments.repeats + 1):  # the first is a warm-up
        start = time.perf_counter()
        one_fit(features, codes, arguments.classes)
        seconds["one fit"].append(time.perf_counter() - start)
        for name, (source, params) in kinds.items():
            candidates = Candidates(order_n, difficulty, codes_n=codes, features=source)
            start = time.perf_counter()
            select_window(candidates, params, Run(counts, device=arguments.device))
            seconds[name].append(time.perf_counter() - start)
    rows: Table = [("what", "seconds", "times one fit")]
    for name, taken in seconds.items():
        ratio = statistics.median(t / one for t, one in zip(taken[1:], seconds["one fit"][1:], strict=True))
        title = {"one fit": "one ridge fit and its accuracy"}.get(name, f"all 209 windows, {name}")
        rows.append((title, f"{statistics.median(taken[1:]):.2f}", f"{ratio:.1f}"))
    print(markdown(rows))
    if arguments.write:
        write_page(
            "window",
            "Best windows: all budgets beside one fit",
            rows,
            [
                f"{arguments.rows:,} x {arguments.features} float32 features, {arguments.classes} classes; "
                f"medians of {arguments.repeats} turns. "
                "Every accuracy of a problem of 3,000 x 64 equals that of a fit for each window."
            ],
        )


if __name__ == "__main__":
    main()
