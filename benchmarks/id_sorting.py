"""Time and peak memory of putting ids in order and finding those that stand twice: prune's way beside DuckDB and Polars.

    python benchmarks/id_sorting.py [--rows 20000000] [--memory-limit 1GiB]... [--turns 3] [--only NAME]... [--folder DIR] [--write]

The job is that of select and manifest merge: a Parquet file of ids in random order is read, and the positions of its rows by ascending
id come out as an array, with the number of ids that stand more than once, of which there are ten. Each turn of each library is a process
of its own; the seconds are those of the job, after the imports, and the memory is the largest resident size of the process, with the
array. The order is checked after that.

Of the memory limit as much is taken off for the process itself as prune does. DuckDB may spill to a folder, and Polars, whose streaming
engine sorts, heeds no limit. DuckDB and Polars use all cores, prune one. "Reading alone" is pyarrow's reading of the file, a row group at
a time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROWS = 20_000_000

MAKE = """
import sys, numpy as np, pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
rows, rng, step = int(sys.argv[1]), np.random.default_rng(0), 131072
numbers = rng.permutation(np.arange(rows, dtype=np.uint32))
numbers[rng.choice(rows // 2, 10, replace=False)] = numbers[rows // 2 : rows // 2 + 10]
for kind in ("numbers", "hex"):
    with pq.ParquetWriter(f"{kind}.parquet", pa.schema({"id": pa.string()})) as writer:
        for start in range(0, rows, step):
            here = numbers[start : start + step]
            if kind == "numbers":
                digits = pc.utf8_lpad(pa.array(here).cast(pa.string()), 8, "0")
                ids = pc.binary_join_element_wise("row-", digits, "")
            else:
                halves = [(here.astype(np.uint64) + 1) * np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)]
                ids = pa.array([f"{a:016x}{b:016x}" for a, b in zip(*(half.tolist() for half in halves))])
            writer.write_batch(pa.record_batch([ids], names=["id"]))
"""
READ = """
def job(path, rows, memory):
    import pyarrow.parquet as pq
    for batch in pq.ParquetFile(path, pre_buffer=False).iter_batches(131072):
        pass
    return None, None
"""
PRUNE = """
import numpy
from prune_cli.io.ids.order import order_of
from prune_cli.io.ids.rows import RowIds
from prune_cli.io.parquet.tables import ParquetSource
def job(path, rows, memory):
    ids = RowIds(ParquetSource(path))
    order, first = order_of(ids.read, rows, memory and memory - 9 * rows)
    return order, int((~first).sum())
"""
DUCKDB = """
import duckdb, numpy
def job(path, rows, memory):
    connection = duckdb.connect()
    if memory:
        connection.execute(f"SET memory_limit = '{memory}B'")
    connection.execute("SET temp_directory = 'spill'")
    connection.execute("SET enable_progress_bar = false")
    twice = connection.execute(
        f"SELECT count(*) FROM (SELECT id FROM read_parquet('{path}') GROUP BY id HAVING count(*) > 1)"
    ).fetchone()[0]
    found = connection.execute(f"SELECT file_row_number FROM read_parquet('{path}', file_row_number = true) ORDER BY id")
    order, done = numpy.empty(rows, numpy.int32), 0
    while True:
        part = found.fetch_df_chunk(64)["file_row_number"].to_numpy()
        if not len(part):
            return order, twice
        order[done : done + len(part)] = part
        done += len(part)
"""
POLARS = """
import polars
def job(path, rows, memory):
    lines = polars.scan_parquet(path).with_row_index("row").sort("id")
    again = (polars.col("id") == polars.col("id").shift()).fill_null(False).alias("again")
    found = lines.select("row", again).collect(engine="streaming")
    return found["row"].to_numpy(), int(found["again"].sum())
"""
FRAME = """
import json, resource, sys, time
path, rows, memory = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) or None
start, busy = time.perf_counter(), time.process_time()
order, twice = job(path, rows, memory)
said = [time.perf_counter() - start, time.process_time() - busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]
if order is not None:
    import numpy as np, pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
    assert twice == 10, twice
    assert (np.bincount(order, minlength=rows) == 1).all()
    ids = pq.read_table(path)["id"].cast(pa.large_string()).combine_chunks()
    for at in range(0, rows, 1 << 20):
        here = ids.take(pa.array(order[at : at + (1 << 20) + 1]))
        assert pc.all(pc.less_equal(here[:-1], here[1:])).as_py() is not False
print(json.dumps(said))
"""
SIDES = {"reading alone": READ, "prune": PRUNE, "DuckDB": DUCKDB, "Polars": POLARS}
KINDS = {"numbers": "`row-00000017`", "hex": "32 random hex digits"}


def measure(side: str, kind: str, rows: int, memory: int, folder: Path) -> tuple[float, float, float]:
    """Return the seconds of a job, those of all cores, and the largest resident size of its process in GiB."""
    words = [sys.executable, "-c", SIDES[side] + FRAME, f"{kind}.parquet", str(rows), str(memory)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} ended with {done.returncode}: {done.stderr}")
    seconds, busy, peak = json.loads(done.stdout)
    return seconds, busy, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--memory-limit", action="append", help="limits to run under, beside none")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", action="append", choices=SIDES, help="libraries to run, all by default")
    parser.add_argument("--folder", type=Path, help="where the files are made, a temporary folder by default")
    parser.add_argument("--write", action="store_true", help="update docs/results/id_sorting.md, or id_sorting-ROWS.md")
    arguments = parser.parse_args()
    sides = [side for side in SIDES if not arguments.only or side in arguments.only]
    table = [("ids", "memory limit", "by", "seconds, median", "CPU seconds, median", "peak memory, GiB")]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        folder = Path(place)
        subprocess.run([sys.executable, "-c", MAKE, str(arguments.rows)], cwd=folder, check=True)
        for kind, shown in KINDS.items():
            for limit in (None, *(arguments.memory_limit or ())):
                memory = spendable(limit) if limit else 0
                turns = [[measure(side, kind, arguments.rows, memory, folder) for side in sides] for _ in range(arguments.turns)]
                for side, found in zip(sides, zip(*turns, strict=True), strict=True):
                    seconds, busy, peaks = zip(*found, strict=True)
                    figures = (statistics.median(seconds), statistics.median(busy), max(peaks))
                    table.append((shown, limit or "", side, *(f"{figure:.2f}" for figure in figures)))
                    print(table[-1], flush=True)
    from complexity_gap import markdown, write_page

    print(markdown(table))
    if arguments.write:
        versions = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "polars", "pyarrow"))
        notes = [
            f"{arguments.rows:,} rows; medians of {arguments.turns} turns, the memory the largest. {versions}.",
            "The ten ids that stand twice are found, and every order is checked. DuckDB and Polars use all cores, prune one; of the "
            "three Polars alone heeds no limit.",
        ]
        page = "id_sorting" if arguments.rows == ROWS else f"id_sorting-{arguments.rows}"
        write_page("id_sorting", "Ids in order, beside DuckDB and Polars", table, notes, page)


def spendable(limit: str) -> int:
    """Return what is left of a memory limit for the work, as prune reckons."""
    from prune_cli.core.runtime import parse_size
    from prune_cli.stages.frame.memory import PROCESS_BYTES

    return parse_size(limit) - PROCESS_BYTES


def version(name: str) -> str:
    from importlib.metadata import version as found

    return found(name)


if __name__ == "__main__":
    main()
