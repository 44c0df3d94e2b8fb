"""Peak memory of scoring from a record of a million samples, for records of different length.

    python benchmarks/record_memory.py [--samples 1000000] [--epochs 5,20] [--write]

A record is streamed a column and an epoch at a time, so the peak must not grow with the epochs: what it is at 20 it is at 200.
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


def make(path: Path, samples: int, epochs: int) -> None:
    """Write a record, an epoch a row group."""
    rng, ids = np.random.default_rng(0), pa.array(np.arange(samples))
    writer: pq.ParquetWriter | None = None
    for epoch in range(1, epochs + 1):
        p = rng.random(samples).astype(np.float32)
        columns = {
            "id": ids, "label": pa.array(np.zeros(samples, np.int64)), "epoch": pa.array(np.full(samples, epoch)),
            "p_label": p, "margin_logit": p - 0.5, "margin_prob": 2 * p - 1, "error_norm": 1 - p,
            "loss": -np.log(p + 1e-6), "correct": p > 0.5,
        }  # fmt: skip
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--epochs", default="5,20")
    parser.add_argument("--write", action="store_true", help="update docs/results/record_memory.md")
    arguments = parser.parse_args()
    rows: Table = [("epochs", "record, GiB", "seconds", "peak memory, GiB")]
    with tempfile.TemporaryDirectory() as place:
        for epochs in map(int, arguments.epochs.split(",")):
            record = Path(place) / "record.parquet"
            # In a process of its own: a command started from a large process counts that one's memory as its own.
            maker = multiprocessing.get_context("spawn").Process(target=make, args=(record, arguments.samples, epochs))
            maker.start()
            maker.join()
            command = [
                sys.executable, "-m", "prune_cli", "score", "--from-dynamics", record, "--method", "forgetting,aum,dyn_unc,dual",
                "-o", Path(place) / "scores.parquet", "--json", "-q", "--force",
            ]  # fmt: skip
            done = json.loads(subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout)
            peak, size = done["peak_memory_bytes"], record.stat().st_size
            rows.append((str(epochs), f"{size / 2**30:.2f}", f"{done['seconds']:.0f}", f"{peak / 2**30:.2f}"))
            print(rows[-1], flush=True)
    print(markdown(rows))
    if arguments.write:
        note = f"{arguments.samples:,} samples; `forgetting`, `aum`, `dyn_unc` and `dual` in one command."
        write_page("record_memory", "Scoring from a long record", rows, [note])


if __name__ == "__main__":
    main()
