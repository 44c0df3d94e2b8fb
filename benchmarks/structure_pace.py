"""Time of a training step of a network that was cut, against that of the whole one, in turns in one process.

    python benchmarks/structure_pace.py [--archs resnet9:8,resnet9:32,vgg16:16] [--device cpu] [--write]

Units of the smallest norms are cut out of a fresh network, the same share of every layer, down to a share of its FLOPs; then forward pass,
backward pass and SGD step of a batch of 128 pictures are timed, the cut network and the whole one taking turns.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from complexity_gap import Table, markdown, write_page

from prune_cli.methods.structure.cutting import SmallestNorms, whole_shapes
from prune_cli.methods.structure.params import MagnitudeParams
from prune_cli.methods.training.networks.building import build_network
from prune_cli.methods.training.networks.network import Network

SHARES = (0.75, 0.5, 0.25, 0.1)


def cut(network: Network, input_shape: tuple[int, ...], share: float, device: torch.device) -> tuple[Network, float]:
    """Return a copy of a network with units cut out, and the share of the FLOPs that is left."""
    small = copy.deepcopy(network)
    shapes = whole_shapes([small], input_shape, device, 0.0, 1.0)
    structure = SmallestNorms(shapes, MagnitudeParams(target_flops=share), 1, device)
    change = structure.finish(0, small)
    assert change is not None
    change(small, None)
    left = structure.described()
    return small, left["flops"] / left["structure"]["whole"]["flops"]


def step_of(network: Network, input_shape: tuple[int, ...], batch: int, device: torch.device) -> Callable[[], float]:
    """Return what makes one training step and returns its seconds."""
    height, width, channels = input_shape
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn((batch, channels, height, width), generator=generator).to(device)
    labels = torch.randint(0, 10, (batch,), generator=generator).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network.head(network.features(inputs)), labels).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", default="resnet9:8,resnet9:32,vgg16:16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="write docs/results/structure_pace.md")
    arguments = parser.parse_args()
    device, shape = torch.device(arguments.device), (32, 32, 3)
    table: Table = [("network", "FLOPs left", "time of a step, against the whole", "the whole, milliseconds")]
    for name in arguments.archs.split(","):
        network = build_network(name, shape, 10, seed=0).to(device).train()
        whole = step_of(network, shape, 128, device)
        for share in SHARES:
            small, left = cut(network, shape, share, device)
            step = step_of(small.train(), shape, 128, device)
            step(), whole()
            pairs = [(step(), whole()) for _ in range(arguments.turns)]
            ratio = statistics.median(ours / theirs for ours, theirs in pairs)
            milliseconds = 1000 * statistics.median(theirs for _, theirs in pairs)
            table.append((name, f"{100 * left:.0f} %", f"{100 * ratio:.0f} %", f"{milliseconds:.0f}"))
            print(table[-1], flush=True)
    print(markdown(table))
    notes = ["Batches of 128 pictures of 32 x 32 in colour, float32; medians of pairs, the cut network and the whole one in turns."]
    if arguments.write:
        write_page("structure_pace", "How much faster a network trains when it is cut", table, notes)


if __name__ == "__main__":
    main()
