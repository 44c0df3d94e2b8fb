"""Which windows `prune select` takes where labels are wrong: judged on all labels as given, and on confirmed ones.

    python benchmarks/window_judge.py [--rows 10000] [--work out/window_judge] [--write]

The first rows of Fashion-MNIST, a fifth of the labels flipped to another class, ranked by `cg`; features of one and of five passes.
Finished files are kept in the work folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from complexity_gap import Table, markdown, write_page
from kernel_size import command

from prune_cli.core.rng import generator

KEPT = ("0.1", "0.3", "0.5")
WAYS = {
    "all labels, ridge 1": ("-p", "judge=all", "-p", "ridge=1", "-p", "ridge_unit=none"),
    "all labels": ("-p", "judge=all"),
    "confirmed labels": (),
}
"""How the windows are judged: as published, and what each change to that does."""


def flipped(data: Path, rows: int, path: Path) -> np.ndarray:
    """Write the first rows with a fifth of their labels wrong, and return which are."""
    table = pq.read_table(data).slice(0, rows)
    label = np.asarray(table["label"])
    rng = generator(0, "flips")
    wrong = rng.random(rows) < 0.2
    given = np.where(wrong, (label + rng.integers(1, 10, rows)) % 10, label)
    place = table.schema.get_field_index("label")
    field = table.schema.field("label")
    pq.write_table(table.set_column(place, field, pa.array(given, field.type)), path)
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with fashion_mnist_train.parquet")
    parser.add_argument("--work", type=Path, default=Path("out/window_judge"))
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--write", action="store_true", help="write docs/results/window_judge.md")
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    data, scores = work / "noisy.parquet", work / "cg.parquet"
    wrong = flipped(arguments.data / "fashion_mnist_train.parquet", arguments.rows, data)
    if not scores.exists():
        command("score", data, "--method", "cg", "--precision", "float32", "-o", scores)
    table: Table = [("passes", "judged by", *(f"{float(kept):.0%} kept" for kept in KEPT))]
    for passes in ("1", "5"):
        features = work / f"features-{passes}.parquet"
        if not features.exists():
            command("score", data, "--method", "loss", "--epochs", passes, "--save-features", features, "-o", work / "loss.parquet")
        for name, params in WAYS.items():
            output = work / "kept.parquet"
            shares = []
            for kept in KEPT:
                command("select", scores, "--method", "window", "--features", features, "--fraction", kept, *params, "-o", output)
                shares.append(f"{wrong[np.asarray(pq.read_table(output)['selected'])].mean():.1%}")
            table.append((passes, name, *shares))
            print(table[-1], flush=True)
    print(markdown(table))
    if arguments.write:
        note = (
            f"Share of wrong labels among those kept: {arguments.rows:,} rows of Fashion-MNIST, {wrong.mean():.1%} of the labels wrong, "
            "ranked by `cg`; features of `resnet9:16` trained on the labels as given for so many passes."
        )
        write_page("window_judge", "The window where labels are wrong", table, [note])


if __name__ == "__main__":
    main()
