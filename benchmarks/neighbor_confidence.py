"""Neighbor confidence beside the dense form of its published code, the graph beside its bare products, a million samples.

    python benchmarks/neighbor_confidence.py [--rows 20000] [--features 512] [--kept 0.8] [--write]
    python benchmarks/neighbor_confidence.py --large [--rows 1000000] [--features 128] [--kept 0.2] [--write]

The dense form, per pick: one N x D product, the lengths of the rows, a threshold, an update of every sample, in NumPy as the usual research
code; once more in torch, with the lengths kept. It is measured on some picks, in turns with ours, and taken times the number of picks (its
cost does not change from pick to pick). Features have a mean for each group; few groups are the crowded graph of classes that a network
has pulled together. ``--large`` runs the command with ``ivf`` in a process of its
own, and compares its objective with that of all pairs on a sample of 100,000.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from complexity_gap import Table, markdown, write_page

from prune_cli.methods.selection.confidence.neighbor_confidence import NeighborConfidenceParams, neighbor_confidence_order
from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Run
from prune_cli.methods.selection.neighbors.graph import build_graph
from prune_cli.methods.selection.neighbors.tiles import prepare_similarity

TAU = 0.975
CROWDS = {"10 crowds": 10, "200 crowds": 200}


def problem(rows: int, width: int, groups: int, spread: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """Return features with a mean for each group, and probabilities of 10 classes."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(groups, width)).astype(np.float32)
    features = np.empty((rows, width), np.float32)
    for start in range(0, rows, 100_000):
        part = features[start : start + 100_000]
        wide = np.float32(spread) * rng.gamma(4.0, 0.25, size=(len(part), 1)).astype(np.float32)
        part[:] = centers[rng.integers(0, groups, len(part))] + wide * rng.normal(size=part.shape).astype(np.float32)
    return features, rng.dirichlet(np.full(10, 0.2), rows).astype(np.float32)


