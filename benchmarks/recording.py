"""What recording the dynamics costs: the same training with and without, taken in turns.

    python benchmarks/recording.py [--write]

A training of resnet9:16 on random pictures of CIFAR-10's shape, as `prune train` runs it: bare, with every pass recorded,
and with the two looks in eval mode that el2n and the end of the training want. Medians of pairs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from complexity_gap import Table, markdown, write_page

from prune_cli.core.runtime import Runtime
from prune_cli.methods.training.data.inputs import TrainingSet
from prune_cli.methods.training.loop.recording import Watch
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.methods.training.recipes.job import TrainingJob
from prune_cli.methods.training.recipes.sgd import StandardParams, train_standard


class Nobody:
    """Watches nothing, keeps nothing."""

    def on_step(self, step: int, steps: int, samples: int, facts: Mapping[str, float]) -> None: ...
    def on_pass(self, row: Mapping[str, float | int]) -> None: ...
    def should_checkpoint(self) -> bool:
        return False

    def save_checkpoint(self, tensors: Any, state: Any) -> None: ...
    def should_stop(self) -> bool:
        return False

    def on_note(self, note: str) -> None: ...
    def on_record(self, mode: str, epoch: int, columns: Mapping[str, np.ndarray]) -> None: ...


def seconds(data: TrainingSet, epochs: int, watch: Watch | None) -> float:
    """Return the seconds of one training."""
    start = time.perf_counter()
    train_standard(
        TrainingJob(data, "resnet9:16", Budget(epochs=epochs), runtime=Runtime(device="cpu"), observer=Nobody(), watch=watch),
        StandardParams(),
    )
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="update docs/results/recording.md")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    n = arguments.samples
    pictures = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    data = TrainingSet(pictures, rng.integers(0, 10, n), np.arange(n), n, 10)
    watches = {
        "every pass recorded": Watch(Nobody(), at_end=False, prob_change=True),
        "and two looks in eval mode": Watch(Nobody(), eval_epochs=frozenset([1]), at_end=True, prob_change=True),
    }
    seconds(data, 1, None)
    ratios: dict[str, list[float]] = {name: [] for name in watches}
    bare: list[float] = []
    for _ in range(arguments.pairs):
        for name, watch in watches.items():
            bare.append(seconds(data, arguments.epochs, None))
            ratios[name].append(seconds(data, arguments.epochs, watch) / bare[-1])
    rows: Table = [("recorded", "cost over the same training without", "lowest to highest", "wanted")]
    for name, found in ratios.items():
        cost = f"{100 * (np.median(found) - 1):+.1f} %"
        rows.append((name, cost, f"{100 * (min(found) - 1):+.1f} to {100 * (max(found) - 1):+.1f} %", "at most 5 %"))
    print(markdown(rows))
    notes = [
        f"{n:,} pictures of 32 x 32 x 3, {arguments.epochs} epochs, batch 128, 10 classes; {arguments.pairs} pairs; the bare training "
        f"takes {np.median(bare):.1f} s. Writing the passes as Parquet is not in it.",
        "A look is one forward pass over all samples, a third of an epoch: two of them are 6.7 % of 10 epochs and 3.3 % of 20, "
        "whatever the machine. One training then serves eleven scores, which would be eleven trainings.",
    ]
    if arguments.write:
        write_page("recording", "What recording costs", rows, notes)


if __name__ == "__main__":
    main()
