"""Time and peak memory of select and manifest merge at many rows, beside reading and writing alone.

    python benchmarks/many_rows.py [--rows 20000000] [--memory-limit SIZE]... [--ids string|integer] [--folder DIR] [--only NAME] [--write]

Each command is a process of its own, from its start to its end. Its floor is a process that reads the same input files with pyarrow, a
row group at a time, and writes the first of them again. Ids are strings of 16 letters, or integers, in random order; the second file
has them in another.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from selection_files import PRUNE, run

ROWS = 20_000_000

MAKE = """
import sys, numpy as np, pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
rows, kind, step, rng = int(sys.argv[1]), sys.argv[2], 131072, np.random.default_rng(0)
for name, score in (("a", "cg"), ("b", "el2n")):
    order = rng.permutation(np.arange(rows, dtype=np.uint32))
    schema = pa.schema({"id": pa.string() if kind == "string" else pa.int64(), "label": pa.int64(), score: pa.float64()})
    with pq.ParquetWriter(f"{name}.parquet", schema) as writer:
        for start in range(0, rows, step):
            here = pa.array(order[start : start + step], pa.int64())
            digits = pc.utf8_lpad(here.cast(pa.string()), 9, "0")
            ids = pc.binary_join_element_wise("sample-", digits, "") if kind == "string" else here
            labels = pa.array(np.asarray(here) * 7919 % 10)
            writer.write_batch(pa.record_batch([ids, labels, pa.array(rng.random(len(here)))], schema=schema))
"""
FLOOR = """
import sys, pyarrow.parquet as pq
for number, name in enumerate(sys.argv[1:]):
    file = pq.ParquetFile(name, pre_buffer=False)
    with pq.ParquetWriter("floor.parquet", file.schema_arrow, compression="zstd") if not number else open("/dev/null") as writer:
        for batch in file.iter_batches(131072):
            if not number:
                writer.write_batch(batch)
"""
COMMANDS = {
    "select --method top": ["select", "a.parquet", "--method", "top", "--fraction", "0.3"],
    "select --method stratified": ["select", "a.parquet", "--method", "stratified", "--fraction", "0.3"],
    "select --method random": ["select", "a.parquet", "--method", "random", "--fraction", "0.3"],
    "manifest merge": ["manifest", "merge", "a.parquet", "b.parquet"],
}
"""Command -> its words; what it reads are the words that end in .parquet."""


def planned(words: list[str], folder: Path) -> int:
    """Return the peak memory that ``--plan`` names, in bytes."""
    shown = subprocess.run([*PRUNE, *words, "--plan", "--json", "-q"], cwd=folder, capture_output=True, check=True)
    return int(json.loads(shown.stdout)["plan"]["peak_memory_bytes"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--memory-limit", action="append", help="limits to run under, beside none")
    parser.add_argument("--ids", choices=("string", "integer"), default="string")
    parser.add_argument("--folder", type=Path, help="where the files are made, a temporary folder by default")
    parser.add_argument("--only", action="append", help="commands to run, all by default")
    parser.add_argument("--write", action="store_true", help="update docs/results/many_rows.md, or many_rows-ROWS.md")
    arguments = parser.parse_args()
    heading = ("command", "--memory-limit", "seconds", "seconds of reading and writing", "peak memory, GiB")
    table = [(*heading, "of reading and writing", "as --plan says")]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        folder = Path(place)
        run([sys.executable, "-c", MAKE, str(arguments.rows), arguments.ids], folder)
        size = sum((folder / f"{name}.parquet").stat().st_size for name in ("a", "b")) / 2**30
        for name, words in COMMANDS.items():
            if arguments.only and name not in arguments.only:
                continue
            floor = run([sys.executable, "-c", FLOOR, *(w for w in words if w.endswith(".parquet"))], folder)
            for limit in (None, *(arguments.memory_limit or ())):
                limited = [*words, *(["--memory-limit", limit] if limit else [])]
                taken = run([*PRUNE, *limited, "-o", "out.parquet", "-q", "--force"], folder)
                peaks = (taken[1], floor[1], planned(limited, folder))
                table.append((f"`{name}`", limit or "", f"{taken[0]:.0f}", f"{floor[0]:.0f}", *(f"{p / 2**30:.2f}" for p in peaks)))
                print(table[-1], flush=True)
                (folder / "out.parquet").unlink()
    from complexity_gap import markdown, write_page

    print(markdown(table))
    if arguments.write:
        stated = f"{arguments.rows:,} rows, {arguments.ids} ids, {size:.1f} GiB in two files."
        page = "many_rows" if arguments.rows == ROWS else f"many_rows-{arguments.rows}"
        write_page("many_rows", "Selections and merges of many rows", table, [stated], page)


if __name__ == "__main__":
    main()
