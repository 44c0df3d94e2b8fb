"""How fast the complexity gap is, how much memory it takes, what float32 costs it.

    python benchmarks/complexity_gap.py [--write]

On Fashion-MNIST (random pixels where the data is absent): against the published form of the computation, against the
LAPACK calls that would be its floor, its peak memory, float32 against float64, and the whole data set. Times that are
compared are taken in turns in one run, and their medians reported.

On a machine that others use too, set OMP_WAIT_POLICY=passive: threads that spin while they wait for one that has lost
its core make every small step slow.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import scipy.linalg
import scipy.stats
import torch
from numpy.typing import NDArray
from PIL import Image

from prune_cli.methods.scores.kernel.complexity_gap import ComplexityGapParams
from prune_cli.methods.scores.kernel.kernels import ReluKernel
from prune_cli.methods.scores.kernel.pieces.solving import kernel_solution
from prune_cli.methods.scores.kernel.rows.kinds import make_rows
from prune_cli.methods.scores.kernel.sides import SidesResult, score_sides, sides_memory

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
Table = list[tuple[str, ...]]


def read_pixels(path: Path, n_rows: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Return the first rows of an image file as (N, H x W x C) bytes, their labels and their ids."""
    table = pq.read_table(path, columns=["id", "image", "label"]).slice(0, n_rows)
    encoded = [row["bytes"] if isinstance(row, dict) else row for row in table["image"].to_pylist()]
    values = np.stack([np.asarray(Image.open(io.BytesIO(b))).ravel() for b in encoded])
    return values, table["label"].to_numpy().astype(np.int64), table["id"].to_pylist()


def seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def write_page(name: str, title: str, table: Table, notes: list[str], page: str | None = None) -> None:
    """Write docs/results/<page, or name>.md: the command that made it, the hardware, the table, the notes."""
    threads, load = torch.get_num_threads(), os.getloadavg()[1]
    hardware = f"{os.cpu_count()} cores (CPU), {threads} threads, torch {torch.__version__.split('+')[0]}"
    busy = f"Load average over the last five minutes: {load:.1f}"
    if load > threads + 0.5:
        busy += "; other work had part of the cores, so the seconds are too high, while ratios are of times taken in turns"
    given = [a for a in sys.argv[1:] if a not in {"--work", "--data"} and not a.startswith("/")]  # no folder of this machine
    command = " ".join(["python", f"benchmarks/{name}.py", *map(shlex.quote, given)])
    if policy := os.environ.get("OMP_WAIT_POLICY"):
        command = f"OMP_WAIT_POLICY={policy} {command}"
    text = f"# {title}\n\nMade by `{command}` on {hardware}. {busy}.\n\n{markdown(table)}\n"
    (RESULTS / f"{page or name}.md").write_text(text + "".join(f"\n{note}\n" for note in notes))


def markdown(table: Table) -> str:
    head, *body = table
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *body))


def block_of(values: NDArray[np.uint8], n_pos: int) -> Callable[..., SidesResult]:
    """Return the scoring of a block: the first ``n_pos`` rows are the class, as many of the rest the others."""
    kernel = ReluKernel(make_rows(values, 1))
    everyone = np.arange(len(values))

    def score(precision: str = "float64") -> SidesResult:
        return score_sides(kernel, everyone[:n_pos], everyone[n_pos:], device="cpu", precision=precision)

    return score


def kernel_of(values: NDArray[np.uint8]) -> NDArray[np.float64]:
    rows = (values - values.mean()) / values.std()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    kernel = np.empty((len(rows), len(rows)))
    for first in range(0, len(rows), 1000):
        cosines = np.clip(rows[first : first + 1000] @ rows.T, -1.0, 1.0)
        kernel[first : first + 1000] = cosines * (np.pi - np.arccos(cosines)) / (2 * np.pi)
    np.fill_diagonal(kernel, 0.5)
    return kernel


