"""Kernel scores at real size: all rows exactly, and how far blocks and landmarks are from that.

    python benchmarks/kernel_size.py [--only exact,float32,modes,million] [--work out/kernel_size] [--write]

``exact``: the command on all of Fashion-MNIST in float32, against what LAPACK takes to factor and invert a matrix, given the matrix, of a
size that fits, scaled by the cube of the rows. ``float32``: against float64, 12,000 rows. ``modes``: blocks and landmarks against exact,
20,000 rows. ``million``: 1,000,000 random embeddings of 128 numbers in 100 classes, in blocks, and 20,000 of them in blocks against exact.
Finished parts are kept in the work folder: the same command goes on after a kill.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.linalg
import scipy.stats
import torch
from complexity_gap import Table, kernel_of, markdown, read_pixels, write_page

from prune_cli.core.rng import generator

Rows = list[list[str]]
MILLION_BLOCK = 10_000


def command(*arguments: Any) -> dict[str, Any]:
    """Run ``prune`` and return its summary: seconds and peak memory of a process of its own."""
    line = [sys.executable, "-m", "prune_cli", *map(str, arguments), "--json", "--force"]
    return json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)  # type: ignore[no-any-return]


def floor(data: Path, size: int, turns: int = 3) -> tuple[float, float]:
    """Return the median seconds of LAPACK's potrf, torch's or scipy's as is faster, and trtri, in float32."""
    kernel = kernel_of(read_pixels(data, size)[0]).astype(np.float32)
    factors, inverses = [], []
    for _ in range(turns):
        buffer = np.asfortranarray(kernel)
        start = time.perf_counter()
        scipy.linalg.lapack.spotrf(buffer, lower=1, clean=0, overwrite_a=1)
        by_scipy = time.perf_counter() - start
        start = time.perf_counter()
        torch.linalg.cholesky(torch.from_numpy(kernel))
        factors.append(min(by_scipy, time.perf_counter() - start))
        start = time.perf_counter()
        scipy.linalg.lapack.strtri(buffer, lower=1, overwrite_c=1)
        inverses.append(time.perf_counter() - start)
    return statistics.median(factors), statistics.median(inverses)


def exact(arguments: argparse.Namespace, work: Path) -> Rows:
    data = arguments.data / "fashion_mnist_train.parquet"
    size = arguments.floor
    potrf, trtri = floor(data, size)
    found = command("score", data, "--method", "cg", "-p", "mode=exact", "--precision", "float32", "-o", work / "exact.parquet")
    rows = found["rows_out"]
    scaled = (potrf + trtri) * (rows / size) ** 3
    how = (
        f"{found['seconds']:.0f} s, pictures read, kernel made, factored, inverted, refined to {found['float32_residual']:.0e}; "
        f"potrf {potrf:.2f} s and trtri {trtri:.2f} s at {size:,} rows are {scaled:.0f} s at {rows:,}; "
        f"{found['duplicates']} duplicates"
    )
    memory = f"{found['peak_memory_bytes'] / 2**30:.1f} GiB"
    share = f"{2 * rows**3 / 3 / found['seconds'] / 1e9:.0f} GFLOP/s"
    return [
        [f"exact, float32, {rows:,} rows: time / scaled (potrf + trtri)", f"{found['seconds'] / scaled:.2f}", "<= 1.8", how],
        ["the same, 2/3 N^3 flops over the seconds", share, "", "all classes"],
        ["the same, peak memory", memory, "", "mapped pages of the 7.2 GB on disk among it, as far as they stay in memory"],
    ]


def ranks(one: np.ndarray, other: np.ndarray) -> float:
    return float(scipy.stats.spearmanr(one, other).statistic)


