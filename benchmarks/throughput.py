"""Images a second through training and through a look in eval mode, and what share of the device's matrix rate that is.

    python benchmarks/throughput.py [--device cuda] [--arch resnet18] [--precision bfloat16] [--batch-size 512] [--write]

The matrix rate is that of one large product in the same precision, measured here. A training step counts as three forward passes.
The training is `train_standard` on random 32 x 32 pictures in memory, as `prune train` runs it (augmentation, loss per sample,
history); its time is the difference of a long and a short one, so that what happens once does not count.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from complexity_gap import Table, markdown, write_page
from recording import Nobody

from prune_cli.core.runtime import Runtime
from prune_cli.methods.training.data.inputs import TrainingSet
from prune_cli.methods.training.loop.timetable import Budget
from prune_cli.methods.training.networks.building import build_network
from prune_cli.methods.training.networks.network import network_cost
from prune_cli.methods.training.networks.predict import predict
from prune_cli.methods.training.recipes.job import TrainingJob
from prune_cli.methods.training.recipes.sgd import StandardParams, train_standard


def finished(device: torch.device, run: Callable[[], object]) -> float:
    """Return the seconds until the device has done it."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Return the floating-point operations a second of a square product."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    finished(device, lambda: a @ b)
    return 2 * size**3 / statistics.median(finished(device, lambda: a @ b) for _ in range(9))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--precision", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--matrix", type=int, default=8192)
    parser.add_argument("--write", action="store_true", help="update docs/results/throughput.md")
    arguments = parser.parse_args()
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.precision)
    rate = matrix_rate(device, dtype, arguments.matrix)
    flops = network_cost(build_network(arguments.arch, (32, 32, 3), 10, seed=0), (32, 32, 3)).flops
    rng, n = np.random.default_rng(0), arguments.samples
    pictures = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    data = TrainingSet(pictures, rng.integers(0, 10, n), np.arange(n), n, 10)
    runtime = Runtime(device=arguments.device, precision=arguments.precision, batch_size=arguments.batch_size)
    models = []

    def train(steps: int) -> None:
        models.append(
            train_standard(TrainingJob(data, arguments.arch, Budget(steps=steps), runtime=runtime, observer=Nobody()), StandardParams())
        )

    short = max(1, arguments.steps // 10)
    train(short)  # warm-up
    seconds = finished(device, lambda: train(short + arguments.steps)) - finished(device, lambda: train(short))
    trained = arguments.steps * arguments.batch_size / seconds
    model = models[-1]
    looked = n / finished(device, lambda: predict(model.tensors, model.model, pictures, runtime=runtime))
    rows: Table = [("what", "images a second", "share of the matrix rate")]
    rows.append(("training", f"{trained:,.0f}", f"{3 * trained * flops / rate:.0%}"))
    rows.append(("a look in eval mode", f"{looked:,.0f}", f"{looked * flops / rate:.0%}"))
    print(markdown(rows))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    notes = [
        f"{arguments.arch} ({flops / 1e6:,.0f} MFLOP a forward pass), {arguments.precision}, batch {arguments.batch_size}, {n:,} "
        f"pictures of 32 x 32 x 3, on {name}; matrix rate {rate / 1e12:.2f} TFLOP/s ({arguments.matrix} x {arguments.matrix})."
    ]
    print(notes[0])
    if arguments.write:
        write_page("throughput", "Images a second", rows, notes)


if __name__ == "__main__":
    main()
