"""Block work on the engines: one process, two, and a Ray cluster of the same two cores; in pairs, as whole commands.

    python benchmarks/engines.py [--rows 48000 160000] [--block-size 6000] [--turns 3] [--write]

`prune score --method cg -p mode=partition` on random vectors, in blocks of the same size. The cluster of two nodes with a core each is
there before the clock starts, as clusters are; a cluster that the command starts and ends itself is a row of its own. Ratios are of
times taken in turns. The floor is the same command where all blocks are finished already: the start of Python and torch, reading and
writing. What is above it is block work, the start of the processes included. The bytes of all outputs are compared.
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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clusters import LocalCluster

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

MAKE = """
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
rows, rng = int(sys.argv[1]), np.random.default_rng(0)
values = rng.normal(size=(rows, 128)).astype(np.float32)
vectors = pa.FixedSizeListArray.from_arrays(values.ravel(), 128)
pq.write_table(pa.table({"id": rng.permutation(rows), "label": rng.integers(0, 10, rows), "embedding": vectors}), "data.parquet")
"""


FLOOR = "none: all are finished"
WAYS = {
    FLOOR: ["--workers", "2", "--work-dir", "finished"],
    "one process": ["--workers", "1"],
    "two processes": ["--workers", "2"],
    "a Ray cluster of two cores": ["--engine", "ray", "--address", "ADDRESS"],
    "a Ray cluster that the command starts": ["--engine", "ray", "--workers", "2"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[48_000, 160_000])
    parser.add_argument("--block-size", type=int, default=6_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="update docs/results/engines.md")
    arguments = parser.parse_args()
    from clusters import LocalCluster
    from complexity_gap import markdown, write_page

    table = [
        (
            "rows",
            "blocks run in",
            "seconds, median",
            "one process, times",
            "block work: one process, times",
            "block work of two processes, times",
        )
    ]
    alike = True
    with LocalCluster() as cluster:
        cluster.add("first")
        cluster.add("second")
        for rows in arguments.rows:
            seconds, digests = measure(rows, arguments.block_size, arguments.turns, cluster)
            alike &= len(digests) == 1
            one, two, floor = (seconds[way] for way in ("one process", "two processes", FLOOR))
            for way, taken in seconds.items():
                ratios = [f"{statistics.median(a / b for a, b in zip(one, taken, strict=True)):.2f}", "", ""]
                if way != FLOOR:
                    work = [(a - f, b - f, c - f) for a, b, c, f in zip(one, two, taken, floor, strict=True)]
                    ratios[1] = f"{statistics.median(a / c for a, _, c in work):.2f}"
                    ratios[2] = f"{statistics.median(c / b for _, b, c in work):.2f}"
                table.append((f"{rows:,}", way, f"{statistics.median(taken):.1f}", *ratios))
    print(markdown(table))
    notes = [
        f"Vectors of 128 numbers in blocks of {arguments.block_size:,} rows, {arguments.turns} turns; seconds are those of whole commands. "
        "Block work is what is above the floor of the same turn, the command "
        "that finds all blocks finished; the start of processes is in it. "
        + ("All outputs of a size have the same bytes." if alike else "THE OUTPUTS DIFFER.")
    ]
    if arguments.write:
        write_page("engines", "Block work on the engines", table, notes)


def measure(rows: int, block_size: int, turns: int, cluster: LocalCluster) -> tuple[dict[str, list[float]], set[str]]:
    """Return seconds of each way, turn by turn, and the digests of what came out."""
    words = ["score", "data.parquet", "--method", "cg", "-p", "mode=partition", "-p", f"block_size={block_size}"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", MAKE, str(rows)], cwd=folder, check=True)
        return in_turns(words, WAYS, Path(folder), turns, cluster)


def in_turns(
    words: list[str], ways: dict[str, list[str]], folder: Path, turns: int, cluster: LocalCluster
) -> tuple[dict[str, list[float]], set[str]]:
    """Return the seconds of a command in each way, turn by turn, and the digests of what came out; blocks are finished once before."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    digests = set()
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def run(more: list[str]) -> None:
        command = [sys.executable, "-m", "prune_cli", *words, *more, "-o", "out.parquet", "--force", "-q"]
        environment = cluster.environment if "--address" in more else own
        subprocess.run(command, cwd=folder, check=True, env=environment, stdout=subprocess.DEVNULL)

    run(["--workers", "2", "--work-dir", "finished"])
    for _ in range(turns):
        for way, options in ways.items():
            more = [cluster.address if word == "ADDRESS" else word for word in options]
            start = time.perf_counter()
            run(more)
            seconds[way].append(time.perf_counter() - start)
            digests.add(hashlib.sha256((folder / "out.parquet").read_bytes()).hexdigest())
            print(" ".join(words[1:4]), way, f"{seconds[way][-1]:.1f}", flush=True)
    return seconds, digests


if __name__ == "__main__":
    main()
