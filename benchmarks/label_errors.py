"""Which kernel, score and mode finds wrong labels best, beside cleanlab, and which prunes best.

    python benchmarks/label_errors.py [--only find,kernels,pooled,prune] [--work out/label_errors] [--write]

``find``: AUROC over 6,000 rows, and the seconds. Fashion-MNIST and CIFAR-10 with a fifth of the labels flipped to another class at random,
and CIFAR-10 with labels people gave (CIFAR-10N `aggre` and `worse`). ``kernels``: convolutional kernels beside fully connected ones, 2,000
rows (1,000 of CIFAR-10 shrunk to 8 x 8 with pooling); wants the extra ntk. ``prune``: accuracy of lenet5 trained for the same steps on the
hardest part of 10,000 rows of Fashion-MNIST. cleanlab is not a dependency: ``pip install cleanlab``, or its line is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from complexity_gap import Table, markdown, read_pixels, write_page
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from prune_cli.core.rng import generator
from prune_cli.methods.scores.kernel.complexity_gap import ComplexityGapParams
from prune_cli.methods.scores.kernel.kernels import MatrixKernel, fill_matrix
from prune_cli.methods.scores.kernel.ntk_margin import NtkParams, choose_ridge, margins, residuals
from prune_cli.methods.scores.kernel.pieces.kinds import SetPiece, Settings
from prune_cli.methods.scores.kernel.pieces.solving import kernel_solution, solve_piece
from prune_cli.methods.scores.kernel.samples import Samples, make_samples
from prune_cli.methods.scores.kernel.solver.problem import Problem, Solution

FLIPPED = 0.2
Found = dict[str, NDArray[np.float64]]
Draws = dict[str, list[NDArray[np.int64]]]


def flip(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the labels with a share of them, drawn uniformly, changed to another class, drawn uniformly."""
    draw, classes = generator(seed, "benchmark", "flips"), int(labels.max()) + 1
    flipped = labels.copy()
    chosen = draw.choice(len(labels), size=round(FLIPPED * len(labels)), replace=False)
    flipped[chosen] = (labels[chosen] + draw.integers(1, classes, len(chosen))) % classes
    return flipped


def people(path: Path, ids: list[str], column: str) -> NDArray[np.int64]:
    """Return the labels people gave to these ids."""
    table = pq.read_table(path, columns=["id", column])
    by_id = dict(zip(table["id"].to_pylist(), table[column].to_pylist(), strict=True))
    return np.array([by_id[i] for i in ids], dtype=np.int64)


