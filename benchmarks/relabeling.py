"""Re-labeling recipes beside standard training on wrong labels: accuracy at the last epoch, and what the new labels got right.

    python benchmarks/relabeling.py [--flips 0.4] [--kept 0.15] [--epochs 50] [--seeds 3] [--work out/relabeling] [--write]

Fashion-MNIST, a share of the labels replaced by another class, evenly. All recipes train on the same class-balanced random part, for as
many epochs, with the same seeds, un-augmented (but for the second view of sop); the network of the last step is tested. Finished trainings
are kept in the work folder.
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

RECIPES = ("standard", "sop", "elr", "elr_plus", "dividemix")
FIGURES = ("accuracy", "changed", "changed_right", "errors_corrected", "good_broken", "label_noise_left")


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the Parquet files")
    parser.add_argument("--work", type=Path, default=Path("out/relabeling"))
    parser.add_argument("--flips", type=float, default=0.4)
    parser.add_argument("--kept", type=float, default=0.15)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--arch", default="lenet5:12", help="one that learns wrong labels by heart in that time")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="update docs/results/relabeling.md")
    arguments = parser.parse_args()
    clean, test = (arguments.data / f"fashion_mnist_{part}.parquet" for part in ("train", "test"))
    if not clean.exists():
        sys.exit(f"skipped: {clean} is absent")
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    noisy, subset = work / f"flips-{arguments.flips:g}.parquet", work / f"part-{arguments.kept:g}.parquet"
    flip(clean, noisy, arguments.flips)
    if not subset.exists():
        prune("select", noisy, "--method", "random", "-p", "balanced=true", "--fraction", arguments.kept, "-o", subset)
    done_file = (
        work / f"done-{arguments.flips:g}-{arguments.kept:g}-{arguments.epochs}-{arguments.arch.replace(':', '-')}.json"
    )
    done: dict[str, dict[str, float]] = json.loads(done_file.read_text()) if done_file.exists() else {}
    for seed in range(arguments.seeds):
        for recipe in RECIPES:
            key = f"{recipe}/{seed}"
            if key in done:
                continue
            run = work / "run"
            warm = ["-p", f"warmup={max(1, arguments.epochs // 6)}"] if recipe == "dividemix" else []
            trained = prune(
                "train", noisy, "--subset", subset, "--recipe", recipe, "--arch", arguments.arch, "--epochs", arguments.epochs,
                "--seed", seed, "-o", run, "-p", "augment=none", *warm,
            )  # fmt: skip
            relabels = ["--relabels", run / "relabels.parquet"] if recipe != "standard" else []
            found = prune("evaluate", run, test, "--data", noisy, *relabels, "-o", work / "report.parquet")
            done[key] = {name: float(found[name]) for name in FIGURES if name in found}  # type: ignore[arg-type]
            done[key]["samples_per_second"] = float(trained["samples_per_second"])  # type: ignore[arg-type]
            done_file.write_text(json.dumps(done))
            print(key, done[key], flush=True)

    heading = (
        "recipe",
        "accuracy",
        "less standard, in pairs",
        "labels changed",
        "of these right",
        "errors corrected",
        "good broken",
    )
    table: Table = [(*heading, "wrong before", "wrong after", "images/s")]
    for recipe in RECIPES:
        mine = [done[f"{recipe}/{seed}"] for seed in range(arguments.seeds)]
        accuracy = [100 * m["accuracy"] for m in mine]
        pairs = [
            a - 100 * done[f"standard/{seed}"]["accuracy"]
            for a, seed in zip(accuracy, range(arguments.seeds), strict=True)
        ]
        spread = f" ± {statistics.stdev(accuracy):.1f}" if len(accuracy) > 1 else ""

        def mean(name: str, mine: list[dict[str, float]] = mine) -> str:
            values = [m[name] for m in mine if name in m]
            return f"{100 * statistics.mean(values):.1f} %" if values else ""

        table.append(
            (
                f"`{recipe}`",
                f"{statistics.mean(accuracy):.1f}{spread}",
                ""
                if recipe == "standard"
                else f"{statistics.mean(pairs):+.1f} ({min(pairs):+.1f} to {max(pairs):+.1f})",
                *(mean(name) for name in ("changed", "changed_right", "errors_corrected", "good_broken")),
                f"{100 * arguments.flips:.0f} %",
                mean("label_noise_left"),
                f"{statistics.median(m['samples_per_second'] for m in mine):,.0f}",
            )
        )
    print(markdown(table))
    if arguments.write:
        note = (
            f"Fashion-MNIST, {arguments.flips:.0%} of the labels flipped to another class, {arguments.kept:.0%} of the rows, "
            f"{arguments.arch}, {arguments.epochs} epochs, {arguments.seeds} seeds; "
            "dividemix warms up for a sixth of them. Accuracy of "
            "the network of the last step on the test set, in percent. Other work shared the cores, so images per second are low."
        )
        write_page("relabeling", "Re-labeling recipes beside standard training", table, [note])


if __name__ == "__main__":
    main()
