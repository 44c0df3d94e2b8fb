"""Do selections by three scores beat random ones? ``prune compare`` on Fashion-MNIST, its commands as a user types them.

    python benchmarks/compare.py [--epochs 4] [--seeds 3] [--arch resnet9:8] [--work out/compare] [--write]

cg needs no training; forgetting, el2n and aum come from one training of 10 epochs, the features from one of a single epoch. Then every
score with window, ccs and top at 10, 30 and 50 % is compared with random and all the data, at equal steps and at equal epochs.
Finished trainings stay in the work folder: the same command goes on after a kill. ``--write`` writes docs/results/compare-DATASET.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from complexity_gap import Table, markdown, write_page

KEYS = ("cg", "forgetting", "el2n")
METHODS = ("window", "ccs", "top")
FRACTIONS = (0.1, 0.3, 0.5)


def prune(*arguments: object, said: Path | None = None) -> None:
    """Run one command, what it prints kept in a file."""
    command = [sys.executable, "-m", "prune_cli", *map(str, arguments)]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if found.returncode not in (0, 1):  # 1: a gate failed
        sys.exit(found.returncode)
    if said is not None:
        said.write_text(found.stdout)


def score(data: Path, work: Path, epochs: int, architecture: str) -> None:
    """Score the data in three commands, each unless it was done."""
    wanted: dict[str, tuple[object, ...]] = {
        "cg": ("cg", "-p", "repeats=4"),
        "short": (
            "loss", "--epochs", 1, "--arch", architecture, "--save-features", work / "features.parquet",
        ),
        "trained": ("forgetting,el2n,aum", "--epochs", epochs, "--arch", architecture),
    }  # fmt: skip
    for name, how in wanted.items():
        output = work / f"{name}.parquet"
        if not output.exists():
            prune("score", data, "--method", *how, "-o", output, "--json", "--force", said=work / f"{name}.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("fashion_mnist", "cifar10"), default="fashion_mnist")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the Parquet files")
    parser.add_argument("--work", type=Path, default=Path("out/compare"))
    parser.add_argument("--epochs", type=int, default=4, help="of a training of all the data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--arch", default="resnet9:8", help="the network that is trained on the selections")
    parser.add_argument("--score-epochs", type=int, default=10)
    parser.add_argument("--score-arch", default="resnet9:16")
    parser.add_argument("--write", action="store_true", help="write docs/results/compare-DATASET.md")
    arguments = parser.parse_args()
    data, test = (arguments.data / f"{arguments.dataset}_{part}.parquet" for part in ("train", "test"))
    if not data.exists():
        sys.exit(f"skipped: {data} is absent")
    work = arguments.work / arguments.dataset
    work.mkdir(parents=True, exist_ok=True)
    score(data, work, arguments.score_epochs, arguments.score_arch)
    prune(
        "compare", work / "trained.parquet", work / "cg.parquet", "--data", data, "--test", test,
        "--methods", ",".join(METHODS), "--keys", ",".join(KEYS), "--fractions", ",".join(f"{f:g}" for f in FRACTIONS),
        "--features", work / "features.parquet", "--budget", "both", "--epochs", arguments.epochs,
        "--seeds", arguments.seeds, "--arch", arguments.arch, "--jobs", arguments.jobs,
        "--costs", work / "cg.json", "--costs", work / "short.json", "--costs", work / "trained.json",
        "--gate", "accuracy >= random", "--gate-undecided", "pass",
        "--work-dir", work / "cells", "-o", work / "compare.parquet", "--json", "--force", said=work / "compare.json",
    )  # fmt: skip
    rows = pq.read_table(work / "compare.parquet").to_pylist()
    table = [*accuracies(rows, "steps"), *accuracies(rows, "epochs")[1:]]
    paying = break_even(rows)
    print(markdown(table), markdown(paying), sep="\n\n")
    if arguments.write:
        notes = [
            "Test accuracy in percent, mean over the seeds; in brackets the paired difference to as many random rows, with its 95 % "
            "interval (Student, over the seeds). The last checkpoint counts, never the best. Equal steps: every selection is trained "
            f"for as many steps as {arguments.epochs} passes over all the data have; equal epochs: for {arguments.epochs} passes "
            "over itself.",
            markdown(paying),
            "From which training on scoring, selecting and training cost no more than as many trainings of all the data, in seconds and "
            "in FLOPs; `never` where a training on the selection is no cheaper, as with equal steps.",
            "Seconds are medians over the seeds; these trainings were not taken in turns, so with other work on the machine they "
            "wander, and FLOPs do not. With equal steps a training on a selection is as long as one on all the data: scoring cannot "
            "pay in time, only in accuracy.",
            f"`--dataset {arguments.dataset} --epochs {arguments.epochs} --seeds {arguments.seeds} --arch {arguments.arch} "
            f"--score-epochs {arguments.score_epochs} --score-arch {arguments.score_arch}`.",
        ]
        write_page("compare", f"Is it worth it? {arguments.dataset}", table, notes, page=f"compare-{arguments.dataset}")


def accuracies(rows: list[dict[str, Any]], budget: str) -> Table:
    """Return one line a method: accuracy and the difference to random at every fraction."""
    level = [r for r in rows if r["metric"] == "accuracy" and r["class"] is None and r["seed"] is None and r["budget"] == budget]
    methods = dict.fromkeys(r["method"] for r in level)
    table: Table = [("equal", "trained on", *(f"{f:.0%}" for f in FRACTIONS))]
    for method in methods:
        cells = []
        for fraction in FRACTIONS:
            mine = [r for r in level if r["method"] == method and (method == "full" or abs(r["fraction"] - fraction) < 1e-3)]
            mean = next(r for r in mine if r["against"] is None)
            less = next((r for r in mine if r["against"] == "random"), None)
            said = "" if less is None else f" ({100 * less['value']:+.1f}: {100 * less['low']:+.1f} to {100 * less['high']:+.1f})"
            cells.append(f"{100 * mean['value']:.1f}{said}")
        table.append((budget, method, *cells))
    return table


def break_even(rows: list[dict[str, Any]]) -> Table:
    """Return one line a method and budget: what selecting costs, and from which training on it pays."""
    table: Table = [("equal", "trained on", "scoring s", "selecting s", *(f"pays at {f:.0%}: s, FLOPs" for f in FRACTIONS))]
    methods = dict.fromkeys((r["budget"], r["method"]) for r in rows if r["metric"] == "score_seconds")
    for budget, method in methods:
        mine = [r for r in rows if (r["budget"], r["method"]) == (budget, method)]
        seconds = {n: next(r["value"] for r in mine if r["metric"] == n) for n in ("score_seconds", "select_seconds")}
        cells = []
        for fraction in FRACTIONS:
            pays = {
                r["unit"]: r["value"] for r in mine
                if r["metric"] == "break_even_trainings" and abs(r["fraction"] - fraction) < 1e-3
            }  # fmt: skip
            cells.append(", ".join("never" if v is None else f"{v:.0f}" for v in (pays["seconds"], pays["flops"])))
        table.append((budget, method, f"{seconds['score_seconds']:.0f}", f"{seconds['select_seconds']:.1f}", *cells))
    return table


if __name__ == "__main__":
    main()