def cleanlab_scores(values: NDArray[np.uint8], given: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return cleanlab's label quality, high = right: its normalised margin of a logistic regression on pixels, in 5 folds."""
    from cleanlab.rank import get_label_quality_scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    flat = values.reshape(len(values), -1).astype(np.float64)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    probs = cross_val_predict(model, flat, given, cv=5, method="predict_proba")
    quality: NDArray[np.float64] = get_label_quality_scores(given, probs, method="normalized_margin")
    return quality


class Pictures:
    """Pictures of one data set, their true labels, and the labels given to them.

    Args:
        values: (N, H, W, C) bytes.
        true: (N,) labels.
        draws: name -> labels given, one or several draws of them.
    """

    def __init__(self, values: NDArray[np.uint8], true: NDArray[np.int64], draws: Draws) -> None:
        self.values, self.true, self.draws = values, true, draws
        self._kernels: dict[str, tuple[MatrixKernel, float]] = {}

    def samples(self, kernel: str, given: NDArray[np.int64]) -> tuple[Samples, float]:
        """Return the samples with a kernel that is computed once for all labels, and the seconds that took."""
        if kernel not in self._kernels:
            start = time.perf_counter()
            computed = make_samples(self.values, given, NtkParams(kernel=kernel))
            n = len(self.true)
            matrix = np.empty((n, n))
            for first in range(0, n, 512):
                fill_matrix(computed.kernel, computed.order_n, matrix, first, min(first + 512, n), "cpu")
            self._kernels[kernel] = (MatrixKernel(matrix), time.perf_counter() - start)
        there, seconds = self._kernels[kernel]
        return make_samples(self.values, given, NtkParams(kernel=kernel), kernel=there), seconds


def load(data: Path, rows: int, draws: int) -> dict[str, Pictures]:
    found = {}
    for name, side, channels in (("fashion_mnist", 28, 1), ("cifar10", 32, 3)):
        path = data / f"{name}_train.parquet"
        if not path.exists():
            print(f"skipped: {path} is absent")
            continue
        flat, true, ids = read_pixels(path, rows)
        given: Draws = {"20 % flipped": [flip(true, seed) for seed in range(draws)]}
        if name == "cifar10" and (data / "cifar10n_labels.parquet").exists():
            for column in ("aggre", "worse"):
                given[f"CIFAR-10N {column}"] = [people(data / "cifar10n_labels.parquet", ids, f"{column}_label")]
        title = {"fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}[name]
        found[title] = Pictures(flat.reshape(-1, side, side, channels), true, given)
    return found


def solved(samples: Samples, problem: Problem) -> Solution:
    return solve_piece(SetPiece(("relu", False), problem), samples, Settings(0, "cpu", "float64"))


def at(kernel: str, ridge: float | None, mode: str = "exact", **how: Any) -> Callable[[Pictures, NDArray[np.int64]], Found]:
    """Return what scores pictures by a kernel, at a ridge or the one that is chosen."""

    def score(pictures: Pictures, given: NDArray[np.int64]) -> Found:
        samples, seconds = pictures.samples(kernel, given)
        start = time.perf_counter()
        chosen = ridge
        if chosen is None:
            chosen = choose_ridge(samples, "cpu").ridge
        solution = solved(samples, Problem(mode, chosen, True, **how))  # type: ignore[arg-type]
        assert solution.loo_nc is not None
        taken = seconds + time.perf_counter() - start
        return {
            "ntk_margin": -margins(solution.loo_nc, given),
            "ntk_residual": residuals(solution.loo_nc, given),
            "cg": solution.gap_n,
            "cg_ab": solution.ab_n,
            "seconds": np.array(taken),
        }

    return score


def sampled(pictures: Pictures, given: NDArray[np.int64]) -> Found:
    start = time.perf_counter()
    found = kernel_solution(pictures.values, given, ComplexityGapParams(repeats=4), device="cpu")
    return {"cg": found.gap_n, "cg_ab": found.ab_n, "seconds": np.array(time.perf_counter() - start)}


def rival(pictures: Pictures, given: NDArray[np.int64]) -> Found:
    start = time.perf_counter()
    quality = cleanlab_scores(pictures.values, given)
    return {"cleanlab": -quality, "seconds": np.array(time.perf_counter() - start)}


Way = Callable[[Pictures, NDArray[np.int64]], Found]
WAYS: dict[str, Way] = {
    "relu, sampled, ridge 0, 4 repeats": sampled,
    "relu, exact, ridge 0": at("relu", 0.0),
    "relu, exact, ridge 0.3": at("relu", 0.3),
    "relu, exact, ridge 1": at("relu", 1.0),
    "relu, exact, ridge chosen": at("relu", None),
    "relu:3, exact, ridge chosen": at("relu:3", None),
    "relu, partition of 2,048, ridge 0.3": at("relu", 0.3, "partition", block_size=2048),
    "relu, nystrom of 1,024, ridge 0.3": at("relu", 0.3, "nystrom", landmarks=1024),
}
RIVAL = "cleanlab, logistic regression in 5 folds"
SCORES = ("cg", "cg_ab", "ntk_margin", "ntk_residual", "cleanlab")


def find(arguments: argparse.Namespace, rows: int, ways: dict[str, Way], pooled: bool = False) -> Table:
    """Return AUROC of every way and score, for every data set and its labels: means over the draws."""
    sets = load(arguments.data, rows, arguments.draws)
    if pooled:
        sets = {name: Pictures(shrunk(p.values), p.true, p.draws) for name, p in sets.items() if name == "CIFAR-10"}
    cells = [(name, labels) for name, pictures in sets.items() for labels in pictures.draws]
    head = ("kernel and mode", "score", *(f"{name}, {labels}" for name, labels in cells), "seconds")
    table: Table = [head]
    for way, score in ways.items():
        areas: dict[str, dict[tuple[str, str], list[float]]] = {}
        seconds = []
        for name, labels in cells:
            pictures = sets[name]
            for given in pictures.draws[labels]:
                found = score(pictures, given)
                seconds.append(float(found.pop("seconds")))
                for column, values in found.items():
                    area = float(roc_auc_score(given != pictures.true, values))
                    areas.setdefault(column, {}).setdefault((name, labels), []).append(area)
        for column in (c for c in SCORES if c in areas):
            figures = (f"{statistics.mean(areas[column][cell]):.4f}" for cell in cells)
            table.append((way, f"`{column}`" if column != "cleanlab" else "", *figures, f"{statistics.median(seconds):.1f}"))
            print(table[-1], flush=True)
    return table


def shrunk(values: NDArray[np.uint8], side: int = 8) -> NDArray[np.uint8]:
    """Return pictures averaged to a smaller side."""
    n, height, width, channels = values.shape
    blocks = values.reshape(n, side, height // side, side, width // side, channels)
    return np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8)


def prune(arguments: argparse.Namespace) -> Table:
    """Return the accuracy of what is left when the easiest go, for each score: 10,000 rows, the same steps whatever is kept."""
    from budgets import accuracy

    from prune_cli.core.runtime import Runtime
    from prune_cli.stages.select.command import select
    from prune_cli.stages.select.request import SelectOptions

    rows, fractions, seeds = 10_000, (0.3, 0.6), range(2)
    work = arguments.work
    train, test = work / "train.parquet", arguments.data / "fashion_mnist_test.parquet"
    pq.write_table(pq.read_table(arguments.data / "fashion_mnist_train.parquet").slice(0, rows), train)
    flat, labels, ids = read_pixels(train, rows)
    pictures = Pictures(flat.reshape(-1, 28, 28, 1), labels, {})
    drawn = kernel_solution(pictures.values, labels, ComplexityGapParams(repeats=1), device="cpu", precision="float32")
    columns: dict[str, NDArray[np.float64]] = {"cg, sampled, ridge 0": drawn.gap_n}
    for ridge in (0.0, 0.1):
        samples = make_samples(pictures.values, labels, NtkParams())
        piece = SetPiece(("relu", False), Problem("exact", ridge, True))
        solution = solve_piece(piece, samples, Settings(0, "cpu", "float32"))
        assert solution.loo_nc is not None
        columns[f"cg, exact, ridge {ridge:g}"] = solution.gap_n
        if ridge:
            columns["ntk_margin, exact, ridge 0.1"] = -margins(solution.loo_nc, labels)
            columns["ntk_residual, exact, ridge 0.1"] = residuals(solution.loo_nc, labels)
    done_file = work / "prune.json"
    done: dict[str, float] = json.loads(done_file.read_text()) if done_file.exists() else {}
    table: Table = [("kept: the hardest by", *(f"{100 * f:.0f} %" for f in fractions))]
    names = ["random", *columns]
    for name in names:
        cells = []
        for fraction in fractions:
            found = []
            for seed in seeds:
                key = f"{name}/{fraction}/{seed}"
                if key not in done:
                    scores, kept = work / "scores.parquet", work / "kept.parquet"
                    column = pa.array(columns.get(name, np.zeros(rows)), pa.float64())
                    pq.write_table(pa.table({"id": ids, "label": labels, "score": column}), scores)
                    select(
                        SelectOptions(
                            (str(scores),),
                            method="random" if name == "random" else "top",
                            params=() if name == "random" else ("key=score",),
                            directions=("score=harder",),
                            fractions=(fraction,),
                            per_class=True,
                            output=str(kept),
                            force=True,
                            runtime=Runtime(seed=seed),
                        )
                    )
                    how = {"architecture": "lenet5:12", "steps": 800}
                    done[key] = accuracy(train, test, kept, work / "run", seed, **how)
                    done_file.write_text(json.dumps(done))
                    print(key, done[key], flush=True)
                found.append(100 * done[key])
            cells.append(f"{statistics.mean(found):.1f} ± {statistics.stdev(found):.1f}")
        table.append((name, *cells))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the Parquet files")
    parser.add_argument("--work", type=Path, default=Path("out/label_errors"))
    parser.add_argument("--draws", type=int, default=4, help="draws of the flipped labels")
    parser.add_argument("--only", default="find,kernels,pooled,prune")
    parser.add_argument("--write", action="store_true", help="write docs/results/label_errors.md")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        sys.exit(f"skipped: {arguments.data} is absent")
    arguments.work.mkdir(parents=True, exist_ok=True)
    ways = dict(WAYS)
    if importlib.util.find_spec("cleanlab"):
        ways[RIVAL] = rival
    kernels = [*("relu", "relu:3", "relu:5")]
    conv, pooling = list(kernels), list(kernels)
    if importlib.util.find_spec("neural_tangents"):
        conv, pooling = [*kernels, "nt:cnn5"], [*kernels, "nt:cnn5", "nt:myrtle5"]
    parts: dict[str, Callable[[], Table]] = {
        "find": lambda: find(arguments, 6000, ways),
        "kernels": lambda: find(arguments, 2000, {f"{k}, exact, ridge chosen": at(k, None) for k in conv}),
        "pooled": lambda: find(arguments, 1000, {f"{k}, exact, ridge chosen": at(k, None) for k in pooling}, pooled=True),
        "prune": lambda: prune(arguments),
    }
    done_file = arguments.work / "done.json"
    done: dict[str, Table] = json.loads(done_file.read_text()) if done_file.exists() else {}
    for name in arguments.only.split(","):
        if name not in done:
            done[name] = parts[name]()
            done_file.write_text(json.dumps(done))
    tables = {name: markdown([tuple(row) for row in table]) for name, table in done.items()}
    print(*tables.values(), sep="\n\n")
    told = {
        "kernels": "Convolutional kernels beside fully connected ones, the first 2,000 rows; seconds with the kernel, computed once:",
        "pooled": "With pooling: the first 1,000 rows of CIFAR-10, averaged to 8 x 8 pixels:",
        "prune": "Which prunes best: accuracy (percent, mean and deviation of 2 seeds) of lenet5:12 after 800 steps on the hardest "
        "part of each class, of the first 10,000 rows of Fashion-MNIST with their own labels:",
    }
    notes = [
        f"AUROC over the first 6,000 training rows, the chance that a wrong label scores above a right one; of flipped labels the mean "
        f"of {arguments.draws} draws. Float64. Seconds are for one set of labels, kernel and choice of the ridge among them, without "
        "decoding the pictures; `cg` and `ntk_*` of one line are of one factorisation.",
        "This CIFAR-10 was re-encoded as JPEG: the rows compare labels and scores with each other, not with published figures. CIFAR-10N's "
        "wrong labels are people's confusions, which look like their given class: far harder to see than labels flipped at random.",
        *(f"{told[name]}\n\n{tables[name]}" for name in told if name in tables),
    ]
    if arguments.write:
        table = [tuple(row) for row in done["find"]]
        write_page("label_errors", "Wrong labels found without training, and what is worth keeping", table, notes)


if __name__ == "__main__":
    main()
