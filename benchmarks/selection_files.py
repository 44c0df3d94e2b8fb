"""Time and peak memory of the commands that read and write selections, at a million rows, beside reading and writing alone.

    python benchmarks/selection_files.py [--rows 1000000] [--turns 3] [--only NAME] [--write]

Each command is a process of its own, from its start to its end, and takes turns with its floor: a process that reads the same input
files with pyarrow, whole, and writes the first of them again. Ids are strings of 16 letters, in random order.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PRUNE = [sys.executable, "-m", "prune_cli"]
MAKE = """
import sys, numpy as np, pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
rows, rng = int(sys.argv[1]), np.random.default_rng(0)
ids = pc.binary_join_element_wise("sample-", pc.utf8_lpad(pa.array(rng.permutation(rows)).cast(pa.string()), 9, "0"), "")
pq.write_table(pa.table({"id": ids, "label": rng.integers(0, 10, rows), "cg": rng.random(rows)}), "scores.parquet")
np.save("positions.npy", rng.permutation(rows)[: rows * 3 // 10])
"""
FLOOR = """
import sys, pyarrow.parquet as pq
first, *others = [pq.read_table(name) for name in sys.argv[1:]]
pq.write_table(first, "floor.parquet", compression="zstd")
"""
COMMANDS = {
    "select --method top": ["select", "scores.parquet", "--method", "top", "--fraction", "0.3"],
    "manifest merge --how union": ["manifest", "merge", "top.parquet", "random.parquet", "--how", "union"],
    "manifest merge --how quota": [
        "manifest", "merge", "top.parquet", "random.parquet", "--how", "quota", "--quota", "20%",
    ],
    "manifest top-up": ["manifest", "top-up", "top.parquet", "--scores", "scores.parquet", "--fraction", "0.5"],
    "manifest import --from indices": [
        "manifest", "import", "positions.npy", "--from", "indices", "--data", "scores.parquet",
    ],
    "manifest export --to ids": ["manifest", "export", "top.parquet", "--data", "scores.parquet", "--to", "ids"],
    "report": ["report", "top.parquet"],
}  # fmt: skip
"""Command -> its words; what it reads are the words that end in .parquet."""


def run(words: list[str], folder: Path) -> tuple[float, int]:
    """Return the seconds a process took and its largest resident size in bytes.

    This process loads no large library before: a child's peak begins with the memory of the process that started it.
    """
    start = time.perf_counter()
    child = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {child.returncode}")
    return seconds, usage.ru_maxrss * 1024


def exists(words: list[str]) -> bool:
    """Return whether there is such a command."""
    return subprocess.run([*PRUNE, words[0], "--help"], capture_output=True).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", action="append", help="commands to run, all by default")
    parser.add_argument("--write", action="store_true", help="update docs/results/selection_files.md")
    arguments = parser.parse_args()
    table = [("command", "seconds", "seconds of reading and writing", "ratio", "peak memory, GiB", "of reading and writing")]
    notes = [f"{arguments.rows:,} rows; medians of {arguments.turns} turns, the ratio that of pairs, the memory the largest."]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run([sys.executable, "-c", MAKE, str(arguments.rows)], folder)
        for method in ("top", "random"):
            words = ["select", "scores.parquet", "--method", method, "--fraction", "0.3", "-o", f"{method}.parquet", "-q"]
            run([*PRUNE, *words], folder)
        for name, words in COMMANDS.items():
            if arguments.only and name not in arguments.only:
                continue
            if not exists(words):
                notes.append(f"`{name}` is left out: this version has no such command.")
                continue
            whole = [*PRUNE, *words, "-o", "out", "-q", "--force"]
            floor = [sys.executable, "-c", FLOOR, *(word for word in words if word.endswith(".parquet"))]
            turns = [(run(whole, folder), run(floor, folder)) for _ in range(arguments.turns)]
            seconds, least = (statistics.median(turn[i][0] for turn in turns) for i in (0, 1))
            ratio = statistics.median(turn[0][0] / turn[1][0] for turn in turns)
            peaks = [max(turn[i][1] for turn in turns) / 2**30 for i in (0, 1)]
            table.append((f"`{name}`", f"{seconds:.1f}", f"{least:.1f}", f"{ratio:.1f}", *(f"{p:.2f}" for p in peaks)))
            print(table[-1], flush=True)
    from complexity_gap import markdown, write_page

    print(markdown(table))
    if arguments.write:
        write_page("selection_files", "Files of selections at a million rows", table, notes)


if __name__ == "__main__":
    main()
