"""Greedy selection over partitions beside the single greedy run: time, memory, and how much of the objective is lost.

    python benchmarks/partitioned_greedy.py [--rows 100000] [--features 128] [--kept 0.2] [--write]

Each run is a process of its own that has the features in memory. The objective is that of the picks over the graph of all samples,
whatever edges a run has seen: all pairs above tau for `neighbor_confidence`, the exact nearest neighbors for `facility_location`. Groups
are tight and far from each other; a cloud has no gaps, and every cut goes through neighborhoods.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from complexity_gap import Table, markdown, write_page
from neighbor_confidence import TAU, cloud, objective_of, problem

from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.selection.choosing import choose
from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Run
from prune_cli.methods.selection.neighbors.nearest import nearest_neighbors, unit_rows

METHODS = ("neighbor_confidence", "facility_location")
RUNS = ((1, 0.1), (2, 0.1), (7, 0.1), (16, 0.1), (16, 0.0))
MEMORY = 8 * 2**30


def run_cell(folder: Path, method: str, parts: int, overlap: float, kept: float) -> None:
    """Choose, write the picks, and print the seconds, and the peak of memory before and after."""
    features, probs = np.load(folder / "features.npy"), np.load(folder / "probs.npy")
    own = {"tau": TAU, "balance": "none"} if method == "neighbor_confidence" else {}
    params = find_method("selection", method).params_class()(parts=parts, overlap=overlap, **own)
    candidates = Candidates(np.arange(len(features)), features=ArrayFeatures(features), probabilities=ArrayFeatures(probs))
    choose(method, candidates.take(np.arange(500)), params, Run([50], device="cpu", memory=MEMORY))  # compiles
    count, before = round(kept * len(features)), peak_of_this_program()
    start = time.perf_counter()
    choice = choose(method, candidates, params, Run([count], device="cpu", memory=MEMORY))
    seconds = time.perf_counter() - start
    np.save(folder / "picks.npy", choice.rankings[0].order_n[:count])
    print(json.dumps({"seconds": seconds, "before": before, "peak": peak_of_this_program()}))


def peak_of_this_program() -> int:
    """Return the most bytes this program has held: what `getrusage` says begins with the size of whoever started it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


class Truth:
    """The objectives over the graphs of all samples."""

    def __init__(self, features: np.ndarray, probs: np.ndarray) -> None:
        self.features, self.probs = features, probs
        self.near, distances = nearest_neighbors(unit_rows(features), 64, Run(device="cpu"), metric="euclidean")
        self.similarities = 1 - distances**2 / 4

    def objective(self, method: str, picks: np.ndarray) -> float:
        if method == "neighbor_confidence":
            return objective_of(self.features, self.probs, picks)
        chosen = np.zeros(len(self.near), bool)
        chosen[picks] = True
        best = np.where(chosen[self.near], self.similarities, 0.0).max(axis=1)
        return float(np.where(chosen, 1.0, best).sum(dtype=np.float64))


def measure(arguments: argparse.Namespace) -> Table:
    table: Table = [("samples", "method", "partitions", "overlap", "seconds", "memory, GiB", "objective", "in common")]
    rows, width = arguments.rows, arguments.features
    for name, (features, probs) in {"groups": problem(rows, width, max(1, rows // 200)), "a cloud": cloud(rows, width)}.items():
        truth = Truth(features, probs)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            np.save(folder / "features.npy", features)
            np.save(folder / "probs.npy", probs)
            for method in METHODS:
                single: tuple[float, set[int]] | None = None
                for parts, overlap in RUNS if name == "a cloud" else RUNS[:-1]:
                    command = [sys.executable, __file__, "--cell", folder, method, parts, overlap, arguments.kept]
                    done = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True)
                    figures, picks = json.loads(done.stdout), np.load(folder / "picks.npy")
                    objective = truth.objective(method, picks)
                    single = single or (objective, set(picks.tolist()))
                    shared = len(single[1] & set(picks.tolist())) / len(picks)
                    table.append(
                        (
                            name, method, str(parts), f"{overlap:g}" if parts > 1 else "", f"{figures['seconds']:.1f}",
                            f"{(figures['peak'] - figures['before']) / 2**30:.2f}", f"{objective / single[0]:.5f}", f"{shared:.1%}",
                        )
                    )  # fmt: skip
                    print(table[-1], flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--kept", type=float, default=0.2)
    parser.add_argument("--cell", nargs=5, metavar="X", help="one run in this process: folder, method, parts, overlap, kept")
    parser.add_argument("--write", action="store_true", help="update docs/results/partitioned_greedy.md")
    arguments = parser.parse_args()
    if arguments.cell:
        folder, method, parts, overlap, kept = arguments.cell
        run_cell(Path(folder), method, int(parts), float(overlap), float(kept))
        return
    table = measure(arguments)
    print(markdown(table))
    if arguments.write:
        note = (
            f"{arguments.rows:,} x {arguments.features} float32 features, {arguments.kept:.0%} kept, tau {TAU}, 64 neighbors, "
            "oversample 2, partitions one after the other. Objective: over the graph of all samples, as a ratio to that of one "
            "partition. In common: picks that one partition has too. Memory: the peak, less that of a process that has read the "
            "features and compiled."
        )
        write_page("partitioned_greedy", "Greedy over partitions: time, memory, objective", table, [note])


if __name__ == "__main__":
    main()
