"""What is kept when people gave wrong labels: share of wrong labels, confidence around all samples, objective, for each selection.

    python benchmarks/relabel_selection.py [--work out/relabel] [--epochs 10] [--write]

CIFAR-10N: ``random1`` (17.2 % of the labels wrong) and ``worse`` (40.2 %). A warm-up on the given labels gives embeddings, probabilities
and the loss. What is kept: by neighbor confidence (both rules), class-balanced random, the smallest loss, the smallest lead of the first
class over the second (margin: the least sure first). The figures of all of them are those of tau .975, eta 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from complexity_gap import Table, markdown, write_page
from difficulty import people

from prune_cli.methods.selection.baselines import RandomParams, TopParams
from prune_cli.methods.selection.choosing import choose
from prune_cli.methods.selection.confidence.neighbor_confidence import NeighborConfidenceParams, confidences, neighbor_confidence_order
from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Run

FRACTIONS = (0.2, 0.4, 0.6, 0.8)
KINDS = {"random1": "random_label1", "worse": "worse_label"}


def warm_up(clean: Path, labels: Path, column: str, work: Path, epochs: int) -> None:
    """Train on the given labels, unless that was done."""
    if (work / "features.parquet").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(clean)
    given = pa.array(people(labels, table["id"].to_pylist(), column), table.schema.field("label").type)
    at = table.schema.get_field_index("label")
    pq.write_table(table.set_column(at, table.schema.field("label"), given), work / "given.parquet")
    command = [
        sys.executable, "-m", "prune_cli", "score", work / "given.parquet", "--method", "loss", "--epochs", epochs,
        "--save-features", work / "features.parquet", "-o", work / "scores.parquet", "-q", "--force",
    ]  # fmt: skip
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def vectors(table: pa.Table, column: str) -> np.ndarray:
    values = table[column].combine_chunks()
    return np.asarray(values.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(len(table), -1)


def figures(candidates: Candidates, picks: np.ndarray) -> tuple[float, float]:
    """Return the mean confidence around all samples, and the objective, of what is kept."""
    kept = np.zeros(len(candidates), bool)
    kept[picks] = True
    of_kept = Candidates(candidates.order_n, features=candidates.features, probabilities=candidates.probabilities, kept_n=kept)
    params = NeighborConfidenceParams(rule="reference", balance="none")
    extra = neighbor_confidence_order(of_kept, params, Run([0], device="cpu")).extras[0]
    return float(extra.columns["neighbor_confidence"].mean()), extra.figures["objective"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the Parquet files")
    parser.add_argument("--work", type=Path, default=Path("out/relabel"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--write", action="store_true", help="update docs/results/relabel_selection.md")
    arguments = parser.parse_args()
    clean, labels = arguments.data / "cifar10_train.parquet", arguments.data / "cifar10n_labels.parquet"
    if not clean.exists():
        sys.exit(f"skipped: {clean} is absent")
    table: Table = [("labels", "kept by", *(f"{f:.0%} kept" for f in FRACTIONS))]
    for kind, column in KINDS.items():
        work = arguments.work / kind
        warm_up(clean, labels, column, work, arguments.epochs)
        given, scores = pq.read_table(work / "given.parquet"), pq.read_table(work / "scores.parquet")
        features, true = pq.read_table(work / "features.parquet"), pq.read_table(clean, columns=["id", "label"])
        assert given["id"].equals(true["id"]) and given["id"].equals(scores["id"]) and given["id"].equals(features["id"])
        codes = given["label"].to_numpy().astype(np.int64)
        wrong = codes != true["label"].to_numpy()
        probs = ArrayFeatures(vectors(features, "prob"))
        n = len(codes)
        order = np.argsort(np.array(given["id"].to_pylist()), kind="stable")
        parts = {"codes_n": codes, "features": ArrayFeatures(vectors(features, "embedding")), "probabilities": probs}
        by_loss = Candidates(order, scores["loss"].to_numpy(), **parts)  # type: ignore[arg-type]
        by_lead = Candidates(order, confidences(probs, "margin", order), **parts)  # type: ignore[arg-type]
        counts = [round(f * n) for f in FRACTIONS]
        rules = {
            "neighbor_confidence, rule=exact": ("neighbor_confidence", by_loss, NeighborConfidenceParams(rule="exact")),
            "neighbor_confidence, rule=reference": ("neighbor_confidence", by_loss, NeighborConfidenceParams(rule="reference")),
            "random, balanced": ("random", by_loss, RandomParams(balanced=True)),
            "smallest loss": ("top", by_loss, TopParams(order="easiest")),
            "smallest margin": ("top", by_lead, TopParams(order="easiest")),
        }
        for name, (method, candidates, params) in rules.items():
            choice = choose(method, candidates, params, Run(counts, device="cpu"))
            cells = []
            for count, ranking in zip(counts, choice.rankings, strict=True):
                picks = ranking.order_n[:count]
                around, objective = figures(by_loss, picks)
                cells.append(f"{100 * wrong[picks].mean():.1f} % wrong, N {around:,.0f}, F {objective:,.0f}")
            table.append((f"{kind} ({100 * wrong.mean():.1f} % wrong)", name, *cells))
            print(table[-1], flush=True)
    print(markdown(table))
    if arguments.write:
        note = (
            f"CIFAR-10N, a warm-up of {arguments.epochs} passes (resnet9:16) on the given labels. In a cell: share of wrong labels "
            "among the kept, mean confidence N(x; S) around all 50,000 samples, and the objective F (50,000 at most). Which "
            "selection trains best is another question, answered where re-labeling recipes are compared."
        )
        write_page("relabel_selection", "What is kept when labels are wrong", table, [note])


if __name__ == "__main__":
    main()
