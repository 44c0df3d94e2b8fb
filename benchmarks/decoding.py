"""How fast a column of images becomes one array, beside Pillow alone on the same bytes and the same cores.

    python benchmarks/decoding.py [--data FOLDER] [--pairs 7] [--write]

Pillow alone: as many processes as cores, started and warm, each with its share of the encoded images in its memory,
calls ``Image.open(BytesIO(data)).load()`` for each; the time is from the word "go" to the last one's answer, and no
pixel is handed over. prune: ``decode_images`` from the Parquet file on disk to one array in this process, its workers
started and ended within the time. The two take turns; the ratio is the median of the ratios of neighbours, so that a
machine that is busy with other things slows both.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import PIL  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from PIL import Image  # noqa: E402

from prune_cli.io.images.column import decode_images  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
PAGE = ROOT / "docs" / "results" / "decoding.md"
FILES = {"fashion_mnist_train.parquet": "PNG, 28 x 28 grey", "cifar10_train.parquet": "JPEG, 32 x 32 RGB"}


def batches(path: Path) -> Callable[[], Iterator[pa.Array]]:
    """Return what iterates over the file's image column."""

    def iterate() -> Iterator[pa.Array]:
        for batch in pq.ParquetFile(path).iter_batches(8192, columns=["image"], use_threads=False):
            yield batch.column(0)

    return iterate


def pillow_worker(path: Path, share: slice, pipe: Connection) -> None:
    """Decode a share of the file each time the pipe says so."""
    images = pq.read_table(path, columns=["image"]).column("image").to_pylist()[share]
    pipe.send(len(images))
    while pipe.recv():
        for data in images:
            Image.open(BytesIO(data)).load()
        pipe.send(True)


def measure(path: Path, cores: int, pairs: int) -> tuple[int, list[float], list[float]]:
    """Return rows, seconds of Pillow alone and seconds of prune, a pair each."""
    context = multiprocessing.get_context("spawn")
    rows = pq.ParquetFile(path).metadata.num_rows
    pipes, processes = [], []
    for core in range(cores):
        here, there = context.Pipe()
        processes.append(context.Process(target=pillow_worker, args=(path, slice(core, None, cores), there), daemon=True))
        processes[-1].start()
        pipes.append(here)
    assert sum(pipe.recv() for pipe in pipes) == rows

    def pillow() -> float:
        began = time.perf_counter()
        for pipe in pipes:
            pipe.send(True)
        for pipe in pipes:
            pipe.recv()
        return time.perf_counter() - began

    def prune() -> float:
        began = time.perf_counter()
        decoded = decode_images(batches(path), rows, workers=cores)
        taken = time.perf_counter() - began
        assert not decoded.bad
        return taken

    pillow(), prune()
    alone, whole = [], []
    for pair in range(pairs):
        for side, times in ((pillow, alone), (prune, whole))[:: 1 if pair % 2 else -1]:
            times.append(side())
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(False)
        process.join()
    return rows, alone, whole


def main() -> None:
    """Measure, print the table and, with ``--write``, put it into docs/results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the two Parquet files")
    parser.add_argument("--pairs", type=int, default=7, help="how often the two take turns")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    lines = [
        "| images | rows | Pillow alone, images/s | Parquet to array, images/s | ratio, median of pairs | range |",
        "|---|---|---|---|---|---|",
    ]
    for name, kind in FILES.items():
        path = options.data / name
        if not path.exists():
            print(f"skipped {name}: it is not in {options.data}; name its folder with --data", file=sys.stderr)
            continue
        rows, alone, whole = measure(path, cores, options.pairs)
        ratios = [a / w for a, w in zip(alone, whole, strict=True)]
        lines.append(
            f"| {kind} | {rows:,} | {rows / statistics.median(alone):,.0f} | {rows / statistics.median(whole):,.0f} "
            f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"
        )
    table = "\n".join(lines)
    print(table)
    if options.write and len(lines) == 2 + len(FILES):
        PAGE.write_text(
            f"""# Decoding images

From a Parquet file to one array in memory, worker start included, beside Pillow alone on the same bytes (already in
memory, processes already running, nothing handed over). The target is a ratio of at least 0.85 for PNG.

{table}

{cores} cores, {options.pairs} interleaved pairs, Python {platform.python_version()}, Pillow {PIL.__version__},
pyarrow {pa.__version__}. Made by

    python benchmarks/decoding.py --write

with Fashion-MNIST and a JPEG copy of CIFAR-10 in the folder that `--data` names.
"""
        )


if __name__ == "__main__":
    main()