def cloud(rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features without groups, of five numbers each bent into the width: neighborhoods that cells cut through."""
    rng = np.random.default_rng(1)
    bent = np.sin(rng.normal(size=(rows, 5)).astype(np.float32) @ rng.normal(size=(5, width)).astype(np.float32) / 3)
    return bent, rng.dirichlet(np.full(10, 0.2), rows).astype(np.float32)


def dense_picks(rows: np.ndarray, sure: np.ndarray, picks: int) -> float:
    """Return the seconds of some picks of the dense form in NumPy, float32."""
    around, left = np.zeros(len(rows), np.float32), np.ones(len(rows), bool)
    start = time.perf_counter()
    for _ in range(picks):
        gain = np.where(left, np.tanh(around + sure) - np.tanh(around), -np.inf)
        pick = int(gain.argmax())
        left[pick] = False
        similar = 0.5 + 0.5 * (rows @ rows[pick]) / (np.linalg.norm(rows, axis=1) * np.linalg.norm(rows[pick]))
        around += similar * (similar > TAU) * sure[pick]
    return time.perf_counter() - start


def dense_picks_torch(features: np.ndarray, confidence: np.ndarray, picks: int) -> float:
    """Return the seconds of the same in torch on all threads, the lengths computed once."""
    rows, sure = torch.from_numpy(features), torch.from_numpy(confidence)
    around, left = torch.zeros(len(rows)), torch.ones(len(rows), dtype=torch.bool)
    lengths = rows.norm(dim=1)
    start = time.perf_counter()
    for _ in range(picks):
        gain = torch.tanh(around + sure) - torch.tanh(around)
        gain[~left] = -torch.inf
        pick = int(gain.argmax())
        left[pick] = False
        similar = 0.5 + 0.5 * (rows @ rows[pick]) / (lengths * lengths[pick])
        around += similar * (similar > TAU) * sure[pick]
    return time.perf_counter() - start


def bare_products(features: np.ndarray) -> float:
    """Return the seconds of the products of all pairs, each once, by tiles of 1,024 rows against what follows them."""
    rows = torch.from_numpy(features)
    start = time.perf_counter()
    for first in range(0, len(rows), 1024):
        rows[first : first + 1024] @ rows[first:].T
    return time.perf_counter() - start


def small(arguments: argparse.Namespace) -> Table:
    count = round(arguments.kept * arguments.rows)
    table: Table = [("samples", "edges", "what", "seconds", "ratio")]
    for name, groups in CROWDS.items():
        features, probs = problem(arguments.rows, arguments.features, groups)
        candidates = Candidates(np.arange(len(features)), features=ArrayFeatures(features), probabilities=ArrayFeatures(probs))
        confidence = probs.max(axis=1)
        similarity = prepare_similarity(features, device="cpu")
        tiny = candidates.take(np.arange(500))
        seconds: dict[str, list[float]] = {}
        edges = 0.0
        for _ in range(arguments.repeats):
            for what in ("dense", "kept", "reference", "exact", "bare", "graph"):
                start = time.perf_counter()
                if what in {"dense", "kept"}:
                    rival = dense_picks if what == "dense" else dense_picks_torch
                    taken = rival(features, confidence, 40) * count / 40
                elif what == "bare":
                    taken = bare_products(similarity.rows_nd)
                elif what == "graph":
                    build_graph(similarity, TAU)
                    taken = time.perf_counter() - start
                else:
                    params = NeighborConfidenceParams(rule=what, tau=TAU, balance="none")  # type: ignore[arg-type]
                    neighbor_confidence_order(tiny, params, Run([5], device="cpu"))  # compiles
                    start = time.perf_counter()
                    found = neighbor_confidence_order(candidates, params, Run([count], device="cpu"))
                    taken = time.perf_counter() - start
                    edges = found.extras[0].figures["edges"]
                seconds.setdefault(what, []).append(taken)

        def ratio(a: str, b: str, seconds: dict[str, list[float]] = seconds) -> str:
            return f"{statistics.median(x / y for x, y in zip(seconds[a], seconds[b], strict=True)):.1f}"

        def faster(what: str, ratio: Callable[[str, str], str] = ratio) -> str:
            return f"{ratio('dense', what)} times faster than dense, {ratio('kept', what)} than torch"

        for what, title, compared in (
            ("dense", f"dense form, {count:,} picks from 40 measured", ""),
            ("kept", "the same in torch, lengths kept", ""),
            ("reference", "rule=reference, graph and picks", faster("reference")),
            ("exact", "rule=exact, graph and picks", faster("exact")),
            ("bare", "bare products, each pair once", ""),
            ("graph", "the graph", f"{ratio('graph', 'bare')} times the bare products"),
        ):
            table.append((name, f"{edges:,.0f}", title, f"{statistics.median(seconds[what]):.1f}", compared))
            print(table[-1], flush=True)
    return table


def write_problem(folder: Path, rows: int, width: int, groups: int) -> None:
    features, probs = problem(rows, width, groups)
    labels = pa.array(probs.argmax(axis=1))
    arrays = [pa.FixedSizeListArray.from_arrays(v.ravel(), v.shape[1]) for v in (features, probs)]
    pq.write_table(pa.table([pa.array(np.arange(rows)), labels, *arrays], ["id", "label", "embedding", "prob"]), folder / "d.parquet")


def large(arguments: argparse.Namespace) -> Table:
    table: Table = [("samples", "rule", "neighbors", "seconds", "peak memory, GiB", "recall", "objective")]
    groups = arguments.rows // 200
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        maker = multiprocessing.get_context("spawn").Process(
            target=write_problem, args=(folder, arguments.rows, arguments.features, groups)
        )
        maker.start()
        maker.join()
        for rule in ("reference", "exact"):
            command = [
                sys.executable, "-m", "prune_cli", "select", folder / "d.parquet", "--method", "neighbor_confidence", "--fraction",
                arguments.kept, "-p", f"rule={rule}", "-p", "neighbors=ivf", "-p", f"tau={TAU}", "--device", "cpu",
                "-o", folder / "out.parquet", "--force", "-q", "--json",
            ]  # fmt: skip
            done = json.loads(subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout)
            figures = done["outputs"][0]
            table.append(
                (
                    f"{arguments.rows:,}", rule, "ivf", f"{done['seconds']:.0f}", f"{done['peak_memory_bytes'] / 2**30:.2f}",
                    f"{figures['recall']:.4f}", f"{figures['objective']:,.1f}",
                )
            )  # fmt: skip
            print(table[-1], flush=True)
    rows = min(100_000, arguments.rows)
    count = round(arguments.kept * rows)
    for name, (features, probs) in {
        "groups": problem(rows, arguments.features, rows // 200),
        "a cloud": cloud(rows, arguments.features),
    }.items():
        candidates = Candidates(np.arange(rows), features=ArrayFeatures(features), probabilities=ArrayFeatures(probs))
        objectives = {}
        for neighbors in ("exact", "ivf"):
            params = NeighborConfidenceParams(tau=TAU, balance="none", neighbors=neighbors)  # type: ignore[arg-type]
            start = time.perf_counter()
            found = neighbor_confidence_order(candidates, params, Run([count], device="cpu"))
            taken, figures = time.perf_counter() - start, found.extras[0].figures
            objectives[neighbors] = objective_of(features, probs, found.rankings[0].order_n[:count])
            table.append(
                (
                    f"{rows:,}, {name}", "exact", neighbors, f"{taken:.0f}", "", f"{figures.get('recall', 1.0):.4f}",
                    f"{objectives[neighbors]:,.1f} ({objectives[neighbors] / objectives['exact']:.4f} of all pairs)",
                )
            )  # fmt: skip
            print(table[-1], flush=True)
    return table


def objective_of(features: np.ndarray, probs: np.ndarray, picks: np.ndarray) -> float:
    """Return the objective over all pairs."""
    rows = torch.nn.functional.normalize(torch.from_numpy(features), dim=1)
    sure, chosen = torch.from_numpy(probs[picks].max(axis=1)).to(torch.float64), rows[torch.from_numpy(picks)]
    total = 0.0
    for start in range(0, len(rows), 1024):
        similar = 0.5 + 0.5 * rows[start : start + 1024] @ chosen.T
        around = torch.where(similar > TAU, similar, 0.0).to(torch.float64) @ sure
        total += float(around.tanh().sum())
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--features", type=int)
    parser.add_argument("--kept", type=float)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="a million samples, as a command")
    parser.add_argument("--write", action="store_true", help="update docs/results/neighbor_confidence[-large].md")
    arguments = parser.parse_args()
    defaults = (1_000_000, 128, 0.2) if arguments.large else (20_000, 512, 0.8)
    for name, value in zip(("rows", "features", "kept"), defaults, strict=True):
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    table = large(arguments) if arguments.large else small(arguments)
    print(markdown(table))
    if arguments.write:
        note = f"{arguments.rows:,} x {arguments.features} float32 features, {arguments.kept:.0%} kept, tau {TAU}, eta 1."
        page = "neighbor_confidence" + ("-large" if arguments.large else "" if arguments.rows == 20_000 else f"-{arguments.rows}")
        write_page("neighbor_confidence", "Neighbor confidence: time, memory, objective", table, [note], page=page)


if __name__ == "__main__":
    main()
