"""Test accuracy of what each selection keeps, for budgets from 5 % to 90 %: a network trained for the same steps on each.

    python benchmarks/budgets.py --dataset fashion_mnist [--steps 600] [--seeds 3] [--work out/budgets] [--write]
    python benchmarks/budgets.py --dataset cifar10 ...

One training of the whole data scores it (forgetting, aum), a single pass gives the features: those of the long one fit the very
labels so well that every window looks alike to a linear classifier (window_truth.py). Then every (method, budget, seed) is a
training of the same number of steps and an accuracy on the test set. The seed moves what is drawn, first weights and
order; the order is drawn over the whole data and masked, so methods are compared in pairs. Finished trainings are kept in the work
folder: the same command goes on after a kill. ``--write`` writes docs/results/budgets-DATASET.md and .png, once all are there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from complexity_gap import Table, markdown, write_page

from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.data import DataOptions
from prune_cli.stages.evaluate.command import EvaluateOptions, evaluate
from prune_cli.stages.select.command import select
from prune_cli.stages.select.request import SelectOptions
from prune_cli.stages.train.command import train
from prune_cli.stages.train.options import TrainOptions

FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
METHODS: dict[str, tuple[str, tuple[str, ...], bool, bool, bool]] = {
    # name: method, parameters, per class, needs features, changes with the seed
    "window": ("window", ("key=forgetting", "tie=aum"), False, True, False),
    "ccs": ("stratified", ("key=aum",), False, False, True),
    "moderate": ("moderate", (), False, True, False),
    "hardest": ("top", ("key=forgetting", "tie=aum"), False, False, False),
    "easiest": ("top", ("key=forgetting", "tie=aum", "order=easiest"), False, False, False),
    "random": ("random", (), False, False, True),
    "random per class": ("random", (), True, False, True),
}
"""What is compared; ``hardest`` and ``easiest`` rank as ``window`` does."""


def score(data: Path, output: Path, methods: str, epochs: int, architecture: str, *more: object) -> None:
    """Score the data by one training, unless that was done."""
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "prune_cli", "score", data, "--method", methods, "--epochs", epochs,
            "--arch", architecture, "-o", output, "-q", "--force", *more,
        ]  # fmt: skip
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def selections(work: Path, name: str, seed: int) -> dict[float, Path]:
    """Select every budget, unless that was done; return where the selections are."""
    method, params, per_class, features, seeded = METHODS[name]
    base = work / f"{name.replace(' ', '-')}-{seed if seeded else 0}.parquet"
    made = {f: base.with_name(f"{base.stem}-{f:.10g}.parquet") for f in FRACTIONS}
    if not all(path.exists() for path in made.values()):
        select(
            SelectOptions(
                (str(work / "scores.parquet"),), method=method, params=params, fractions=FRACTIONS, per_class=per_class,
                features=str(work / "features.parquet") if features else None, output=str(base), force=True,
                runtime=Runtime(seed=seed if seeded else 0),
            )
        )  # fmt: skip
    return made


def accuracy(data: Path, test: Path, subset: Path | None, run: Path, seed: int, **how: Any) -> float:
    """Train on a selection, as `TrainOptions` say, and return the accuracy on the test set."""
    runtime = Runtime(seed=seed)
    train(
        TrainOptions(
            DataOptions(str(data)), subset=str(subset) if subset else None, output=str(run), force=True, runtime=runtime,
            **how,
        )
    )  # fmt: skip
    report = run.with_suffix(".report.parquet")
    evaluate(EvaluateOptions(run, DataOptions(str(test)), output=str(report), force=True, runtime=runtime))
    table = pq.read_table(report).to_pylist()
    return next(float(row["value"]) for row in table if row["metric"] == "accuracy" and row["class"] is None)


def starts(work: Path) -> dict[float, float]:
    """Return the best start of the window for each budget."""
    curve = pq.read_table(work / "window-0.curve.parquet").to_pylist()
    return {min(FRACTIONS, key=lambda f: abs(f - row["fraction"])): row["start"] for row in curve if row["best"]}


def draw(
    path: Path, found: dict[str, dict[float, list[float]]], full: list[float], title: str, log: bool = True, depth: float | None = None
) -> None:
    """Draw accuracy over the share kept, for each selection, and that of all data; with a depth no further below that."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for name, by_fraction in found.items():
        means = [statistics.mean(values) for values in by_fraction.values()]
        spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in by_fraction.values()]
        axes.errorbar(list(by_fraction), means, spread, marker=".", capsize=2, label=name)
    axes.axhline(statistics.mean(full), color="grey", linestyle="--", label="all data")
    if depth is not None:
        axes.set_ylim(bottom=statistics.mean(full) - depth)
    axes.set_xscale("log" if log else "linear")
    fractions = list(next(iter(found.values())))
    axes.set_xticks(fractions, [f"{f:.0%}" for f in fractions])
    axes.set_xlabel("share kept")
    axes.set_ylabel("test accuracy, mean and deviation over seeds")
    axes.set_title(title)
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    FigureCanvasAgg(figure)
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("fashion_mnist", "cifar10"), required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the Parquet files")
    parser.add_argument("--work", type=Path, default=Path("out/budgets"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arch", default="resnet9:8", help="the network that is trained on the selections")
    parser.add_argument("--score-epochs", type=int, default=20)
    parser.add_argument("--feature-epochs", type=int, default=1)
    parser.add_argument("--score-arch", default="resnet9:16", help="the network of both")
    parser.add_argument("--write", action="store_true", help="write docs/results/budgets-DATASET.md and .png")
    arguments = parser.parse_args()
    data, test = (arguments.data / f"{arguments.dataset}_{part}.parquet" for part in ("train", "test"))
    if not data.exists():
        sys.exit(f"skipped: {data} is absent")
    work = arguments.work / arguments.dataset
    score(data, work / "scores.parquet", "forgetting,aum", arguments.score_epochs, arguments.score_arch)
    score(
        data, work / "short.parquet", "loss", arguments.feature_epochs, arguments.score_arch,
        "--save-features", work / "features.parquet",
    )  # fmt: skip
    done_file = work / f"accuracies-{arguments.arch.replace(':', '-')}-{arguments.steps}.json"
    done: dict[str, float] = json.loads(done_file.read_text()) if done_file.exists() else {}

    def measured(name: str, fraction: float, seed: int) -> float:
        key = f"{name}/{fraction:g}/{seed}"
        if key not in done:
            subset = None if name == "all data" else selections(work, name, seed)[fraction]
            done[key] = accuracy(data, test, subset, work / "run", seed, steps=arguments.steps, architecture=arguments.arch)
            done_file.write_text(json.dumps(done))
            print(key, f"{done[key]:.4f}", flush=True)
        return done[key]

    full, found = [], {name: {f: [] for f in FRACTIONS} for name in METHODS}  # type: ignore[var-annotated]
    for seed in range(arguments.seeds):
        full.append(measured("all data", 1.0, seed))
        for fraction in FRACTIONS:
            for name in METHODS:
                found[name][fraction].append(measured(name, fraction, seed))

    rows: Table = [("kept", *(f"{f:.0%}" for f in FRACTIONS))]
    for name, by_fraction in found.items():
        cells = []
        for f in FRACTIONS:
            values = [100 * v for v in by_fraction[f]]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        rows.append((name, *cells))
    differences = []
    for f in FRACTIONS:
        pairs = [100 * (a - b) for a, b in zip(found["window"][f], found["random"][f], strict=True)]
        differences.append(f"{statistics.mean(pairs):+.1f} ({min(pairs):+.1f} to {max(pairs):+.1f})")
    rows.append(("window less random, in pairs", *differences))
    best = starts(work)
    rows.append(("start of the window", *(f"{best[f]:.0%}" for f in FRACTIONS)))
    print(markdown(rows))
    if arguments.write:
        name = f"budgets-{arguments.dataset}"
        pictures = Path(__file__).resolve().parent.parent / "docs" / "results"
        draw(pictures / f"{name}.png", found, full, f"{arguments.dataset}: {arguments.arch}, {arguments.steps} steps")
        notes = [
            f"![accuracy over the share kept]({name}.png)",
            f"`--dataset {arguments.dataset} --steps {arguments.steps} --arch {arguments.arch} --score-epochs {arguments.score_epochs} "
            f"--feature-epochs {arguments.feature_epochs} --score-arch {arguments.score_arch} --seeds {arguments.seeds}`. "
            "Test accuracy in percent, mean and standard deviation over seeds; "
            f"{arguments.steps} steps of the default batch size whatever is kept; all data: "
            f"{100 * statistics.mean(full):.1f}. Scores and features are of trainings of all data.",
        ]
        write_page("budgets", f"Accuracy over budgets: {arguments.dataset}", rows, notes, page=name)


if __name__ == "__main__":
    main()
