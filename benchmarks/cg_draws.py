"""How far `cg` hangs on the seed: rank correlation between seeds, and with all rows at once, for one draw and for ten.

    python benchmarks/cg_draws.py [--rows 6000] [--work out/cg_draws] [--write]

The first rows of Fashion-MNIST and CIFAR-10, three seeds. Finished files are kept in the work folder.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from complexity_gap import Table, markdown, write_page
from kernel_size import command, part, ranks

SEEDS = (0, 1, 2)


def scored(data: Path, work: Path, *how: str) -> np.ndarray:
    output = work / f"{data.stem}.{'-'.join(x for x in how if not x.startswith('-'))}.parquet"
    if not output.exists():
        params = [x if x.startswith("-") or x.isdigit() else f"-p{x}" for x in how]
        command("score", data, "--method", "cg", *params, "--precision", "float32", "-o", output)
    return np.asarray(pq.read_table(output)["cg"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the training files")
    parser.add_argument("--work", type=Path, default=Path("out/cg_draws"))
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--write", action="store_true", help="write docs/results/cg_draws.md")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    table: Table = [("data", "draws", "between two seeds", "with exact")]
    for name in ("fashion_mnist", "cifar10"):
        data = part(arguments.data / f"{name}_train.parquet", arguments.work, arguments.rows)
        exact = scored(data, arguments.work, "mode=exact")
        for draws in (1, 10):
            found = [scored(data, arguments.work, "mode=sampled", f"repeats={draws}", "--seed", str(seed)) for seed in SEEDS]
            between = [ranks(a, b) for a, b in itertools.combinations(found, 2)]
            beside = [ranks(a, exact) for a in found]
            table.append((name, str(draws), *(f"{min(x):.3f} to {max(x):.3f}" for x in (between, beside))))
            print(table[-1], flush=True)
    print(markdown(table))
    if arguments.write:
        note = (
            f"Rank correlation (Spearman) of the scores of the first {arguments.rows:,} rows, three seeds. A draw is as many rows of the "
            "other classes as the class has; `-p mode=exact` takes all rows at once and has no seed."
        )
        write_page("cg_draws", "`cg`: how much one draw says", table, [note])


if __name__ == "__main__":
    main()
