"""What training costs beyond the network itself: augmentation, loss per sample, history and observer.

    python benchmarks/training_overhead.py [--steps 200] [--write]

Every step of ``train_standard`` is followed by one step of a bare loop: the same network, optimiser, batch size and
precision on tensors that lie ready, forward, loss, backward, update. Neighbours are compared, so that a machine that
is busy with other things slows both. The figure is the median, over blocks of twenty steps (each with one reading of
loss and accuracy), of the time of ours over that of the bare loop. Passes are short, 6,000 samples, so their change is
counted more often than usual.

On a machine that others use too, set OMP_WAIT_POLICY=passive.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from prune_cli.core.runtime import Runtime
from prune_cli.methods.training.data.inputs import TrainingSet
from prune_cli.methods.training.loop.recording import READ_EVERY
from prune_cli.methods.training.loop.timetable import BATCH_SIZE, Budget
from prune_cli.methods.training.networks.building import build_network
from prune_cli.methods.training.networks.forward import choose_precision
from prune_cli.methods.training.recipes.job import TrainingJob
from prune_cli.methods.training.recipes.sgd import StandardParams, train_standard

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results" / "training_overhead.md"
SAMPLES = 6_000
WARM_UP = READ_EVERY
CASES = [
    ("resnet9:16", (28, 28, 1), "auto"),
    ("resnet9:16", (32, 32, 3), "auto"),
    ("resnet9:16", (28, 28, 1), "float32"),
    ("resnet9:16", (32, 32, 3), "float32"),
]


def bare_step(architecture: str, shape: tuple[int, int, int], precision: str) -> Callable[[], None]:
    """Return one step of the bare loop."""
    height, width, channels = shape
    dtype = choose_precision(precision, torch.device("cpu"), True)
    network = build_network(architecture, shape, 10, seed=0).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(BATCH_SIZE, channels, height, width, generator=generator)
    inputs = inputs.to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH_SIZE,), generator=generator)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            features = network.features(inputs)
        loss = F.cross_entropy(network.head(features.float()), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


class PairTimer:
    """An observer that takes the time of each step and lets the bare loop take one in between."""

    def __init__(self, bare: Callable[[], None]) -> None:
        self.ours: list[float] = []
        self.bare: list[float] = []
        self._bare = bare
        self._mark = time.perf_counter()

    def on_step(self, step: int, steps: int, samples: int, facts: Mapping[str, float]) -> None:
        start = time.perf_counter()
        self._bare()
        end = time.perf_counter()
        self.ours.append(start - self._mark)
        self.bare.append(end - start)
        self._mark = time.perf_counter()

    def on_pass(self, row: Mapping[str, float | int]) -> None:
        pass

    def should_checkpoint(self) -> bool:
        return False

    def save_checkpoint(self, tensors: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        pass

    def should_stop(self) -> bool:
        return False

    def on_note(self, note: str) -> None:
        pass


def measure(architecture: str, shape: tuple[int, int, int], precision: str, steps: int) -> tuple[float, float, float]:
    """Return samples per second of ours and of the bare loop, and the ratio of their times."""
    rng = np.random.default_rng(0)
    data = TrainingSet(
        inputs=rng.integers(0, 256, (SAMPLES, *shape), dtype=np.uint8),
        labels_m=rng.integers(0, 10, SAMPLES),
        ranks_m=np.arange(SAMPLES),
        n_ranks=SAMPLES,
        n_classes=10,
    )
    timer = PairTimer(bare_step(architecture, shape, precision))
    runtime = Runtime(device="cpu", precision=precision)
    budget = Budget(steps=WARM_UP + steps)
    train_standard(TrainingJob(data, architecture, budget, runtime=runtime, observer=timer), StandardParams())
    blocks = [
        (sum(timer.ours[i : i + READ_EVERY]), sum(timer.bare[i : i + READ_EVERY]))
        for i in range(WARM_UP, WARM_UP + steps - READ_EVERY + 1, READ_EVERY)
    ]
    rate = [BATCH_SIZE * READ_EVERY / statistics.median(side) for side in zip(*blocks, strict=True)]
    return rate[0], rate[1], statistics.median(ours / bare for ours, bare in blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--write", action="store_true", help=f"replace docs/results/{PAGE.name}")
    options = parser.parse_args()
    lines = ["| network | picture | precision | bare loop, samples/s | prune, samples/s | over |", "|---|---|---|---|---|---|"]
    for architecture, shape, precision in CASES:
        ours, bare, ratio = measure(architecture, shape, precision, options.steps)
        dtype = str(choose_precision(precision, torch.device("cpu"), True)).removeprefix("torch.")
        size = " x ".join(map(str, shape))
        name = f"{dtype} (auto)" if precision == "auto" else dtype
        lines.append(f"| {architecture} | {size} | {name} | {bare:,.0f} | {ours:,.0f} | {100 * (ratio - 1):+.1f} % |")
        print(lines[-1], flush=True)
    command = f"python benchmarks/training_overhead.py --steps {options.steps} --write"
    page = "\n".join(
        [
            "# Training: what it costs beyond the network",
            "",
            f"Made by `{command}`. Batch {BATCH_SIZE}, {torch.get_num_threads()} threads,",
            f"torch {torch.__version__}, {machine()}. A step of ours and a step of the bare loop (same network,",
            "optimiser and precision on tensors that lie ready) in turns; the last column is the median over blocks of",
            "twenty steps. Target: at most 8 %.",
            "",
            *lines,
            "",
        ]
    )
    print(page)
    if options.write:
        PAGE.write_text(page)


def machine() -> str:
    """Return the processor and its cores in words."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return f"{len(os.sched_getaffinity(0))} cores of {model} {'with' if tiles else 'without'} AMX"


if __name__ == "__main__":
    main()
