"""Which selection trains best when labels are wrong: test accuracy by selection and recipe, at 20, 40, 60, 80 % kept.

    python benchmarks/relabel_training.py --dataset fashion_mnist [--pool 0.3] [--epochs 30] [--seeds 1] [--work out/...] [--write]
    python benchmarks/relabel_training.py --dataset cifar10n --arch resnet9:8 --pool 0.2 ...

The data is a class-balanced random part (the pool) of Fashion-MNIST with 40 % of the labels flipped, or of CIFAR-10 with the labels
``worse`` of CIFAR-10N (40.2 % wrong). A warm-up on the given labels gives loss, margin, forgetting, features and probabilities. Every
(selection, share, recipe, seed) is a training of as many epochs and an accuracy on the test set, of the network of the last step.
Finished trainings are kept in the work folder: the same command goes on after a kill.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from budgets import accuracy, draw, score
from complexity_gap import Table, markdown, write_page
from relabeling import flip, people_said

from prune_cli.core.runtime import Runtime
from prune_cli.stages.select.command import select
from prune_cli.stages.select.request import SelectOptions

FRACTIONS = (0.2, 0.4, 0.6, 0.8)
RECIPES = ("standard", "sop")
SELECTIONS: dict[str, tuple[str, tuple[str, ...], bool]] = {
    # name: method, parameters, changes with the seed
    "neighbor confidence": ("neighbor_confidence", (), False),
    "neighbor confidence, tau .9": ("neighbor_confidence", ("tau=0.9",), False),
    "uniform": ("random", ("balanced=true",), True),
    "small loss": ("top", ("key=loss", "order=easiest"), False),
    "margin": ("top", ("key=margin",), False),
    "forgetting": ("top", ("key=forgetting",), False),
    "moderate": ("moderate", (), False),
}


def make_pool(arguments: argparse.Namespace, work: Path) -> Path:
    """Write the part of the data that is selected from, with given and true labels, unless that was done."""
    pool = work / "pool.parquet"
    if pool.exists():
        return pool
    noisy = work / "noisy.parquet"
    if arguments.dataset == "fashion_mnist":
        flip(arguments.data / "fashion_mnist_train.parquet", noisy, 0.4)
    else:
        people_said(arguments.data / "cifar10_train.parquet", arguments.data / "cifar10n_labels.parquet", noisy)
    table = pq.read_table(noisy)
    rng, given_n = np.random.default_rng(1), table["label"].to_numpy()
    each = round(arguments.pool * len(table) / 10)
    rows = np.sort(np.concatenate([rng.permutation(np.flatnonzero(given_n == c))[:each] for c in range(10)]))
    pq.write_table(table.take(rows), pool)
    return pool


def selection(work: Path, name: str, seed: int) -> dict[float, Path]:
    """Select every share, unless that was done; return where the selections are."""
    method, params, seeded = SELECTIONS[name]
    base = work / f"{name.replace(', ', '-').replace(' ', '-')}-{seed if seeded else 0}.parquet"
    made = {f: base.with_name(f"{base.stem}-{f:.10g}.parquet") for f in FRACTIONS}
    if not all(path.exists() for path in made.values()):
        select(
            SelectOptions(
                (str(work / "scores.parquet"),), method=method, params=params, fractions=FRACTIONS,
                features=str(work / "features.parquet") if method in {"neighbor_confidence", "moderate"} else None,
                output=str(base), force=True, runtime=Runtime(seed=seed),
            )
        )  # fmt: skip
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("fashion_mnist", "cifar10n"), required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the Parquet files")
    parser.add_argument("--work", type=Path, default=Path("out/relabel_training"))
    parser.add_argument("--pool", type=float, default=0.3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=10, help="epochs of the warm-up")
    parser.add_argument("--arch", default="lenet5:12")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write docs/results/relabel_training-DATASET.md and .png")
    arguments = parser.parse_args()
    test = arguments.data / f"{arguments.dataset.removesuffix('n')}_test.parquet"
    if not test.exists():
        sys.exit(f"skipped: {test} is absent")
    work = arguments.work / f"{arguments.dataset}-{arguments.pool:g}-{arguments.arch.replace(':', '-')}"
    work.mkdir(parents=True, exist_ok=True)
    pool = make_pool(arguments, work)
    score(
        pool, work / "scores.parquet", "loss,margin,forgetting", arguments.warmup, arguments.arch, "-p", "margin.of=top",
        "--save-features", work / "features.parquet",
    )  # fmt: skip
    given = pq.read_table(pool, columns=["id", "label", "true_label"])
    wrong = dict(zip(given["id"].to_pylist(), pa.compute.not_equal(given["label"], given["true_label"]).to_pylist(), strict=True))
    done_file = work / f"accuracies-{arguments.epochs}.json"
    done: dict[str, float] = json.loads(done_file.read_text()) if done_file.exists() else {}

    def measured(name: str, fraction: float, recipe: str, seed: int) -> float:
        key = f"{name}/{fraction:g}/{recipe}/{seed}"
        if key not in done:
            subset = None if name == "all" else selection(work, name, seed)[fraction]
            done[key] = accuracy(
                pool, test, subset, work / "run", seed, architecture=arguments.arch, epochs=arguments.epochs, recipe=recipe
            )
            done_file.write_text(json.dumps(done))
            print(key, f"{done[key]:.4f}", flush=True)
        return done[key]

    found: dict[str, dict[str, dict[float, list[float]]]] = {
        recipe: {name: {f: [] for f in FRACTIONS} for name in SELECTIONS} for recipe in RECIPES
    }
    full: dict[str, list[float]] = {recipe: [] for recipe in RECIPES}
    for seed in range(arguments.seeds):
        for recipe in RECIPES:
            full[recipe].append(measured("all", 1.0, recipe, seed))
        for fraction in FRACTIONS:
            for name in SELECTIONS:
                for recipe in RECIPES:
                    found[recipe][name][fraction].append(measured(name, fraction, recipe, seed))

    table: Table = [("recipe", "kept by", *(f"{f:.0%} kept" for f in FRACTIONS))]
    noise = {}
    for name in SELECTIONS:
        for f in FRACTIONS:
            kept = pq.read_table(selection(work, name, 0)[f], filters=[("selected", "=", True)], columns=["id"])
            noise[name, f] = statistics.mean(wrong[i] for i in kept["id"].to_pylist())
    for recipe in RECIPES:
        for name in SELECTIONS:
            cells = []
            for f in FRACTIONS:
                values = [100 * v for v in found[recipe][name][f]]
                spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.1f}{spread}")
            table.append((f"`{recipe}` (all of it: {100 * statistics.mean(full[recipe]):.1f})", name, *cells))
    for name in SELECTIONS:
        table.append(("wrong labels kept", name, *(f"{100 * noise[name, f]:.0f} %" for f in FRACTIONS)))
    print(markdown(table))
    if arguments.write:
        page = f"relabel_training-{arguments.dataset}"
        pictures = Path(__file__).resolve().parent.parent / "docs" / "results"
        notes = []
        for recipe in RECIPES:
            draw(pictures / f"{page}-{recipe}.png", found[recipe], full[recipe], f"{arguments.dataset}, {recipe}", log=False, depth=0.3)
            notes.append(f"![accuracy over the share kept, {recipe}]({page}-{recipe}.png)")
        notes.append(
            f"{len(wrong):,} rows ({100 * statistics.mean(wrong.values()):.1f} % of the labels wrong), {arguments.arch}, "
            f"{arguments.epochs} epochs whatever is kept, warm-up of {arguments.warmup} epochs, {arguments.seeds} seed(s). "
            "Accuracy of the network of the last step on the test set, in percent."
        )
        write_page("relabel_training", f"Selection and recipe on wrong labels: {arguments.dataset}", table, notes, page=page)


if __name__ == "__main__":
    main()
