"""Blocks of selections on the engines: one thread, two, and a Ray cluster of the same two cores; in turns, as whole commands.

    python benchmarks/selection_engines.py [--turns 3] [--only window] [--write]

`window` over wide vectors in many classes, where products are most of the work, and the exact search for neighbors of `d2`. The cluster
of two nodes with a core each is there before the clock starts. The floor is the same command where all blocks are finished already; what
is above it is block work, what is sent to the cluster included. The bytes of all outputs are compared.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from engines import FLOOR, in_turns

MAKE = """
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
rows, width, classes = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
labels, centres = rng.integers(0, classes, rows), rng.normal(size=(classes, width)).astype(np.float32)
values = centres[labels] + 8 * rng.standard_normal((rows, width), dtype=np.float32)
vectors = pa.FixedSizeListArray.from_arrays(values.ravel(), width)
columns = {"id": rng.permutation(rows), "label": labels, "loss": rng.gamma(2.0, size=rows), "embedding": vectors}
pq.write_table(pa.table(columns), "scores.parquet", row_group_size=16384)
"""
WAYS = {
    FLOOR: ["--workers", "2", "--work-dir", "finished"],
    "one thread": ["--workers", "1"],
    "two threads": ["--workers", "2"],
    "a Ray cluster of two cores": ["--engine", "ray", "--address", "ADDRESS"],
}
CASES = {
    "window": ((100_000, 1024, 1000), ["--method", "window", "--fraction", "0.3"]),
    "d2": ((60_000, 512, 10), ["--method", "d2", "--fraction", "0.3"]),
}
"""Method -> rows, numbers of a vector and classes; its words."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--write", action="store_true", help="update docs/results/selection_engines.md")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from clusters import LocalCluster
    from complexity_gap import markdown, write_page

    heading = ("seconds, median", "block work: one thread, times", "block work of two threads, times")
    table = [("method", "rows x numbers, classes", "blocks run in", *heading)]
    alike = True
    with LocalCluster(2 * 2**30) as cluster:
        cluster.add("first")
        cluster.add("second")
        for name, (shape, words) in CASES.items():
            if arguments.only not in {None, name}:
                continue
            with tempfile.TemporaryDirectory() as place:
                subprocess.run([sys.executable, "-c", MAKE, *map(str, shape)], cwd=place, check=True)
                given = ["select", "scores.parquet", *words, "-p", "key=loss"]
                seconds, digests = in_turns(given, WAYS, Path(place), arguments.turns, cluster)
            alike &= len(digests) == 1
            for way, taken in seconds.items():
                ratios = ["", ""]
                if way != FLOOR:
                    turns = zip(seconds["one thread"], seconds["two threads"], taken, seconds[FLOOR], strict=True)
                    work = [(one - floor, two - floor, this - floor) for one, two, this, floor in turns]
                    ratios[0] = f"{statistics.median(one / this for one, _, this in work):.2f}"
                    ratios[1] = f"{statistics.median(this / two for _, two, this in work):.2f}"
                data = f"{shape[0]:,} x {shape[1]:,}, {shape[2]}"
                table.append((f"`{name}`", data, way, f"{statistics.median(taken):.1f}", *ratios))
    print(markdown(table))
    note = f"{arguments.turns} turns; seconds are those of whole commands, block work what is above the floor of the same turn. " + (
        "All outputs of a method have the same bytes." if alike else "THE OUTPUTS DIFFER."
    )
    if arguments.write:
        write_page("selection_engines", "Blocks of selections on the engines", table, [note])


if __name__ == "__main__":
    main()
