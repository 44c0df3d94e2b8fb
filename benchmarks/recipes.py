"""Images a second of every recipe beside standard training, in turns.

    python benchmarks/recipes.py [--device cuda] [--rounds 5] [--steps 20] [--write]

Each recipe trains as `prune train` runs it, on random pictures in memory, with the augmentation that it takes by itself. The time of one
pass is that of two passes less that of one, so that what happens once does not count; for dividemix there is no warm-up, and the look at
all samples and the mixtures that a pass begins with are counted. In every round the recipes take turns; shares are medians of rounds.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
import torch
from complexity_gap import Table, markdown, write_page
from recording import Nobody
from throughput import finished

from prune_cli.core.runtime import Runtime
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.training.data.inputs import TrainingSet
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.methods.training.recipes.job import TrainingJob

RECIPES: dict[str, dict[str, Any]] = {"standard": {}, "elr": {}, "sop": {}, "elr_plus": {}, "dividemix": {"warmup": 0}}
BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of a pass")
    parser.add_argument("--archs", default="lenet5:12,resnet9:16")
    parser.add_argument("--write", action="store_true", help="update docs/results/recipes.md")
    arguments = parser.parse_args()
    device, n = torch.device(arguments.device), BATCH * arguments.steps
    table: Table = [("network", "pictures", *RECIPES)]
    for architecture in arguments.archs.split(","):
        shape = (28, 28, 1) if architecture.startswith("lenet") else (32, 32, 3)
        rng = np.random.default_rng(0)
        data = TrainingSet(rng.integers(0, 256, (n, *shape), dtype=np.uint8), rng.integers(0, 10, n), np.arange(n), n, 10)
        runtime = Runtime(device=arguments.device, batch_size=BATCH)

        def train(name: str, passes: int, data: TrainingSet = data, architecture: str = architecture) -> None:
            method = find_method("recipe", name)
            job = TrainingJob(data, architecture, Budget(epochs=passes), runtime, Nobody())  # noqa: B023
            method.load()(job, method.params_class()(**RECIPES[name]))

        rates: dict[str, list[float]] = {name: [] for name in RECIPES}
        for name in RECIPES:
            train(name, 1)
        for _ in range(arguments.rounds):
            for name in RECIPES:
                one = finished(device, lambda name=name: train(name, 1))  # type: ignore[misc]
                two = finished(device, lambda name=name: train(name, 2))  # type: ignore[misc]
                rates[name].append(n / (two - one))
        cells = []
        for name in RECIPES:
            share = statistics.median(r / s for r, s in zip(rates[name], rates["standard"], strict=True))
            cells.append(f"{statistics.median(rates[name]):,.0f}" + ("" if name == "standard" else f" ({100 * share:.0f} %)"))
        table.append((f"`{architecture}`", " x ".join(map(str, shape)), *cells))
        print(table[-1], flush=True)
    print(markdown(table))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    note = f"On {name}, batches of {BATCH}, {n:,} pictures; in brackets the share of standard training's images a second."
    if arguments.write:
        write_page("recipes", "Images a second of the recipes", table, [note])


if __name__ == "__main__":
    main()
