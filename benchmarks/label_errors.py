"""How well the complexity gap finds wrong labels: AUROC over 6,000 rows, and the seconds it takes.

    python benchmarks/label_errors.py [--write]

Fashion-MNIST and CIFAR-10 with a fifth of the labels flipped to another class at random, and CIFAR-10 with labels
people gave (CIFAR-10N `aggre` and `worse`). A high score is read as mislabeled.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from complexity_gap import Table, markdown, read_pixels, write_page
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from prune_cli.core.rng import generator
from prune_cli.methods.scores.complexity_gap import ComplexityGapParams, complexity_gap_scores

FLIPPED = 0.2


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


def measure(
    name: str,
    values: NDArray[np.uint8],
    channels: int,
    draws: list[NDArray[np.int64]],
    true: NDArray[np.int64],
    params: ComplexityGapParams,
    wanted: str = "",
) -> tuple[str, ...]:
    """Return a row of the table: means over the draws of given labels, with the range where there are several."""
    found: dict[str, list[float]] = {"cg": [], "cg_ab": []}
    start = time.perf_counter()
    for given in draws:
        scores = complexity_gap_scores(values, given, params, channels=channels, device="cpu")
        for column, areas in found.items():
            areas.append(float(roc_auc_score(given != true, scores[column])))
    taken = (time.perf_counter() - start) / len(draws)
    texts = [f"{np.mean(a):.3f}" + (f" ({min(a):.3f} to {max(a):.3f})" if len(a) > 1 else "") for a in found.values()]
    return (name, f"{100 * np.mean(draws[0] != true):.1f} %", *texts, wanted, f"{taken:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the Parquet files")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--draws", type=int, default=4, help="draws of the flipped labels")
    parser.add_argument("--write", action="store_true", help="update docs/results/label_errors.md")
    arguments = parser.parse_args()

    params = ComplexityGapParams(repeats=arguments.repeats, terms=True)
    table: Table = [("data and labels", "wrong", "AUROC `cg`", "AUROC `cg_ab`", "wanted", "seconds")]
    fashion = arguments.data / "fashion_mnist_train.parquet"
    cifar, noisy = arguments.data / "cifar10_train.parquet", arguments.data / "cifar10n_labels.parquet"
    if fashion.exists():
        values, labels, _ = read_pixels(fashion, arguments.rows)
        flipped = [flip(labels, seed) for seed in range(arguments.draws)]
        table.append(measure("Fashion-MNIST, 20 % flipped", values, 1, flipped, labels, params, "cg >= .96"))
    else:
        print(f"skipped Fashion-MNIST: {fashion} is absent")
    if cifar.exists() and noisy.exists():
        values, labels, ids = read_pixels(cifar, arguments.rows)
        flipped = [flip(labels, seed) for seed in range(arguments.draws)]
        table.append(measure("CIFAR-10, 20 % flipped", values, 3, flipped, labels, params))
        for column in ("aggre", "worse"):
            given = people(noisy, ids, f"{column}_label")
            table.append(measure(f"CIFAR-10N {column}", values, 3, [given], labels, params))
    else:
        print(f"skipped CIFAR-10: {cifar} or {noisy} is absent")
    print(markdown(table))
    notes = [
        f"First {arguments.rows:,} training rows; ratio 1, {arguments.repeats} repeats, float64. Flipped labels: mean "
        f"(and range) over {arguments.draws} draws of the flips. Seconds are for one draw, all classes and repeats, "
        "without decoding the pictures.",
        "The area under the ROC curve is the chance that a wrong label scores above a right one: .5 is guessing.",
        "This CIFAR-10 was re-encoded as JPEG: the rows compare labels and scores with each other, not with published "
        "figures. CIFAR-10N's wrong labels are people's confusions, which look like their given class: far harder to "
        "see than labels flipped at random.",
    ]
    if arguments.write:
        write_page("label_errors", "Wrong labels found by the complexity gap", table, notes)


if __name__ == "__main__":
    main()
