"""Re-labeling recipes beside standard training on wrong labels: accuracy at the last epoch, and what the new labels got right.

    python benchmarks/relabeling.py [--flips 0.4] [--kept 0.15] [--epochs 50] [--arch lenet5:12] [--augment none] [--seeds 3] [--write]
    python benchmarks/relabeling.py --kept 0.5 --epochs 12 --arch resnet9:8 --augment auto --seeds 1 --page relabeling-half --write
    python benchmarks/relabeling.py --dataset cifar10n --kept 0.2 --epochs 25 --arch resnet9:8 --augment auto --seeds 1 --page ... --write

Fashion-MNIST, a share of the labels replaced by another class, evenly; or CIFAR-10 with the labels ``worse`` of CIFAR-10N (40.2 % wrong).
All recipes train on the same class-balanced random part, for as many epochs, with the same seeds; the network of the last step is tested.
What another ``change_above`` would have changed is read from the confidences. Finished trainings are kept in the work folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from complexity_gap import Table, markdown, write_page
from label_errors import people

RECIPES = ("standard", "sop", "elr", "elr_plus", "dividemix")
THRESHOLDS = (0.5, 0.9, 0.98)
"""Confidences above which labels are changed."""


def flip(clean: Path, noisy: Path, share: float) -> None:
    """Write the data with flipped labels, the true ones beside them, unless that was done."""
    if noisy.exists():
        return
    table = pq.read_table(clean)
    rng = np.random.default_rng(0)
    true = table["label"].to_numpy()
    wrong = rng.random(len(true)) < share
    given = np.where(wrong, (true + rng.integers(1, 10, len(true))) % 10, true)
    at = table.schema.get_field_index("label")
    column = pa.array(given, table.schema.field("label").type)
    table = table.set_column(at, table.schema.field("label"), column).append_column("true_label", pa.array(true))
    pq.write_table(table.replace_schema_metadata(None), noisy)


def prune(*arguments: object) -> dict[str, object]:
    """Run a command and return its summary."""
    command = [sys.executable, "-m", "prune_cli", *map(str, arguments), "-q", "--json", "--force"]
    found: dict[str, object] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def people_said(clean: Path, labels: Path, noisy: Path) -> None:
    """Write CIFAR-10 with the labels ``worse``, the true ones beside them, unless that was done."""
    if noisy.exists():
        return
    table = pq.read_table(clean)
    given = pa.array(people(labels, table["id"].to_pylist(), "worse_label"), table.schema.field("label").type)
    at = table.schema.get_field_index("label")
    table = table.append_column("true_label", table["label"]).set_column(at, table.schema.field("label"), given)
    pq.write_table(table, noisy)


def changes(relabels: Path, noisy: Path) -> dict[str, float]:
    """Return what the new labels got right for each threshold, from those of threshold one half."""
    new = pq.read_table(relabels)
    data = pq.read_table(noisy, columns=["id", "true_label"])
    true_of = dict(zip(data["id"].to_pylist(), data["true_label"].to_pylist(), strict=True))
    true = np.array([true_of[i] for i in new["id"].to_pylist()])
    given, best, confidence = (new[name].to_numpy() for name in ("label", "new_label", "confidence"))
    wrong, found = given != true, {"wrong": float((given != true).mean())}
    for threshold in THRESHOLDS:
        label = np.where(confidence > threshold, best, given)
        changed, right = label != given, label == true
        found |= {
            f"changed/{threshold:g}": float(changed.mean()),
            f"right/{threshold:g}": float(right[changed].mean()),
            f"corrected/{threshold:g}": float(right[wrong].mean()),
            f"broken/{threshold:g}": float((~right)[~wrong].mean()),
            f"left/{threshold:g}": float((~right).mean()),
        }
    return found


def percent(shares: list[float]) -> str:
    """Return the mean in percent; a dash where nothing was changed."""
    return "-" if np.isnan(shares).any() else f"{100 * statistics.mean(shares):.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the Parquet files")
    parser.add_argument("--work", type=Path, default=Path("out/relabeling"))
    parser.add_argument("--dataset", choices=("fashion_mnist", "cifar10n"), default="fashion_mnist")
    parser.add_argument("--flips", type=float, default=0.4)
    parser.add_argument("--kept", type=float, default=0.15)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--arch", default="lenet5:12", help="one that learns wrong labels by heart in that time")
    parser.add_argument("--augment", default="none")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--page", default="relabeling", help="name of the page")
    parser.add_argument("--write", action="store_true", help="update docs/results/PAGE.md")
    arguments = parser.parse_args()
    clean, test = (arguments.data / f"{arguments.dataset.removesuffix('n')}_{part}.parquet" for part in ("train", "test"))
    if not clean.exists():
        sys.exit(f"skipped: {clean} is absent")
    work = arguments.work / arguments.dataset
    work.mkdir(parents=True, exist_ok=True)
    noisy, subset = work / f"noisy-{arguments.flips:g}.parquet", work / f"part-{arguments.kept:g}.parquet"
    if arguments.dataset == "fashion_mnist":
        flip(clean, noisy, arguments.flips)
    else:
        people_said(clean, arguments.data / "cifar10n_labels.parquet", noisy)
    if not subset.exists():
        prune("select", noisy, "--method", "random", "-p", "balanced=true", "--fraction", arguments.kept, "-o", subset)
    name = f"done-{arguments.flips:g}-{arguments.kept:g}-{arguments.epochs}-{arguments.arch.replace(':', '-')}-{arguments.augment}"
    done_file = work / f"{name}.json"
    done: dict[str, dict[str, float]] = json.loads(done_file.read_text()) if done_file.exists() else {}
    for seed in range(arguments.seeds):
        for recipe in RECIPES:
            key = f"{recipe}/{seed}"
            if key in done:
                continue
            run = work / name.replace("done", "run")
            more = ["-p", f"warmup={max(1, arguments.epochs // 6)}"] if recipe == "dividemix" else []
            more += ["-p", "change_above=0.5"] if recipe != "standard" else []
            prune(
                "train", noisy, "--subset", subset, "--recipe", recipe, "--arch", arguments.arch, "--epochs", arguments.epochs,
                "--seed", seed, "-o", run, "-p", f"augment={arguments.augment}", *more,
            )  # fmt: skip
            found = prune("evaluate", run, test, "-o", run.with_suffix(".report.parquet"))
            done[key] = {"accuracy": float(found["accuracy"])}  # type: ignore[arg-type]
            done[key] |= changes(run / "relabels.parquet", noisy) if recipe != "standard" else {}
            done_file.write_text(json.dumps(done))
            print(key, done[key], flush=True)

    heading = ["recipe", "accuracy", "less standard, in pairs"]
    heading += [f"{what} above {t:g}" for t in THRESHOLDS for what in ("changes right", "errors corrected", "wrong left")]
    table: Table = [tuple(heading)]
    for recipe in RECIPES:
        mine = [done[f"{recipe}/{seed}"] for seed in range(arguments.seeds)]
        accuracy = [100 * m["accuracy"] for m in mine]
        pairs = [a - 100 * done[f"standard/{seed}"]["accuracy"] for a, seed in zip(accuracy, range(arguments.seeds), strict=True)]
        spread = f" ± {statistics.stdev(accuracy):.1f}" if len(accuracy) > 1 else ""
        cells = ["", *[""] * 3 * len(THRESHOLDS)]
        if recipe != "standard":
            cells = [f"{statistics.mean(pairs):+.1f} ({min(pairs):+.1f} to {max(pairs):+.1f})"]
            cells += [percent([m[f"{what}/{t:g}"] for m in mine]) for t in THRESHOLDS for what in ("right", "corrected", "left")]
        table.append((f"`{recipe}`", f"{statistics.mean(accuracy):.1f}{spread}", *cells))
    print(markdown(table))
    if arguments.write:
        noise = statistics.mean(m["wrong"] for m in done.values() if "wrong" in m)
        labels = "flipped to another class" if arguments.dataset == "fashion_mnist" else "wrong (CIFAR-10N `worse`)"
        note = (
            f"{arguments.dataset}, {noise:.1%} of the labels {labels}, {arguments.kept:.0%} of the rows, {arguments.arch}, "
            f"{arguments.epochs} epochs, augment={arguments.augment}, {arguments.seeds} seed(s); dividemix warms up for a sixth of "
            "them. Accuracy of the network of the last step on the test set, in percent. A label is changed where the "
            "confidence is above `change_above` (three of them here): share of the changed labels that are right after it, of the "
            "wrong ones that became right, of all labels that are wrong after it."
        )
        write_page("relabeling", "Re-labeling recipes beside standard training", table, [note], page=arguments.page)


if __name__ == "__main__":
    main()