def published_form(values: NDArray[np.uint8], n_pos: int, n_scored: int) -> tuple[NDArray[np.float64], float]:
    """Return the first gaps of a class as published, and the seconds for all of them.

    One inverse; then for each sample a copy of it without the sample's row and column, a rank-one downdate of that
    copy, and the label complexity anew. Our own writing, after Ki, Choi, Chung 2023; timed on ``n_scored`` samples.
    """
    start = time.perf_counter()
    inverse = torch.from_numpy(kernel_of(values)).inverse()
    signs = torch.ones(len(values), dtype=torch.float64)
    signs[n_pos:] = -1.0
    whole = signs @ inverse @ signs
    once = time.perf_counter() - start
    gaps = []
    start = time.perf_counter()
    for i in range(n_scored):
        keep = torch.cat([torch.arange(i), torch.arange(i + 1, len(values))])
        column = inverse[keep, i]
        without = inverse[keep][:, keep] - torch.outer(column, column) / inverse[i, i]
        gaps.append(float(whole - signs[keep] @ without @ signs[keep]))
    each = (time.perf_counter() - start) / n_scored
    return np.array(gaps), once + each * n_pos


def against_published_form(values: NDArray[np.uint8], n_pos: int, n_scored: int, turns: int) -> Table:
    score = block_of(values[: 2 * n_pos], n_pos)
    score()
    ours, theirs = [], []
    for _ in range(turns):
        gaps, total = published_form(values[: 2 * n_pos], n_pos, n_scored)
        theirs.append(total)
        ours.append(seconds(score))
        np.testing.assert_allclose(score().gap_p[:n_scored], gaps, rtol=1e-6)
    a, b = statistics.median(theirs), statistics.median(ours)
    how = f"{n_pos:,} of a class; {a:.1f} s (from {n_scored} samples) and {b:.3f} s"
    return [("published form / ours, time", f"{a / b:,.0f}", ">= 200", how)]


def against_floor(values: NDArray[np.uint8], n_pos: int, turns: int) -> Table:
    n = 2 * n_pos
    score = block_of(values[:n], n_pos)
    kernel = np.asfortranarray(kernel_of(values[:n]))
    buffer = np.empty_like(kernel)
    symmetric = torch.from_numpy(buffer)  # column-major, as LAPACK wants it
    score()
    floors, ours, parts = [], [], []
    for _ in range(turns):
        np.copyto(buffer, kernel)
        scipy_factor = seconds(lambda: scipy.linalg.lapack.dpotrf(buffer, lower=1, clean=0, overwrite_a=1))
        scipy_invert = seconds(lambda: scipy.linalg.lapack.dtrtri(buffer, lower=1, overwrite_c=1))
        np.copyto(buffer, kernel)
        torch_factor = seconds(lambda: torch.linalg.cholesky(symmetric, out=symmetric))
        parts.append((scipy_factor, torch_factor, scipy_invert))
        floors.append(min(scipy_factor, torch_factor) + scipy_invert)
        ours.append(seconds(score))
    floor, mine = statistics.median(floors), statistics.median(ours)
    s_factor, t_factor, invert = (statistics.median(p) for p in zip(*parts, strict=True))
    ratio = statistics.median(m / f for m, f in zip(ours, floors, strict=True))
    how = (
        f"{n:,} rows, {turns} turns; ours with the kernel {mine:.2f} s; floor without it {floor:.2f} s: "
        f"potrf (scipy {s_factor:.2f}, torch {t_factor:.2f}, the faster of each turn) + trtri (scipy {invert:.2f})"
    )
    return [("ours / (potrf + trtri), time", f"{ratio:.2f}", "<= 1.6", how)]


def float32_against_float64(values: NDArray[np.uint8], n_pos: int, turns: int) -> Table:
    score = block_of(values[: 2 * n_pos], n_pos)
    score("float32")
    singles, doubles = [], []
    for _ in range(turns):
        doubles.append(seconds(score))
        singles.append(seconds(lambda: score("float32")))
    double, single = score(), score("float32")
    error = np.abs(single.gap_p - double.gap_p) / np.maximum(double.gap_p, double.gap_p.mean() / 100)
    rank = scipy.stats.spearmanr(single.gap_p, double.gap_p).statistic
    ratio = statistics.median(s / d for s, d in zip(singles, doubles, strict=True))
    rows = f"{2 * n_pos:,} rows"
    return [
        ("float32 / float64, time", f"{ratio:.2f}", "", rows),
        ("float32, largest relative error", f"{error.max():.1e}", "", f"{rows}; median {np.median(error):.1e}"),
        ("float32, rank correlation with float64", f"{rank:.8f}", "", rows),
        ("smallest pivot", f"{double.smallest_pivot:.1e}", "", f"{rows}; jitter {double.jitter:g}"),
    ]


