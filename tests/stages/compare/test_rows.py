"""The numbers of a comparison, worked by hand from made-up trainings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from prune_cli.methods.evidence import parse_gate
from prune_cli.stages.compare.cells import CellResult
from prune_cli.stages.compare.costs import Cost
from prune_cli.stages.compare.findings import OTHERS, SHARES, Findings, judge
from prune_cli.stages.compare.output import report_rows, summary, tables
from prune_cli.stages.compare.subsets import Subset

T_OF_2 = 0.95 / math.sqrt(2 * 0.975 * 0.025)
BASELINES = ("random", "full")


def trained(accuracy: float, classes: tuple[float, float], seconds: float, flops: float) -> CellResult:
    metrics = {"accuracy": accuracy, "worst_class_accuracy": min(classes), "loss": 1 - accuracy, "ece": 0.1}
    return CellResult(metrics, dict(zip("ab", classes, strict=True)), seconds, flops, 10, 100, 1000, 400)


def subset(name: str, method: str, rows: list[int], baseline: bool = False) -> Subset:
    mask = np.zeros(10, bool)
    mask[rows] = True
    seeds = (0, 1, 2)
    return Subset(name, method, len(rows) / 10, dict.fromkeys(seeds), dict.fromkeys(seeds, name), dict.fromkeys(seeds, mask), baseline)


@pytest.fixture
def found() -> Findings:
    """Ten rows, the first five of class a; the window keeps four of them, of which one is known to be wrong."""
    subsets = [
        subset("window@0.4", "window", [0, 1, 2, 5]),
        subset("random@0.4", "random", [0, 5, 6, 7], True),
        subset("full", "full", list(range(10)), True),
    ]
    results = {
        ("window@0.4", "epochs"): [trained(0.90 + d, (0.8, 0.95), 4.0, 4e9) for d in (0.00, 0.01, 0.02)],
        ("random@0.4", "epochs"): [trained(0.90 + d, (0.7, 0.99), 4.0, 4e9) for d in (-0.02, 0.00, 0.02)],
        ("full", "epochs"): [trained(0.93, (0.92, 0.94), 10.0, 1e10)] * 3,
    }
    wrong = np.zeros(10)
    wrong[1], wrong[9] = 1, np.nan
    codes = np.arange(10) // 5
    costs = {"window@0.4": Cost(20.0, 1.2e10, 1.0)}
    return Findings(subsets, results, costs, (0, 1, 2), ["a", "b"], codes, wrong, 0.95)


def rows_of(found: Findings, **wanted: Any) -> list[dict[str, Any]]:
    gates = [parse_gate(text, SHARES, OTHERS, BASELINES) for text in ("accuracy >= random - 2", "loss <= full")]
    rows = report_rows(found, judge(found, gates), None).table().to_pylist()
    return [row for row in rows if all(row[k] == v for k, v in wanted.items())]


def one(found: Findings, **wanted: Any) -> dict[str, Any]:
    (row,) = rows_of(found, **wanted)
    return row


WINDOW = {"subset": "window@0.4", "budget": "epochs"}


def test_each_training_and_their_mean(found: Findings) -> None:
    by_seed = rows_of(found, metric="accuracy", **{"class": None}, against=None, **WINDOW)
    assert [(r["seed"], pytest.approx(r["value"])) for r in by_seed] == [(0, 0.90), (1, 0.91), (2, 0.92), (None, 0.91)]
    mean = by_seed[-1]
    half = T_OF_2 * 0.01 / math.sqrt(3)
    assert (mean["low"], mean["high"]) == pytest.approx((0.91 - half, 0.91 + half))
    assert one(found, metric="accuracy_std", **WINDOW)["value"] == pytest.approx(0.01)
    assert one(found, metric="accuracy", seed=None, **{"class": "b"}, **WINDOW)["value"] == pytest.approx(0.95)
    assert {(r["method"], r["fraction"], r["rows"]) for r in by_seed} == {("window", 0.4, 4)}


def test_differences_are_paired(found: Findings) -> None:
    row = one(found, metric="accuracy", against="random", **WINDOW)
    half = T_OF_2 * 0.01 / math.sqrt(3)  # of .02, .01, .00
    assert (row["value"], row["low"], row["high"]) == pytest.approx((0.01, 0.01 - half, 0.01 + half))
    row = one(found, metric="accuracy", against="full", subset="random@0.4")
    half = T_OF_2 * 0.02 / math.sqrt(3)
    assert (row["value"], row["low"], row["high"]) == pytest.approx((-0.03, -0.03 - half, -0.03 + half))
    assert not rows_of(found, metric="accuracy", against="random", subset="full")


def test_equal_trainings_are_not_certain(found: Findings) -> None:
    row = one(found, metric="accuracy", seed=None, against=None, **{"class": None}, subset="full")
    half = T_OF_2 * 0.001 / math.sqrt(12) / math.sqrt(3)  # a thousand test samples
    assert (row["low"], row["high"]) == pytest.approx((0.93 - half, 0.93 + half))


def test_what_is_kept_and_how_much_of_it_is_wrong(found: Findings) -> None:
    kept = {r["class"]: r["value"] for r in rows_of(found, metric="kept_share", subset="window@0.4")}
    assert kept == {"a": 0.6, "b": 0.2}
    assert one(found, metric="rows_kept", subset="window@0.4")["value"] == 4
    assert one(found, metric="label_noise_subset", subset="window@0.4")["value"] == 0.25
    assert one(found, metric="label_noise_data", subset="window@0.4")["value"] == pytest.approx(1 / 9)


def test_break_even(found: Findings) -> None:
    """21 seconds once and 6 saved a training: the fourth; 12 GFLOPs once and 6 saved: the second."""
    pays = {r["unit"]: r["value"] for r in rows_of(found, metric="break_even_trainings")}
    assert pays == {"seconds": 4, "flops": 2}
    assert one(found, metric="score_seconds", **WINDOW)["value"] == 20
    assert one(found, metric="train_seconds", seed=None, **WINDOW)["value"] == 4
    assert not rows_of(found, metric="score_seconds", subset="random@0.4")


def test_seconds_count_by_their_median(found: Findings) -> None:
    found.results["window@0.4", "epochs"] = [  # type: ignore[index]
        trained(0.9, (0.8, 0.95), seconds, 4e9) for seconds in (4.0, 10.1, 10.2)
    ]
    pays = {r["unit"]: r["value"] for r in rows_of(found, metric="break_even_trainings")}
    assert pays == {"seconds": None, "flops": 2}
    assert one(found, metric="train_seconds", seed=None, **WINDOW)["value"] == 10.1


def test_as_many_flops_are_never_cheaper_whatever_the_clock_says(found: Findings) -> None:
    found.results["window@0.4", "epochs"] = [trained(0.9, (0.8, 0.95), 4.0, 1e10)] * 3  # type: ignore[index]
    pays = {r["unit"]: r["value"] for r in rows_of(found, metric="break_even_trainings")}
    assert pays == {"seconds": None, "flops": None}


def test_gates_are_tried_on_what_is_no_baseline(found: Findings) -> None:
    gates = {r["against"]: r for r in rows_of(found, metric="gate")}
    assert {r["subset"] for r in gates.values()} == {"window@0.4"}
    passed, failed = gates["accuracy >= random - 2"], gates["loss <= full"]
    half = T_OF_2 * 0.01 / math.sqrt(3)
    assert passed["value"] == 1
    assert (passed["low"], passed["high"]) == pytest.approx((0.03 - half, 0.03 + half))
    assert failed["value"] is None  # .02 more, but the interval reaches below
    assert failed["low"] < 0 < failed["high"]


def test_tables_and_summary_say_the_same(found: Findings) -> None:
    shown = tables(found, judge(found, [parse_gate("accuracy >= random", SHARES, OTHERS, BASELINES)]))
    accuracy, paying, gates = shown.values()
    assert accuracy[1] == ["window@0.4", "4", "91.00 ± 1.00", "+1.00 (-1.48 to +3.48)", "-2.00 (-4.48 to +0.48)", "a 80.0", "25.0%"]
    assert accuracy[3][:5] == ["full", "10", "93.00 ± 0.00", "", ""]
    assert paying[1] == ["window@0.4", "epochs", "20.0", "1.0", "4.0", "10.0", "training 4", "training 2"]
    assert gates[1] == ["accuracy >= random", "window@0.4", "epochs", "+1.00 (-1.48 to +3.48)", "undecided"]
    first = summary(found, [])["results"][0]
    assert first["less_random"]["accuracy"] == pytest.approx(0.01)
    assert first["break_even_trainings"] == {"seconds": 4, "flops": 2}
