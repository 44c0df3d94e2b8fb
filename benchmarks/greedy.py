"""Greedy selections on features beside a plain greedy loop, and beside apricot where it is installed.

    python benchmarks/greedy.py [--rows 50000] [--features 512] [--count 2500] [--write]

Features with a mean for each of 100 groups. The plain rivals look at every row at every pick, as the usual NumPy code does: k-center and
herding by one matrix-vector product a pick. Facility location is compared with a plain lazy greedy in NumPy, and with
apricot-select (lazy) where that is installed, all on the same graph of neighbors, whose time is stated apart. Picks are
compared, and the objectives where a tie was broken otherwise. Times are of the picks alone, after a first small call (compilation).
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import time
from collections.abc import Callable

import numpy as np
from complexity_gap import Table, markdown, write_page

from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Run
from prune_cli.methods.selection.coverage.covers import covers_of, pick_covering
from prune_cli.methods.selection.coverage.graph_cut import graph_cut_order
from prune_cli.methods.selection.coverage.herding import herding_order
from prune_cli.methods.selection.coverage.k_center import k_center_order
from prune_cli.methods.selection.neighbors.nearest import nearest_neighbors, unit_rows
from prune_cli.methods.selection.neighbors.tiles import Edges


def problem(rows: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(100, width)).astype(np.float32)
    noise = rng.normal(size=(rows, width)).astype(np.float32) * rng.gamma(2.0, 0.5, size=(rows, 1)).astype(np.float32)
    return np.maximum(centers[rng.integers(0, 100, rows)] + noise, 0.0)


def timed(run: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    found = run()
    return found, time.perf_counter() - start


def ours(method: Callable[..., object], features: np.ndarray, count: int, params: object = None) -> Callable[[], np.ndarray]:
    candidates = Candidates(np.arange(len(features)), features=ArrayFeatures(features))
    small = Candidates(np.arange(500), features=ArrayFeatures(features[:500]))
    arguments = () if params is None else (params,)
    method(small, *arguments, run=Run([5]))  # compiles
    return lambda: method(candidates, *arguments, run=Run([count])).rankings[0].order_n  # type: ignore[attr-defined]


def plain_k_center(features: np.ndarray, count: int) -> np.ndarray:
    squares = (features**2).sum(axis=1)
    picked = [int(((features - features.mean(axis=0)) ** 2).sum(axis=1).argmin())]
    distance = np.full(len(features), np.inf, np.float32)
    while len(picked) < count:
        last = features[picked[-1]]
        distance = np.minimum(distance, squares - 2 * (features @ last) + last @ last)
        distance[picked[-1]] = -np.inf
        picked.append(int(distance.argmax()))
    return np.array(picked)


def plain_herding(features: np.ndarray, count: int) -> np.ndarray:
    mean = features.mean(axis=0, dtype=np.float64)
    weight, taken, picked = mean.copy(), np.zeros(len(features), bool), []
    for _ in range(count):
        outputs = features @ weight.astype(np.float32)
        outputs[taken] = -np.inf
        best = int(outputs.argmax())
        taken[best] = True
        picked.append(best)
        weight += mean - features[best]
    return np.array(picked)


def plain_graph_cut(features: np.ndarray, count: int) -> np.ndarray:
    rows = unit_rows(features)
    total = rows.sum(axis=0, dtype=np.float64)
    gains = 2.0 * (len(rows) + rows @ total) / 2 - 1.0
    picked: list[int] = []
    for _ in range(count):
        best = int(gains.argmax())
        picked.append(best)
        gains = gains - (1.0 + rows @ rows[best])
        gains[picked] = -np.inf
    return np.array(picked)


def plain_facility_location(graph: object, count: int) -> np.ndarray:
    """Lazy greedy with a heap, a gain by NumPy; ``graph`` is a CSR matrix, a row what a sample covers."""
    covered = np.zeros(graph.shape[0])  # type: ignore[attr-defined]
    starts, samples, values = graph.indptr, graph.indices, graph.data  # type: ignore[attr-defined]

    def gain(j: int) -> float:
        part = slice(starts[j], starts[j + 1])
        return float(np.maximum(0, values[part] - covered[samples[part]]).sum())

    heap = [(-gain(j), j, 0) for j in range(graph.shape[0])]  # type: ignore[attr-defined]
    heapq.heapify(heap)
    picked: list[int] = []
    while len(picked) < count:
        _, j, known = heapq.heappop(heap)
        if known == len(picked):
            picked.append(j)
            part = slice(starts[j], starts[j + 1])
            covered[samples[part]] = np.maximum(covered[samples[part]], values[part])
        else:
            heapq.heappush(heap, (-gain(j), j, len(picked)))
    return np.array(picked)


def neighbor_graph(features: np.ndarray, neighbors: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what each sample covers, and by how much, as `facility_location_order` makes it."""
    near, away = nearest_neighbors(unit_rows(features), neighbors, metric="euclidean")
    edges = covers_of(near, away)
    return np.r_[edges.begin_n, edges.end_n[-1:]], edges.samples_e, edges.similarities_e


