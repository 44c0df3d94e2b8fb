"""A million embeddings on one machine: seconds and peak memory of scores and selections, as whole commands.

    python benchmarks/million.py [--rows 1000000] [--features 128] [--only NAME] [--write]

The data of benchmarks/selection_memory.py, with labels and vectors in one file for `score`. Peak memory is that of the command with all
of its processes, looked at ten times a second: the sum of what each holds for itself alone and its share of what they hold together.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from complexity_gap import Table, markdown, write_page
from selection_memory import make

LIMIT = 6.0
"""GiB that no method may exceed."""

SELECT = ["select", "scores.parquet", "--fraction", "0.1", "-o", "out.parquet", "-p", "key=dual"]
COMMANDS = {
    "score --method cg -p mode=partition": ["score", "data.parquet", "--method", "cg", "-p", "mode=partition"],
    "score --method moderate": ["score", "data.parquet", "--method", "moderate"],
    "select --method window": [*SELECT, "--method", "window", "--features", "features.parquet"],
    "select --method neighbor_confidence -p neighbors=ivf": [
        *SELECT[:-2], "--method", "neighbor_confidence", "-p", "neighbors=ivf", "--features", "features.parquet",
    ],
    "select --method random": [*SELECT[:-2], "--method", "random"],
}  # fmt: skip


def join(folder: Path) -> None:
    """Write labels and vectors as one data manifest, by row group."""
    labels = pq.read_table(folder / "scores.parquet", columns=["id", "label"])
    file = pq.ParquetFile(folder / "features.parquet")
    kind = file.schema_arrow.field("embedding").type
    schema = pa.schema([("id", pa.int64()), ("label", pa.int64()), ("embedding", kind)])
    start = 0
    with pq.ParquetWriter(folder / "data.parquet", schema) as writer:
        for batch in file.iter_batches(65_536, columns=["embedding"]):
            part = labels.slice(start, len(batch))
            writer.write_table(pa.table([part["id"], part["label"], batch.column(0)], schema=schema))
            start += len(batch)


def proportional_bytes(pid: int) -> int:
    """Return what a process and all below it hold, pages that they share counted once."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total = int(line.split()[1]) * 1024
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return total
    return total + sum(proportional_bytes(int(child)) for child in children)


def run(words: list[str], folder: Path) -> tuple[float, int]:
    """Return the seconds a command takes, and the most that it holds."""
    start, peak = time.perf_counter(), 0
    child = subprocess.Popen([sys.executable, "-m", "prune_cli", *words], cwd=folder, stdout=subprocess.DEVNULL)
    while child.poll() is None:
        peak = max(peak, proportional_bytes(child.pid))
        time.sleep(0.1)
    if child.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {child.returncode}")
    return time.perf_counter() - start, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--only", action="append", help="commands to run, all by default")
    parser.add_argument("--write", action="store_true", help="update docs/results/million.md")
    arguments = parser.parse_args()
    table: Table = [("command", "seconds", "peak memory, GiB", f"at most {LIMIT:.0f} GiB")]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder, arguments.rows, arguments.features)
        join(folder)
        for name, words in COMMANDS.items():
            if arguments.only and name not in arguments.only:
                continue
            more = ["-o", "out.parquet"] if words[0] == "score" else []
            seconds, peak = run([*words, *more, "-q", "--force", "--device", "cpu"], folder)
            table.append((f"`{name}`", f"{seconds:.0f}", f"{peak / 2**30:.2f}", "yes" if peak <= LIMIT * 2**30 else "NO"))
            print(table[-1], flush=True)
    print(markdown(table))
    if arguments.write:
        vectors = 4 * arguments.rows * arguments.features / 2**30
        notes = [
            f"{arguments.rows:,} x {arguments.features} float32 vectors ({vectors:.2f} GiB), ten classes; 10 % kept where something is "
            "selected. `score --method cg` runs blocks of 8,192 rows in as many processes as there are cores."
        ]
        write_page("million", "A million embeddings on one machine", table, notes)


if __name__ == "__main__":
    main()