def columns(path: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(path)
    return {name: np.asarray(table[name]) for name in table.schema.names if name not in {"id", "label"}}


def part(data: Path, work: Path, rows: int) -> Path:
    """Return a file with the first rows of the data."""
    path = work / f"{data.stem}-{rows}.parquet"
    if not path.exists():
        pq.write_table(pq.read_table(data).slice(0, rows), path)
    return path


def float32(arguments: argparse.Namespace, work: Path) -> Rows:
    data = part(arguments.data / "fashion_mnist_train.parquet", work, 12_000)
    table = []
    for ridge in ("0", "0.1"):
        single, double = (
            columns_of_command(data, work, "-p", "mode=exact", "-p", f"ridge={ridge}", "--precision", precision)
            for precision in ("float32", "float64")
        )
        values = [f"{name} {ranks(single[name], double[name]):.8f}" for name in double]
        wanted = ">= 0.99999" if ridge == "0" else ""
        table.append([f"float32 with float64, 12,000 rows, ridge {ridge}: Spearman", ", ".join(values), wanted, ""])
    return table


def columns_of_command(data: Path, work: Path, *how: str) -> dict[str, np.ndarray]:
    output = work / "found.parquet"
    command("score", data, "--method", "cg,ntk_margin", *how, "-o", output)
    return columns(output)


def modes(arguments: argparse.Namespace, work: Path) -> Rows:
    data = part(arguments.data / "fashion_mnist_train.parquet", work, 20_000)
    output = work / "mode.parquet"
    ways: dict[str, tuple[str, ...]] = {
        "exact": ("mode=exact",),
        "sampled (cg alone)": ("mode=sampled",),
        "sampled, 10 repeats (cg alone)": ("mode=sampled", "repeats=10"),
        "partition, 4,096 random rows": ("mode=partition", "block_size=4096"),
        "partition, 4,096 random rows, 4 repeats": ("mode=partition", "block_size=4096", "repeats=4"),
        "partition, 8,192 random rows": ("mode=partition",),
        "partition, 8,192 random rows, 2 repeats": ("mode=partition", "repeats=2"),
        "partition, 4,096 near rows": ("mode=partition", "block_size=4096", "blocks=kmeans"),
        "nystrom, 1,024 landmarks": ("mode=nystrom", "landmarks=1024"),
        "nystrom, 4,096 landmarks": ("mode=nystrom", "landmarks=4096"),
    }
    table: Rows = []
    truth: dict[str, np.ndarray] = {}
    for name, params in ways.items():
        alone = "alone" in name
        how = [x for p in (*params, "ridge=0.1") for x in ("-p", p)]
        methods = "cg" if alone else "cg,ntk_margin"
        found = command("score", data, "--method", methods, *how, "--precision", "float32", "-o", output)
        values = columns(output)
        truth = truth or values
        said = ", ".join(f"{column} {ranks(values[column], truth[column]):.4f}" for column in values)
        table.append([f"20,000 rows, {name}: Spearman with exact", said, "", f"{found['seconds']:.0f} s"])
        print(table[-1], flush=True)
    return table


def synthetic(path: Path, rows: int, width: int = 128, classes: int = 100) -> None:
    """Write random embeddings: a centre for each class, as much noise, and a twentieth of the labels wrong."""
    if path.exists():
        return
    rng = generator(0, "benchmark", "embeddings")
    centres = rng.normal(size=(classes, width)).astype(np.float32)
    true = rng.integers(0, classes, rows)
    given = np.where(rng.random(rows) < 0.05, rng.integers(0, classes, rows), true)
    schema = pa.schema([("id", pa.string()), ("label", pa.int64()), ("embedding", pa.list_(pa.float32(), width))])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, 50_000):
            here = slice(first, min(first + 50_000, rows))
            values = centres[true[here]] + 1.5 * rng.normal(size=(here.stop - here.start, width)).astype(np.float32)
            writer.write_table(
                pa.table(
                    [
                        pa.array([f"{i:08d}" for i in range(here.start, here.stop)]),
                        pa.array(given[here]),
                        pa.FixedSizeListArray.from_arrays(values.astype(np.float32).ravel(), width),
                    ],
                    schema=schema,
                )
            )


def million(arguments: argparse.Namespace, work: Path) -> Rows:
    data, output = work / "million.parquet", work / "million.scores.parquet"
    synthetic(data, arguments.rows)
    table: Rows = []
    how = ["-p", "mode=partition", "-p", f"block_size={MILLION_BLOCK}", "--precision", "float32"]
    found = command("score", data, "--method", "cg", *how, "-o", output)
    memory = f"{found['peak_memory_bytes'] / 2**30:.1f} GiB"
    name = f"{found['rows_out']:,} x 128, 100 classes, cg, partition of {MILLION_BLOCK:,}"
    table.append([f"{name}: peak memory", memory, "<= 4 GiB", f"{found['seconds'] / 60:.1f} min"])
    print(table[-1], flush=True)
    few = part(data, work, 20_000)
    truth = columns_of_command(few, work, "-p", "mode=exact", "-p", "ridge=0", "--precision", "float32")
    for size, repeats in ((4096, 1), (8192, 1), (8192, 2), (MILLION_BLOCK, 1)):
        params = ("mode=partition", "ridge=0", f"block_size={size}", f"repeats={repeats}")
        values = columns_of_command(few, work, *(x for p in params for x in ("-p", p)), "--precision", "float32")
        said = ", ".join(f"{column} {ranks(values[column], truth[column]):.4f}" for column in values)
        wanted = ">= 0.9 (cg)" if size == MILLION_BLOCK else ""
        table.append([f"20,000 of them, partition of {size:,}, {repeats} repeat(s): Spearman with exact", said, wanted, ""])
    return table


PARTS: dict[str, Callable[[argparse.Namespace, Path], Rows]] = {"float32": float32, "modes": modes, "million": million, "exact": exact}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with fashion_mnist_train.parquet")
    parser.add_argument("--work", type=Path, default=Path("out/kernel_size"))
    parser.add_argument("--only", default=",".join(PARTS), help="parts to measure")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large part")
    parser.add_argument("--floor", type=int, default=16_000, help="rows that LAPACK is timed on")
    parser.add_argument("--write", action="store_true", help="write docs/results/kernel_size.md")
    arguments = parser.parse_args()
    if not (arguments.data / "fashion_mnist_train.parquet").exists():
        sys.exit(f"skipped: {arguments.data / 'fashion_mnist_train.parquet'} is absent")
    arguments.work.mkdir(parents=True, exist_ok=True)
    done_file = arguments.work / "done.json"
    done: dict[str, Rows] = json.loads(done_file.read_text()) if done_file.exists() else {}
    for name in arguments.only.split(","):
        if name not in done:
            done[name] = PARTS[name](arguments, arguments.work)
            done_file.write_text(json.dumps(done))
            print(*done[name], sep="\n", flush=True)
    table: Table = [("what", "measured", "wanted", "how")]
    table += [tuple(row) for name in PARTS for row in done.get(name, [])]
    print(markdown(table))
    notes = [
        "Data: Fashion-MNIST, and random embeddings: a centre for each class and 1.5 times as much noise, 5 % of the labels wrong. "
        "Each line is a command in a process of its own, `prune score --method cg,ntk_margin` with its parameters; its seconds hold "
        "everything, the start of Python and the reading of pictures among it.",
        "The floor of the exact line is what LAPACK takes, given the matrix and the memory for it; ours makes the kernel, keeps the "
        "factor on disk, where a kill loses one column of 2,048 rows at most, and refines.",
    ]
    if arguments.write:
        write_page("kernel_size", "Kernel scores at real size", table, notes)


if __name__ == "__main__":
    main()
