"""Which memory format and which precision trains fastest on this CPU, for each architecture.

    python benchmarks/memory_format.py [--rounds 7] [--write]

Contiguous or channels-last, float32 or bfloat16 under autocast: in each round every variant takes one step (forward,
backward, update) on tensors that lie ready; the medians over the rounds are compared. The static rules that follow
from it are in `prune_cli.methods.training.networks.network`.

On a machine that others use too, set OMP_WAIT_POLICY=passive.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from training_overhead import machine

from prune_cli.methods.training.networks.building import build_network

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results" / "memory_format.md"
CASES: list[tuple[str, tuple[int, ...], int]] = [
    ("linear", (512,), 128),
    ("mlp", (512,), 128),
    ("lenet5", (28, 28, 1), 128),
    ("resnet9:16", (28, 28, 1), 128),
    ("resnet9:16", (32, 32, 3), 128),
    ("resnet9", (32, 32, 3), 32),
    ("resnet18:16", (32, 32, 3), 32),
    ("resnet18", (32, 32, 3), 16),
    ("preactresnet18:16", (32, 32, 3), 32),
    ("vgg16:16", (32, 32, 3), 32),
    ("torchvision:resnet18", (112, 112, 3), 16),
    ("torchvision:mobilenet_v3_small", (112, 112, 3), 16),
    ("torchvision:vit_b_32", (64, 64, 3), 16),
]
VARIANTS = [
    (memory_format, dtype) for memory_format in (torch.contiguous_format, torch.channels_last) for dtype in (torch.float32, torch.bfloat16)
]


def make_step(
    architecture: str, shape: tuple[int, ...], batch_size: int, memory_format: torch.memory_format, dtype: torch.dtype
) -> Callable[[], None]:
    """Return one training step of a variant."""
    generator = torch.Generator().manual_seed(0)
    channels_first = shape if len(shape) == 1 else (shape[2], shape[0], shape[1])
    inputs = torch.randn(batch_size, *channels_first, generator=generator)
    labels = torch.randint(0, 10, (batch_size,), generator=generator)
    network = build_network(architecture, shape, 10, seed=0)
    if len(shape) == 3:
        network, inputs = network.to(memory_format=memory_format), inputs.to(memory_format=memory_format)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, nesterov=True, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            features = network.features(inputs)
        loss = F.cross_entropy(network.head(features.float()), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def measure(architecture: str, shape: tuple[int, ...], batch_size: int, rounds: int) -> list[float]:
    """Return the samples per second of each variant."""
    steps = [make_step(architecture, shape, batch_size, *variant) for variant in VARIANTS]
    times: list[list[float]] = [[] for _ in VARIANTS]
    for number in range(rounds + 2):
        for step, taken in zip(steps, times, strict=True):
            start = time.perf_counter()
            step()
            if number >= 2:
                taken.append(time.perf_counter() - start)
    return [batch_size / statistics.median(taken) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help=f"replace docs/results/{PAGE.name}")
    options = parser.parse_args()
    lines = [
        "| network | input | batch | contiguous float32 | contiguous bfloat16 | channels-last float32"
        " | channels-last bfloat16 | bfloat16 / float32, channels-last |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for architecture, shape, batch_size in CASES:
        rates = measure(architecture, shape, batch_size, options.rounds)
        cells = [f"**{rate:,.0f}**" if rate == max(rates) else f"{rate:,.0f}" for rate in rates]
        size = " x ".join(map(str, shape))
        lines.append(f"| {architecture} | {size} | {batch_size} | {' | '.join(cells)} | {rates[3] / rates[2]:.2f} |")
        print(lines[-1], flush=True)
    page = "\n".join(
        [
            "# Memory format and precision",
            "",
            f"Made by `python benchmarks/memory_format.py --rounds {options.rounds} --write`. Samples per second of",
            "training steps (forward, backward, update), medians of steps taken in turns,",
            f"{torch.get_num_threads()} threads, torch {torch.__version__}, {machine()}.",
            "A vector has one memory format: its first two columns are measured again in the last two.",
            "",
            *lines,
            "",
            "What follows, as fixed rules, so that a run repeats itself on a machine:",
            "",
            "- Networks with convolutions are channels-last, others contiguous.",
            "- `--precision auto` trains in bfloat16 on a CPU with matrix tiles (AMX) where the network has convolutions",
            "  and none of them is depthwise, and in float32 otherwise. The last layer and the loss are float32 always.",
            "- Predictions are float32 unless asked otherwise, so that scores are not rounded.",
            "",
        ]
    )
    print(page)
    if options.write:
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
