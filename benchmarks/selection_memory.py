"""Time and peak memory of every selection at a million samples, as commands.

    python benchmarks/selection_memory.py [--rows 1000000] [--features 128] [--fraction 0.002] [--only NAME] [--write]

Random scores and features with a mean for each of 1,000 groups, in a temporary folder. Peak memory is the largest resident size of the
command, with Python, torch and the features.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from complexity_gap import Table, markdown, write_page

from prune_cli.methods.registry.lookup import methods_of


def make(folder: Path, rows: int, width: int) -> None:
    rng = np.random.default_rng(0)
    ids = pa.array(np.arange(rows))
    codes = rng.integers(0, 10, rows)
    table = {"id": ids, "label": codes, "dual": rng.random(rows), "dual_mean": rng.random(rows)}
    pq.write_table(pa.table(table), folder / "scores.parquet")
    centers = rng.normal(size=(1000, width)).astype(np.float32)
    schema = pa.schema([("id", pa.int64()), ("embedding", pa.list_(pa.float32(), width)), ("prob", pa.list_(pa.float32(), 10))])
    with pq.ParquetWriter(folder / "features.parquet", schema) as writer:
        for start in range(0, rows, 100_000):
            here = ids[start : start + 100_000]
            values = centers[rng.integers(0, 1000, len(here))] + rng.normal(size=(len(here), width)).astype(np.float32)
            vectors = pa.FixedSizeListArray.from_arrays(np.maximum(values, 0).ravel(), width)
            probs = pa.FixedSizeListArray.from_arrays(rng.dirichlet(np.full(10, 0.2), len(here)).astype(np.float32).ravel(), 10)
            writer.write_table(pa.table([here, vectors, probs], schema=schema))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--fraction", type=float, default=0.002)
    parser.add_argument("--only", action="append", help="methods to run, all by default")
    parser.add_argument("--write", action="store_true", help="update docs/results/selection_memory.md")
    arguments = parser.parse_args()
    table: Table = [("method", "seconds", "peak memory, GiB", "less the features, GiB", "planned, GiB")]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        # In a process of its own: a command started from a large process counts that one's memory as its own.
        maker = multiprocessing.get_context("spawn").Process(target=make, args=(folder, arguments.rows, arguments.features))
        maker.start()
        maker.join()
        for method in methods_of("selection").values():
            if arguments.only and method.name not in arguments.only:
                continue
            command = [
                sys.executable, "-m", "prune_cli", "select", folder / "scores.parquet", "--method", method.name,
                "--fraction", arguments.fraction, "-o", folder / "out.parquet", "--device", "cpu", "-q", "--json", "--force",
            ]  # fmt: skip
            if "score" in method.uses:
                command += ["-p", "key=dual"]
            if "features" in method.uses:
                command += ["--features", folder / "features.parquet"]
            planned, done = (
                json.loads(subprocess.run([*map(str, command), *more], check=True, capture_output=True, text=True).stdout)
                for more in (["--plan"], [])
            )
            peak, size = (done["peak_memory_bytes"], 4 * arguments.rows * arguments.features * ("features" in method.uses))
            table.append(
                (
                    f"`{method.name}`",
                    f"{done['seconds']:.0f}",
                    f"{peak / 2**30:.2f}",
                    f"{(peak - size) / 2**30:.2f}",
                    f"{planned['plan']['peak_memory_bytes'] / 2**30:.2f}",
                )
            )
            print(table[-1], flush=True)
    print(markdown(table))
    if arguments.write:
        note = (
            f"{arguments.rows:,} x {arguments.features} float32 features "
            f"({4 * arguments.rows * arguments.features / 2**30:.2f} GiB), {arguments.fraction:.2g} of the rows kept."
        )
        write_page("selection_memory", "Selections at a million samples", table, [note])


if __name__ == "__main__":
    main()
