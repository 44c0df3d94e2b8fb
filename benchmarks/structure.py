"""Accuracy against FLOPs and parameters of networks that shrink while they train, beside magnitude pruning and the whole network.

    python benchmarks/structure.py --dataset fashion_mnist --arch resnet9:8 [--epochs 8] [--seeds 3] [--work out/structure] [--write]

Every way trains on all of the data for as many epochs with the same seeds; magnitude pruning is given the FLOPs that complexity-aware
training of the same seed ended with. --brief leaves out all but four ways. The second table is data and network together: a
class-balanced random part of the data, half of the FLOPs, each alone and both; --timed trains each of the four once more, one after the
other, for the seconds: ask for it where nothing else runs. How much faster a step gets is in structure_pace.py. Finished trainings are
kept in the work folder: the same command goes on after a kill.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from budgets import accuracy
from complexity_gap import Table, markdown, write_page

from prune_cli.core.runtime import Runtime
from prune_cli.stages.select.command import select
from prune_cli.stages.select.request import SelectOptions

GATES, NORMS = "complexity_aware", "magnitude"
WAYS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "whole": (None, ()),
    "complexity_aware, strength=0.1": (GATES, ("strength=0.1",)),
    "complexity_aware, strength=0.3": (GATES, ("strength=0.3",)),
    "complexity_aware, strength=1": (GATES, ("strength=1",)),
    "complexity_aware, target_flops=0.5": (GATES, ("target_flops=0.5",)),
    "units alone, strength=0.3": (GATES, ("strength=0.3", "layer_weight=0")),
    "layers alone, strength=0.3": (GATES, ("strength=0.3", "unit_weight=0")),
    "magnitude, one shot, FLOPs of target_flops=0.5": (NORMS, ("rounds=1",)),
    "magnitude, one shot, FLOPs of strength=0.3": (NORMS, ("rounds=1",)),
    "magnitude, 5 rounds, FLOPs of strength=0.3": (NORMS, ("rounds=5",)),
    "magnitude, one shot, FLOPs of strength=1": (NORMS, ("rounds=1",)),
}
BRIEF = ("whole", "complexity_aware, strength=0.3", "complexity_aware, target_flops=0.5", "magnitude, one shot, FLOPs of target_flops=0.5")
TOGETHER = {
    "all data, whole network": (1.0, "whole"),
    "30 % of the data, whole network": (0.3, "whole"),
    "all data, half of the FLOPs": (1.0, "complexity_aware, target_flops=0.5"),
    "30 % of the data, half of the FLOPs": (0.3, "complexity_aware, target_flops=0.5"),
}


def measure(
    data: Path, test: Path, subset: Path | None, run: Path, seed: int, way: str, target: float | None, **how: Any
) -> dict[str, float]:
    """Train one way and return its figures."""
    structure, params = WAYS[way]
    if target is not None:
        params = (*params, f"target_flops={target}")
    found = accuracy(data, test, subset, run, seed, structure=structure, params=params, **how)
    model = json.loads((run / "model.json").read_text())
    history = pq.read_table(run / "history.parquet").to_pylist()
    flops = [row["flops"] if structure else model["flops"] for row in history]
    samples = [b["samples"] - a for a, b in zip([0, *(r["samples"] for r in history)], history, strict=False)]
    whole = model.get("structure", {}).get("whole", model)
    return {
        "accuracy": found,
        "flops": model["flops"] / whole["flops"],
        "parameters": model["parameters"] / whole["parameters"],
        "seconds": sum(row["seconds"] for row in history),
        "training_flops": float(sum(3 * f * n for f, n in zip(flops, samples, strict=True))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("fashion_mnist", "cifar10"), required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the Parquet files")
    parser.add_argument("--work", type=Path, default=Path("out/structure"))
    parser.add_argument("--arch", default="resnet9:8")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--full-seeds", type=int, help="seeds of the ways that --brief leaves out; all unless given")
    parser.add_argument("--brief", action="store_true", help="four ways alone, and data and network together")
    parser.add_argument("--timed", action="store_true", help="train the four of the second table once more, for the seconds")
    parser.add_argument("--write", action="store_true", help="write docs/results/structure-DATASET-ARCH.md")
    arguments = parser.parse_args()
    data, test = (arguments.data / f"{arguments.dataset}_{part}.parquet" for part in ("train", "test"))
    if not data.exists():
        sys.exit(f"skipped: {data} is absent")
    arch = arguments.arch.replace(":", "-")
    work = arguments.work / f"{arguments.dataset}-{arch}"
    work.mkdir(parents=True, exist_ok=True)
    part = work / "part.parquet"
    if not part.exists():
        select(
            SelectOptions((str(data),), method="random", params=("balanced=true",), fractions=(0.3,), output=str(part), runtime=Runtime())
        )
    ways = BRIEF if arguments.brief else tuple(WAYS)
    done_file = work / f"done-{arguments.epochs}.json"
    done: dict[str, dict[str, float]] = json.loads(done_file.read_text()) if done_file.exists() else {}

    def measured(way: str, seed: int, share: float = 1.0, again: str = "") -> dict[str, float]:
        key = again + (f"{way}/{seed}" if share == 1.0 else f"{share:g} of the data, {way}/{seed}")
        if key not in done:
            target = None
            if "FLOPs of" in way:
                target = measured(f"complexity_aware, {way.rpartition('FLOPs of ')[2]}", seed)["flops"]
            subset = None if share == 1.0 else part
            done[key] = measure(data, test, subset, work / "run", seed, way, target, architecture=arguments.arch, epochs=arguments.epochs)
            done_file.write_text(json.dumps(done))
            print(key, done[key], flush=True)
        return done[key]

    seeds = range(arguments.seeds)
    fewer = range(min(arguments.seeds, arguments.seeds if arguments.full_seeds is None else arguments.full_seeds))

    def seeds_of(way: str) -> range:
        return seeds if way in BRIEF else fewer

    for seed in seeds:
        for way in ways:
            if seed in seeds_of(way):
                measured(way, seed)
        for share, way in TOGETHER.values():
            measured(way, seed, share)
    timed = {name: measured(way, 0, share, "timed ")["seconds"] for name, (share, way) in TOGETHER.items() if arguments.timed}

    def mean(found: list[dict[str, float]], name: str) -> float:
        return statistics.mean(f[name] for f in found)

    table: Table = [("network", "seeds", "FLOPs left", "parameters left", "accuracy", "less whole, in pairs")]
    for way in ways:
        found, whole = [measured(way, s) for s in seeds_of(way)], [measured("whole", s) for s in seeds_of(way)]
        values = [100 * f["accuracy"] for f in found]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        pairs = [100 * (f["accuracy"] - w["accuracy"]) for f, w in zip(found, whole, strict=True)]
        compared = "" if way == "whole" else f"{statistics.mean(pairs):+.1f} ({min(pairs):+.1f} to {max(pairs):+.1f})"
        table.append(
            (
                way,
                str(len(found)),
                f"{100 * mean(found, 'flops'):.0f} %",
                f"{100 * mean(found, 'parameters'):.0f} %",
                f"{statistics.mean(values):.1f}{spread}",
                compared,
            )
        )
    both: Table = [("data and network", "accuracy", "less all and whole, in pairs", "training FLOPs", "training seconds")]
    for name, (share, way) in TOGETHER.items():
        found, whole = [measured(way, s, share) for s in seeds], [measured("whole", s) for s in seeds]
        pairs = [100 * (f["accuracy"] - w["accuracy"]) for f, w in zip(found, whole, strict=True)]
        both.append(
            (
                name,
                f"{100 * mean(found, 'accuracy'):.1f}",
                f"{statistics.mean(pairs):+.1f} ({min(pairs):+.1f} to {max(pairs):+.1f})",
                f"{100 * mean(found, 'training_flops') / mean(whole, 'training_flops'):.0f} %",
                f"{timed[name]:.0f}" if timed else "",
            )
        )
    print(markdown(table), markdown(both), sep="\n")
    if arguments.write:
        notes = [
            markdown(both),
            f"{arguments.dataset}, {arguments.arch}, {arguments.epochs} epochs, {arguments.seeds} seed(s). Accuracy on the test set in "
            "percent, of the network of the last step. Training FLOPs are those of the whole run, three times a forward pass for each "
            "picture, against all data and the whole network; seconds are of one seed, trained one after the other for them. How much "
            "faster a training step gets: structure_pace.md.",
        ]
        page = f"structure-{arguments.dataset}-{arch}"
        write_page("structure", f"Networks that shrink while they train: {arguments.dataset}, {arguments.arch}", table, notes, page=page)


if __name__ == "__main__":
    main()