def our_facility_location(graph: tuple[np.ndarray, np.ndarray, np.ndarray], count: int) -> np.ndarray:
    starts, samples, similarities = graph
    n = len(starts) - 1
    return pick_covering(Edges(starts[:-1], starts[1:], samples, similarities), np.zeros(n), np.arange(n), count)[0]


def radius(features: np.ndarray, picked: np.ndarray) -> float:
    best = np.full(len(features), np.inf)
    squares = (features.astype(np.float64) ** 2).sum(axis=1)
    for start in range(0, len(picked), 512):
        centers = features[picked[start : start + 512]].astype(np.float64)
        best = np.minimum(best, (squares[:, None] - 2 * features @ centers.T + (centers**2).sum(axis=1)).min(axis=1))
    return float(np.sqrt(max(0.0, best.max())))


def mean_error(features: np.ndarray, picked: np.ndarray) -> float:
    mean = features.mean(axis=0, dtype=np.float64)
    return float(np.linalg.norm(features[picked].mean(axis=0, dtype=np.float64) - mean))


def cut(features: np.ndarray, picked: np.ndarray) -> float:
    rows = unit_rows(features).astype(np.float64)
    chosen, total = rows[picked].sum(axis=0), rows.sum(axis=0)
    k, n = len(picked), len(rows)
    return float(2 * (k * n + total @ chosen) / 2 - (k * k + chosen @ chosen) / 2)


def covered(graph: object, picked: np.ndarray) -> float:
    return float(graph[picked].max(axis=0).sum())  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--count", type=int, default=2_500)
    parser.add_argument("--neighbors", type=int, default=64)
    parser.add_argument("--write", action="store_true", help="update docs/results/greedy.md")
    arguments = parser.parse_args()
    features, count = problem(arguments.rows, arguments.features), arguments.count
    rows: Table = [("method", "rival", "rival, seconds", "ours, seconds", "ratio", "equal picks", "objective, rival / ours")]

    def compare(
        name: str, rival: str, run: Callable[[], np.ndarray], own: Callable[[], np.ndarray], objective: Callable[[np.ndarray], float]
    ) -> None:
        mine, my_seconds = timed(own)
        theirs, seconds = timed(run)
        equal = int(np.argmax(np.r_[mine != theirs, True]))
        shared = len(set(mine.tolist()) & set(theirs.tolist()))
        rows.append(
            (
                f"`{name}`", rival, f"{seconds:.1f}", f"{my_seconds:.1f}", f"{seconds / my_seconds:.1f}",
                "all" if equal == count else f"first {equal:,}, {shared / count:.1%} in common",
                f"{objective(theirs):.6g} / {objective(mine):.6g}",
            )
        )  # fmt: skip
        print(rows[-1], flush=True)

    compare(
        "kcenter", "NumPy, a product a pick", lambda: plain_k_center(features, count),
        ours(k_center_order, features, count), lambda picked: radius(features, picked),
    )  # fmt: skip
    compare(
        "herding", "NumPy, a product a pick", lambda: plain_herding(features, count),
        ours(herding_order, features, count), lambda picked: mean_error(features, picked),
    )  # fmt: skip
    compare(
        "graph_cut", "NumPy, a product a pick", lambda: plain_graph_cut(features, count),
        ours(graph_cut_order, features, count), lambda picked: cut(features, picked),
    )  # fmt: skip
    start = time.perf_counter()
    graph = neighbor_graph(features, arguments.neighbors)
    graph_seconds = time.perf_counter() - start
    from scipy.sparse import csr_matrix

    sparse = csr_matrix((graph[2].astype(np.float64), graph[1].copy(), graph[0]), shape=(len(features), len(features)))
    sparse.sort_indices()
    our_facility_location(neighbor_graph(features[:500], 8), 5)
    rivals = {"NumPy, lazy": lambda: plain_facility_location(sparse, count)}
    with contextlib.suppress(ImportError):
        from apricot import FacilityLocationSelection

        rivals["apricot, lazy"] = lambda: FacilityLocationSelection(count, metric="precomputed", optimizer="lazy").fit(sparse).ranking
    for rival, run in rivals.items():
        compare("facility_location", rival, run, lambda: our_facility_location(graph, count), lambda picked: covered(sparse, picked))
    print(markdown(rows))
    notes = [
        f"{arguments.rows:,} x {arguments.features} float32, {count:,} picks. "
        f"The graph of {arguments.neighbors} exact neighbors that `facility_location` goes by "
        f"took {graph_seconds:.0f} s and is given to all.",
        "Objectives: radius (less is better), distance of the means (less), cut (more), coverage (more).",
    ]
    if arguments.write:
        write_page("greedy", "Greedy selections beside other implementations", rows, notes)


if __name__ == "__main__":
    main()
