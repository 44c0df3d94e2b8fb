"""Every difficulty score of one training, held against human judgement: C-scores, and label errors people made.

    python benchmarks/difficulty.py [--epochs 20] [--work out/difficulty] [--write]

CIFAR-10 with its labels: Spearman correlation of each score with the negated C-score (Jiang 2021). CIFAR-10N `worse`
(40 % of the labels wrong): AUROC of each score for the wrong labels, and what each took alone: the seconds of the
training up to the pass it needs, of its own look at the samples, and of its own computation. One `prune score` makes all
of a training's scores; the folder keeps them, so that a second call only prints.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from complexity_gap import Table, markdown, write_page
from label_errors import people
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from prune_cli.methods.registry.lookup import find_method

DYNAMICS = ("el2n", "grand", "forgetting", "aum", "dyn_unc", "dual", "tdds", "loss", "margin", "entropy", "confidence")
GEOMETRY = ("moderate", "prototype", "zcore")


def command(*arguments: object) -> float:
    """Run a prune command and return the seconds it took."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "prune_cli", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measured(path: Path, run: object) -> dict[str, float]:
    """Return the seconds of each part, from the file of an earlier call or by running it."""
    if not path.exists():
        path.write_text(json.dumps(run()))  # type: ignore[operator]
    found: dict[str, float] = json.loads(path.read_text())
    return found


def score_all(data: Path, work: Path, epochs: int) -> dict[str, float]:
    """Make all scores of a data set in the work folder; return the seconds of the parts."""
    work.mkdir(parents=True, exist_ok=True)
    run = work / "runs"
    all_of_it = measured(
        work / "seconds.json",
        lambda: {
            "training and its scores": command(
                "score", data, "--method", ",".join((*DYNAMICS, *GEOMETRY[:2])), "--epochs", epochs, "--work-dir", run,
                "--save-features", work / "features.parquet", "-o", work / "scores.parquet",
            ),
            "cg": command("score", data, "--method", "cg", "-o", work / "cg.parquet", "--force"),
            "grand": command(
                "score", data, "--method", "grand", "--model", run / "run-0", "-o", work / "last.parquet", "--force"
            ),
            "loss": command(
                "score", data, "--method", "loss", "--model", run / "run-0", "-o", work / "last.parquet", "--force"
            ),
            "zcore": command("score", work / "labelled.parquet", "--method", "zcore", "-o", work / "zcore.parquet", "--force")
            if label_features(data, work)
            else 0.0,
        },
    )  # fmt: skip
    history = pq.read_table(run / "run-0" / "history.parquet")
    all_of_it["epochs"] = history["seconds"].to_pylist()  # type: ignore[assignment]
    return all_of_it


def label_features(data: Path, work: Path) -> bool:
    """Write the features with the labels beside them: data for scores that need no images."""
    features, labels = pq.read_table(work / "features.parquet"), pq.read_table(data, columns=["id", "label"])
    assert features["id"].equals(labels["id"])
    pq.write_table(pa.table({"id": labels["id"], "label": labels["label"], "embedding": features["embedding"]}), work / "labelled.parquet")
    return True


def hard(work: Path) -> dict[str, np.ndarray]:
    """Return every score, high = hard."""
    found: dict[str, np.ndarray] = {}
    for file in ("cg", "scores", "zcore"):
        table = pq.read_table(work / f"{file}.parquet")
        directions = json.loads(table.schema.metadata[b"prune"])["score_direction"]
        for name, direction in directions.items():
            values = table[name].to_numpy()
            found[name] = values if direction == "harder" else -values
    return found


def seconds_alone(name: str, took: dict[str, float], epochs: int) -> float:
    """Return what one score takes by itself: training to its pass, and its own look."""
    per_epoch: list[float] = took["epochs"]  # type: ignore[assignment]
    if name in {"cg", "zcore"}:
        return took[name]
    if name in GEOMETRY:
        return sum(per_epoch) + took["loss"]
    needs = find_method("score", name).params_class()().needs(epochs)
    look = took["grand"] if needs.gradients else 0.0 if needs.watches else took["loss"]
    return sum(per_epoch[: needs.epochs]) + look


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the Parquet files")
    parser.add_argument("--work", type=Path, default=Path("out/difficulty"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--write", action="store_true", help="update docs/results/difficulty.md")
    arguments = parser.parse_args()
    clean = arguments.data / "cifar10_train.parquet"
    if not clean.exists():
        sys.exit(f"skipped: {clean} is absent")
    arguments.work.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(clean)
    ids = table["id"].to_pylist()
    noisy = arguments.work / "cifar10n_worse.parquet"
    given = people(arguments.data / "cifar10n_labels.parquet", ids, "worse_label")
    if not noisy.exists():
        column = pa.array(given, table.schema.field("label").type)
        pq.write_table(table.set_column(table.schema.get_field_index("label"), table.schema.field("label"), column), noisy)

    took = score_all(clean, arguments.work / "clean", arguments.epochs)
    score_all(noisy, arguments.work / "worse", arguments.epochs)
    cscores = pq.read_table(arguments.data / "cifar10_cscore.parquet")
    by_id = dict(zip(cscores["id"].to_pylist(), cscores["cscore"].to_pylist(), strict=True))
    difficulty = -np.array([by_id[i] for i in ids])
    on_clean, on_noisy = hard(arguments.work / "clean"), hard(arguments.work / "worse")
    wrong = given != table["label"].to_numpy()
    rows: Table = [("score", "Spearman with -C-score", "AUROC, CIFAR-10N `worse`", "seconds alone")]
    for score in (*DYNAMICS, *GEOMETRY, "cg"):
        rows.append(
            (
                f"`{score}`",
                f"{spearmanr(on_clean[score], difficulty).statistic:.3f}",
                f"{roc_auc_score(wrong, on_noisy[score]):.3f}",
                f"{seconds_alone(score, took, arguments.epochs):.0f}",
            )
        )
    print(markdown(rows))
    one_by_one = sum(seconds_alone(name, took, arguments.epochs) for name in DYNAMICS)
    notes = [
        f"50,000 rows; one training of resnet9:16 a column (`--epochs {arguments.epochs}`), seed 0, every score high = hard. "
        f"All scores of a training together: {took['training and its scores']:.0f} s as one command; "
        f"the eleven from `el2n` to `confidence` one by one: {one_by_one:.0f} s. Windows and epochs are "
        "the defaults for that length.",
        "Seconds alone, of the run on CIFAR-10's own labels: the training up to the pass that a score needs (el2n and grand "
        "stop after a tenth) and its own look at the samples, as a command; `moderate` and `prototype` go by the features of the "
        "whole training; `zcore` is given them, and `cg` needs no training at all.",
        "This CIFAR-10 was re-encoded as JPEG: compare the rows with each other, not with published figures.",
    ]
    if arguments.write:
        write_page("difficulty", "Difficulty scores against human judgement", rows, notes)


if __name__ == "__main__":
    main()