def whole_data_set(values: NDArray[np.uint8], labels: NDArray[np.int64]) -> Table:
    taken = seconds(lambda: kernel_solution(values, labels, ComplexityGapParams(repeats=1), channels=1, device="cpu"))
    return [("all classes, one repeat", f"{taken:.0f} s", "", f"{len(values):,} rows, {len(np.unique(labels))} classes")]


def peak_memory(arguments: argparse.Namespace, n_pos: int) -> Table:
    """Measure in a process of its own, as the highest resident size over what was resident before."""
    table: Table = []
    for precision in ("float64", "float32"):
        command = [sys.executable, __file__, "--data", str(arguments.data), "--positives", str(n_pos), "--peak", precision]
        peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        n, item = 2 * n_pos, 8 if precision == "float64" else 4
        stated = sides_memory(n_pos, n_pos, 784, precision, 1)
        numbers = "doubles" if item == 8 else "floats"
        how = f"{n:,} rows, {peak / 2**20:,.0f} MiB; sides_memory says {stated / (item * n * n):.2f}"
        table.append((f"peak memory / n^2 {numbers}", f"{peak / (item * n * n):.2f}", "<= 2.2", how))
    return table


def measure_peak(values: NDArray[np.uint8], n_pos: int, precision: str) -> int:
    def resident(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024

    block_of(values[:600], 300)(precision)
    score = block_of(values[: 2 * n_pos], n_pos)
    Path("/proc/self/clear_refs").write_text("5")  # the highest size starts again from here
    before = resident("VmRSS")
    score(precision)
    return resident("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with fashion_mnist_train.parquet")
    parser.add_argument("--positives", type=int, default=6000, help="samples of the class in the large block")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="update docs/results/complexity_gap.md")
    parser.add_argument("--peak", choices=["float64", "float32"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    path, n_pos = arguments.data / "fashion_mnist_train.parquet", arguments.positives
    if path.exists():
        what = "Fashion-MNIST"
        values, labels, _ = read_pixels(path, 2 * n_pos if arguments.peak else 60_000)
    else:
        what = f"random pixels ({path.name} is absent)"
        rng = np.random.default_rng(0)
        values, labels = rng.integers(0, 256, (60_000, 784), dtype=np.uint8), rng.integers(0, 10, 60_000)
    if arguments.peak:
        print(measure_peak(values, n_pos, arguments.peak))
        return
    table: Table = [("what", "measured", "wanted", "how")]
    measures: list[Callable[[], Table]] = [
        lambda: against_published_form(values, 1000, 20, arguments.turns),
        lambda: against_floor(values, n_pos, arguments.turns),
        lambda: peak_memory(arguments, n_pos),
        lambda: float32_against_float64(values, n_pos, arguments.turns),
        lambda: whole_data_set(values, labels),
    ]
    for measure in measures:
        for row in measure():
            print(*row, sep=" | ", file=sys.stderr, flush=True)
            table.append(row)
    print(markdown(table))
    notes = [
        f"Data: {what}, 784 pixels a row; a block is the first rows as the class and as many more as the others.",
        "The floor is what LAPACK takes to factor the whole kernel and invert the whole factor, given the kernel. Ours "
        "comes in under it, with the kernel made: the rows to score go last, so only their corner of the factor is "
        "inverted.",
        "Relative errors are against the float64 score, or a hundredth of the mean score where that is larger.",
    ]
    if arguments.write:
        write_page("complexity_gap", "Complexity gap: time, memory, float32", table, notes)


if __name__ == "__main__":
    main()
