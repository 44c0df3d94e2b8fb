"""Block work on the engines: one process, two, and a Ray cluster of the same two cores; in pairs, as whole commands.

    python benchmarks/engines.py [--rows 48000] [--block-size 6000] [--turns 3] [--write]

`prune score --method cg -p mode=partition` on random vectors: eight blocks of the same size. The cluster of two nodes with a core each is
there before the clock starts, as clusters are; a cluster that the command starts and ends itself is a row of its own. Ratios are of
times taken in turns. The bytes of all outputs are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

MAKE = """
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
rows, rng = int(sys.argv[1]), np.random.default_rng(0)
values = rng.normal(size=(rows, 128)).astype(np.float32)
vectors = pa.FixedSizeListArray.from_arrays(values.ravel(), 128)
pq.write_table(pa.table({"id": rng.permutation(rows), "label": rng.integers(0, 10, rows), "embedding": vectors}), "data.parquet")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=48_000)
    parser.add_argument("--block-size", type=int, default=6_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="update docs/results/engines.md")
    arguments = parser.parse_args()
    from clusters import LocalCluster

    with tempfile.TemporaryDirectory() as place, LocalCluster() as cluster:
        folder = Path(place)
        subprocess.run([sys.executable, "-c", MAKE, str(arguments.rows)], cwd=folder, check=True)
        cluster.add("first")
        cluster.add("second")
        words = [
            "score",
            "data.parquet",
            "--method",
            "cg",
            "-p",
            "mode=partition",
            "-p",
            f"block_size={arguments.block_size}",
        ]
        ways = {
            "one process": ["--workers", "1"],
            "two processes": ["--workers", "2"],
            "a Ray cluster of two cores": ["--engine", "ray", "--address", cluster.address],
            "a Ray cluster that the command starts": ["--engine", "ray", "--workers", "2"],
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        digests = set()
        for _ in range(arguments.turns):
            for way, more in ways.items():
                own = {n: v for n, v in os.environ.items() if not n.startswith("RAY_")}
                start = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-m", "prune_cli", *words, *more, "-o", "out.parquet", "--force", "-q"],
                    cwd=folder, check=True, env=cluster.environment if "--address" in more else own, stdout=subprocess.DEVNULL,
                )  # fmt: skip
                seconds[way].append(time.perf_counter() - start)
                digests.add(hashlib.sha256((folder / "out.parquet").read_bytes()).hexdigest())
                print(way, f"{seconds[way][-1]:.1f}", flush=True)
    one, two = seconds["one process"], seconds["two processes"]
    table = [("blocks run in", "seconds, median", "one process is slower by", "time of two processes, times")]
    for way, taken in seconds.items():
        gain = statistics.median(a / b for a, b in zip(one, taken, strict=True))
        cost = statistics.median(b / a for a, b in zip(two, taken, strict=True))
        table.append((way, f"{statistics.median(taken):.1f}", f"{gain:.2f}", f"{cost:.2f}"))
    from complexity_gap import markdown, write_page

    print(markdown(table))
    notes = [
        f"{arguments.rows:,} x 128 vectors in {-(-arguments.rows // arguments.block_size)} blocks, {arguments.turns} turns; whole "
        "commands, with the start of Python and torch and the reading and writing of files. "
        + ("All outputs have the same bytes." if len(digests) == 1 else f"THE OUTPUTS DIFFER: {len(digests)} of them.")
    ]
    if arguments.write:
        write_page("engines", "Block work on the engines", table, notes)


if __name__ == "__main__":
    main()
