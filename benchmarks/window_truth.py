"""What every window of difficulty is worth: a network trained on each, beside what the proxy of ``window`` says of it.

    python benchmarks/window_truth.py --dataset cifar10 [--steps 600] [--fractions 0.05,0.1,0.2,0.3,0.5] [--work out/budgets] [--write]

The scores and the work folder are those of budgets.py, which makes the scores. Windows start every ``--step`` of the samples, over all
samples and inside each class; each is a training of the same steps with the same seed, finished ones are kept in the work folder. For
features of a network trained for one pass and for three, the page says the rank correlation of the proxy with the truth, where the proxy
starts, and the accuracy there beside that of the best start.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from budgets import accuracy, score
from complexity_gap import Table, markdown, write_page

from prune_cli.core.runtime import Runtime
from prune_cli.stages.select.command import select
from prune_cli.stages.select.request import SelectOptions


def starts_of(fraction: float, step: float) -> list[float]:
    """Return the starts that are trained: every step, and the easiest window."""
    grid = [float(s) for s in np.arange(0, 1 - fraction - 1e-9, step).round(6)]
    return [*grid, round(1 - fraction, 6)]


def window(work: Path, fraction: float, start: float, per_class: bool) -> Path:
    """Select one window by its start, unless that was done."""
    path = work / f"at-{'class-' if per_class else ''}{fraction:g}-{start:g}.parquet"
    if not path.exists():
        select(
            SelectOptions(
                (str(work / "scores.parquet"),), method="top", params=("key=forgetting", "tie=aum", f"offset={start}"),
                fractions=(fraction,), per_class=per_class, output=str(path), force=True, runtime=Runtime(seed=0),
            )
        )  # fmt: skip
    return path


def proxies(work: Path, features: Path, scope: str, step: float, fractions: list[float]) -> dict[float, dict[float, float]]:
    """Return the proxy's accuracy by fraction and start."""
    base = work / f"proxy-{scope}-{features.stem}.parquet"
    select(
        SelectOptions(
            (str(work / "scores.parquet"),), method="window", fractions=tuple(fractions), features=str(features),
            params=("key=forgetting", "tie=aum", f"scope={scope}", f"step={step}"), output=str(base), force=True,
        )
    )  # fmt: skip
    found: dict[float, dict[float, float]] = {f: {} for f in fractions}
    for row in pq.read_table(base.with_suffix(".curve.parquet")).to_pylist():
        fraction = min(fractions, key=lambda f: abs(f - row["fraction"]))
        found[fraction][round(row["start"], 6)] = row["proxy_accuracy"]
    return found


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's rank correlation."""
    from torchmetrics.functional.regression import spearman_corrcoef

    return float(spearman_corrcoef(torch.from_numpy(a), torch.from_numpy(b)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("fashion_mnist", "cifar10"), required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the Parquet files")
    parser.add_argument("--work", type=Path, default=Path("out/budgets"))
    parser.add_argument("--fractions", default="0.05,0.1,0.2,0.3,0.5")
    parser.add_argument("--step", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--arch", default="resnet9:8")
    parser.add_argument("--feature-epochs", default="1,3")
    parser.add_argument("--score-arch", default="resnet9:16", help="the network that gives the features")
    parser.add_argument("--write", action="store_true", help="write docs/results/window_truth-DATASET.md")
    arguments = parser.parse_args()
    data, test = (arguments.data / f"{arguments.dataset}_{part}.parquet" for part in ("train", "test"))
    work = arguments.work / arguments.dataset
    if not data.exists() or not (work / "scores.parquet").exists():
        sys.exit(f"skipped: {data} or {work / 'scores.parquet'} is absent; budgets.py makes the scores")
    done_file = work / f"truth-{arguments.arch.replace(':', '-')}-{arguments.steps}.json"
    done: dict[str, float] = json.loads(done_file.read_text()) if done_file.exists() else {}
    fractions = [float(f) for f in arguments.fractions.split(",")]
    for fraction in fractions:
        for per_class in (False, True):
            for start in starts_of(fraction, arguments.step):
                key = f"{'class' if per_class else 'global'}/{fraction:g}/{start:g}"
                if key not in done:
                    subset = window(work, fraction, start, per_class)
                    done[key] = accuracy(data, test, subset, work / "truth", 0, steps=arguments.steps, architecture=arguments.arch)
                    done_file.write_text(json.dumps(done))
                    print(key, f"{done[key]:.4f}", flush=True)

    rows: Table = [("windows", "features after", *(f"{f:.0%}" for f in fractions))]
    for scope in ("global", "class"):
        for epochs in arguments.feature_epochs.split(","):
            features = work / f"features-{epochs}.parquet"
            score(
                data, work / f"short-{epochs}.parquet", "loss", int(epochs), arguments.score_arch,
                "--save-features", features,
            )  # fmt: skip
            proxy = proxies(work, features, scope, arguments.step, fractions)
            cells = []
            for fraction in fractions:
                starts = starts_of(fraction, arguments.step)
                truth = np.array([done[f"{scope}/{fraction:g}/{start:g}"] for start in starts])
                said = np.array([proxy[fraction][start] for start in starts])
                best = int(said.argmax())
                cells.append(
                    f"{correlation(said, truth):+.2f}, starts at {starts[best]:.0%}: {100 * truth[best]:.1f} of {100 * truth.max():.1f}"
                )
            rows.append((scope, f"{epochs} pass{'es' if epochs != '1' else ''}", *cells))
    print(markdown(rows))
    if arguments.write:
        notes = [
            f"{arguments.dataset}, {arguments.arch}, {arguments.steps} steps, one seed; windows by forgetting, then aum, starting every "
            f"{arguments.step:.0%}. In a cell: Spearman's correlation of the proxy's accuracy with the test accuracy of a network "
            "trained on the window, the start the proxy takes, the test accuracy there in percent, and that of the best start."
        ]
        write_page(
            "window_truth", f"What the proxy of window knows: {arguments.dataset}", rows, notes,
            page=f"window_truth-{arguments.dataset}",
        )  # fmt: skip


if __name__ == "__main__":
    main()
