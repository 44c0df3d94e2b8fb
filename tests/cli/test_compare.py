"""``prune compare`` from the command line: the numbers are those of single commands, cells are trained once, gates give exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import write
from waiting import HANGS, wait_until
from warm import WarmCommands

from prune_cli.stages.compare import cells as comparison_cells

Prune = Any
pytestmark = pytest.mark.usefixtures("warm_workers")
TRAINING = ("--epochs", "2", "--batch-size", "16", "--arch", "mlp:8", "--jobs", "1")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Vectors of three classes to train on, 90 of them, some labels wrong; and 60 to test on."""
    rng = np.random.default_rng(5)
    for name, n in (("train", 90), ("test", 60)):
        true = rng.integers(0, 3, n)
        given = np.where(rng.random(n) < (0.2 if name == "train" else 0.0), (true + 1) % 3, true)
        values = (rng.normal(size=(n, 8)) + 3 * np.eye(8)[true]).astype(np.float32)
        columns: dict[str, object] = {
            "id": [f"{name}{i:03d}" for i in rng.permutation(n)],
            "label": [["red", "green", "blue"][c] for c in given],
            "embedding": pa.FixedSizeListArray.from_arrays(values.ravel(), 8),
        }
        if name == "train":
            columns["true_label"] = [["red", "green", "blue"][c] for c in true]
            columns["hardness"] = rng.random(n)
        write(tmp_path / f"{name}.parquet", columns)
    return tmp_path


@pytest.fixture
def kept(prune: Prune, data: Path) -> Path:
    prune(
        "select", "train.parquet", "--method", "top", "-p", "key=hardness", "--direction", "hardness=harder",
        "--fraction", "0.4", "-o", "kept.parquet",
    )  # fmt: skip
    return data / "kept.parquet"


def report(path: Path, **wanted: Any) -> list[dict[str, Any]]:
    rows = pq.read_table(path).to_pylist()
    return [row for row in rows if all(row[k] == v for k, v in wanted.items())]


def test_its_numbers_are_those_of_single_commands(prune: Prune, kept: Path, data: Path) -> None:
    done = prune(
        "compare", "kept.parquet", "--data", "train.parquet", "--test", "test.parquet", *TRAINING, "--seeds", "2",
        "--budget", "both", "-o", "c.parquet",
    )  # fmt: skip
    assert done.stdout == b"c.parquet\n"
    rows = pq.read_table(data / "train.parquet", columns=["id", "label"])
    pq.write_table(rows, data / "rows.parquet")
    for seed in (0, 1):
        prune("select", "rows.parquet", "--method", "random", "--count", "36", "--seed", seed, "-o", f"r{seed}.parquet")
        for budget, amount in (("steps", 12), ("epochs", 2)):  # 2 passes over 90 rows in batches of 16
            for subset, file in (("kept", "kept.parquet"), ("random@0.4", f"r{seed}.parquet"), ("full", None)):
                run = f"run-{subset}-{budget}-{seed}"
                prune(
                    "train", "train.parquet", *(("--subset", file) if file else ()), f"--{budget}", amount, "-o", run,
                    "--batch-size", 16, "--arch", "mlp:8", "--seed", seed,
                )  # fmt: skip
                prune("evaluate", run, "test.parquet", "-o", "e.parquet", "--force")
                for metric in ("accuracy", "loss", "ece"):
                    mine = report(data / "c.parquet", metric=metric, subset=subset, budget=budget, seed=seed)
                    theirs = report(data / "e.parquet", metric=metric)
                    assert {r["class"]: r["value"] for r in mine} == {r["class"]: r["value"] for r in theirs}
    stated = json.loads(pq.read_schema(data / "c.parquet").metadata[b"prune"])
    assert stated["parameters"]["amounts"] == {"steps": 12, "epochs": 2}
    assert [i["name"] for i in stated["inputs"]] == ["train.parquet", "test.parquet", "kept.parquet"]
    assert not (data / "c.parquet.work").exists()


def test_the_share_of_wrong_labels_is_that_of_the_selection(prune: Prune, kept: Path, data: Path) -> None:
    prune("compare", "kept.parquet", "--data", "train.parquet", "--test", "test.parquet", *TRAINING, "--seeds", "1")
    table = pq.read_table(data / "train.parquet").to_pylist()
    selected = {r["id"] for r in pq.read_table(kept).to_pylist() if r["selected"]}
    wrong = [r["label"] != r["true_label"] for r in table if r["id"] in selected]
    (found,) = report(data / "train.compare.parquet", metric="label_noise_subset", subset="kept")
    assert found["value"] == pytest.approx(np.mean(wrong))


GRID = ("compare", "train.parquet", "--data", "train.parquet", "--test", "test.parquet", *TRAINING, "--keys", "hardness",
        "--direction", "hardness=harder", "--fractions", "0.2,0.4")  # fmt: skip


def test_a_grid_selects_by_itself_and_random_is_a_baseline(prune: Prune, kept: Path, data: Path) -> None:
    prune(*GRID, "--methods", "top,ccs,random", "--seeds", "2", "-o", "c.parquet", "--work-dir", "work", "--json")
    names = list(dict.fromkeys(r["subset"] for r in report(data / "c.parquet")))
    assert names == [
        "top(hardness)@0.2", "top(hardness)@0.4", "ccs(hardness)@0.2", "ccs(hardness)@0.4", "random@0.2", "random@0.4",
        "full",
    ]  # fmt: skip
    prune("compare", "kept.parquet", "--data", "train.parquet", "--test", "test.parquet", *TRAINING, "--seeds", "2",
          "-o", "single.parquet")  # fmt: skip
    for seed in (0, 1):
        mine = report(data / "c.parquet", metric="loss", subset="top(hardness)@0.4", seed=seed)
        theirs = report(data / "single.parquet", metric="loss", subset="kept", seed=seed)
        assert [r["value"] for r in mine] == [r["value"] for r in theirs]
    drawn = [p for p in (data / "work" / "selections").glob("*/made.json") if "ccs" not in p.read_text()]
    assert len(drawn) == 5, "top once, ccs and random once a seed"


def test_finished_cells_are_never_trained_twice(prune: Prune, kept: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("compare", "kept.parquet", "--data", "train.parquet", "--test", "test.parquet", *TRAINING, "--work-dir", "w")
    prune(*command, "--seeds", "2", "-o", "a.parquet")
    trained: list[str] = []
    real = comparison_cells.train

    def counted(options: Any, *rest: Any) -> Any:
        trained.append(options.subset)
        return real(options, *rest)

    monkeypatch.setattr(comparison_cells, "train", counted)
    prune(*command, "--seeds", "2", "-o", "b.parquet")
    assert trained == []
    assert (data / "a.parquet").read_bytes() == (data / "b.parquet").read_bytes()
    comparison_cells._get_ready.cache_clear()
    prune(*command, "--seeds", "3", "-o", "c.parquet")
    assert len(trained) == 4, "three for the new seed, and one that gets libraries ready"
    prune("select", "rows.parquet" if (data / "rows.parquet").exists() else "train.parquet", "--method", "random",
          "--count", "36", "-o", "same-as-random.parquet", "--seed", "0")  # fmt: skip
    trained.clear()
    prune("compare", "kept.parquet", "same-as-random.parquet", *command[2:], "--seeds", "1", "-o", "d.parquet", "--jobs", "1")
    assert trained == [], "the same rows are the same cell, whatever they are called"


def test_a_work_folder_knows_whose_rows_it_has(prune: Prune, warm: WarmCommands, kept: Path, data: Path) -> None:
    """Of other data of the same size, and called from another folder."""
    prune("compare", "kept.parquet", "--data", "train.parquet", "--test", "test.parquet", *TRAINING, "--seeds", "1",
          "--work-dir", "w", "-o", "a.parquet")  # fmt: skip
    table = pq.read_table(data / "train.parquet")
    renamed = table.set_column(0, "id", pa.array([f"other{i}" for i in range(90)]))
    pq.write_table(renamed, data / "other.parquet")
    write(data / "k.parquet", {"id": [f"other{i}" for i in range(36)]})
    prune("compare", "k.parquet", "--data", "other.parquet", "--test", "test.parquet", *TRAINING, "--seeds", "1",
          "--work-dir", "w", "-o", "b.parquet")  # fmt: skip
    (data / "elsewhere").mkdir()
    moved = ["-m", "prune_cli", "compare", "../kept.parquet", "--data", "../train.parquet", "--test",
             "../test.parquet", *TRAINING, "--seeds", "1", "--work-dir", "../w", "-o", "c.parquet"]  # fmt: skip
    with warm.start(*moved, cwd=data / "elsewhere", stderr=subprocess.PIPE) as started:
        _, said = started.communicate(timeout=HANGS)
    assert started.returncode == 0, said.decode()
    assert (data / "elsewhere" / "c.parquet").read_bytes() == (data / "a.parquet").read_bytes()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_selection_may_come_by_standard_input(prune: Prune, kept: Path, data: Path, jobs: str) -> None:
    command = ("--data", "train.parquet", "--test", "test.parquet", *TRAINING[:-1], jobs, "--seeds", "2")
    prune("compare", "-", *command, "-o", "piped.parquet", stdin=kept.read_bytes())
    prune("compare", "kept.parquet", *command, "-o", "named.parquet")
    losses = [
        [r["value"] for r in report(data / f"{name}.parquet", metric="loss", subset=subset) if r["seed"] is not None]
        for name, subset in (("piped", "stdin"), ("named", "kept"))
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 2


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("kept.parquet", "--data", "-", "--test", "test.parquet"), "--data cannot come from standard input"),
        (("kept.parquet", "--data", "train.parquet", "--test", "-"), "--test cannot come from standard input"),
        (("-", "--data", "train.parquet", "--test", "test.parquet", "--methods", "top", "--fractions", "0.5"), "scores cannot come"),
        (("-", "-", "--data", "train.parquet", "--test", "test.parquet"), "named twice"),
    ],
)
def test_what_is_read_more_than_once_is_a_file(prune: Prune, kept: Path, data: Path, command: tuple[str, ...], says: str) -> None:
    done = prune("compare", *command, "-o", "c.parquet", stdin=kept.read_bytes(), check=2)
    assert says in done.stderr.decode() and not (data / "c.parquet.work").exists()


def test_little_work_starts_no_processes(prune: Prune, kept: Path, data: Path) -> None:
    command = ("compare", "kept.parquet", "--data", "train.parquet", "--test", "test.parquet", "--plan", "--json", "--arch", "mlp:8")
    planned = [
        json.loads(prune(*command, "--steps", steps, "--seeds", "1").stdout)["plan"]["trainings_at_a_time"] for steps in ("100", "100000")
    ]
    assert planned == [1, len(os.sched_getaffinity(0))]


def test_two_at_a_time_give_the_same(prune: Prune, kept: Path, data: Path) -> None:
    command = ("compare", "kept.parquet", "--data", "train.parquet", "--test", "test.parquet", *TRAINING, "--seeds", "2")
    prune(*command, "-o", "one.parquet", "--jobs", "1")
    prune(*command, "-o", "two.parquet", "--jobs", "2")
    timed = {"train_seconds", "break_even_trainings"}
    one, two = ([r for r in report(data / f"{n}.parquet") if r["metric"] not in timed] for n in ("one", "two"))
    assert one == two and len(one) > 50


def test_a_killed_comparison_goes_on(prune: Prune, warm: WarmCommands, kept: Path, data: Path) -> None:
    command = (
        "compare", "kept.parquet", "--data", "train.parquet", "--test", "test.parquet", "--arch", "mlp:8", "--batch-size", "16",
        "--epochs", "2", "--seeds", "3", "--jobs", "2", "-o", "c.parquet",
    )  # fmt: skip
    answered = "prune_cli.engines.pool:_Worker.answer"
    started = warm.held(answered, 1, *command, cwd=data, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    cells = data / "c.parquet.work" / "cells"
    started.kill()
    started.wait()
    assert not (data / "c.parquet").exists()
    left = {path: path.stat().st_mtime_ns for path in cells.glob("*.json")}
    assert 0 < len(left) < 9
    prune(*command, "--json")
    assert not cells.exists() and (data / "c.parquet").exists()
    prune(*command[:-1], "whole.parquet", "--jobs", "1")
    timed = {"train_seconds"}
    one, two = ([r for r in report(data / f"{n}.parquet") if r["metric"] not in timed] for n in ("c", "whole"))
    assert one == two


def test_gates_are_exit_codes(prune: Prune, kept: Path, data: Path) -> None:
    command = ("compare", "kept.parquet", "--data", "train.parquet", "--test", "test.parquet", *TRAINING, "--work-dir", "w")
    assert prune(*command, "--gate", "accuracy >= full - 100", "-o", "a.parquet").returncode == 0
    failed = prune(*command, "--gate", "accuracy >= full + 99", "-o", "b.parquet", check=1)
    assert b"failed" in failed.stderr and failed.stdout == b"b.parquet\n"
    assert [r["value"] for r in report(data / "b.parquet", metric="gate")] == [0.0]
    close = ("--gate", "loss <= full", "--seeds", "1")
    undecided = prune(*command, *close, "-o", "c.parquet", check=1)
    assert b"1 of 1 gate(s) undecided" in undecided.stderr and b"counted as fail" in undecided.stderr
    assert prune(*command, *close, "--gate-undecided", "pass", "-o", "d.parquet").returncode == 0
    assert [r["value"] for r in report(data / "d.parquet", metric="gate")] == [None]
    both = json.loads(
        prune(*command, "--gate", "accuracy >= full - 100", "--gate", "accuracy >= full + 99", "-o", "e.parquet", "--json", check=1).stdout
    )  # fmt: skip
    assert both["verdict"] is False and [g["state"] for g in both["gates"]] == ["passed", "failed"]


def test_break_even_is_by_the_costs_given(prune: Prune, data: Path) -> None:
    scored = prune("score", "train.parquet", "--method", "el2n", "--epochs", "1", "--arch", "mlp:8", "-o", "s.parquet", "--json")
    (data / "score.json").write_bytes(scored.stdout)
    flops = json.loads(scored.stdout)["flops"]
    common = ("compare", "s.parquet", "--data", "train.parquet", "--test", "test.parquet", *TRAINING, "--seeds", "1",
              "--methods", "top", "--fractions", "0.5", "--budget", "epochs")  # fmt: skip
    prune(*common, "--costs", "score.json", "-o", "c.parquet")
    (row,) = report(data / "c.parquet", metric="score_flops")
    assert row["value"] == flops
    full, half = (report(data / "c.parquet", metric="train_flops", subset=s)[0]["value"] for s in ("full", "top(el2n)@0.5"))
    assert half == full / 2
    (pays,) = report(data / "c.parquet", metric="break_even_trainings", unit="flops")
    assert pays["value"] == max(1, np.ceil(flops / (full - half)))
    unknown = prune(*common, "-o", "d.parquet")
    assert b"what scoring cost is not known for 1 selection(s)" in unknown.stderr
    assert not report(data / "d.parquet", metric="break_even_trainings")


def test_bad_rows_are_found_before_anything_is_trained(prune: Prune, kept: Path, data: Path) -> None:
    table = pq.read_table(data / "train.parquet")
    bad = table["embedding"].to_pylist()
    bad[3] = [float("nan")] * 8
    pq.write_table(table.set_column(2, "embedding", pa.array(bad, pa.list_(pa.float32()))), data / "bad.parquet")
    command = ("compare", "kept.parquet", "--data", "bad.parquet", "--test", "test.parquet", *TRAINING, "--seeds", "1")
    done = prune(*command, "-o", "c.parquet", check=3)
    assert b"1 of 90 rows are bad" in done.stderr
    assert pq.read_table(data / "c.errors.parquet")["id"].to_pylist() == [table["id"][3].as_py()]
    assert not (data / "c.parquet").exists() and not (data / "c.parquet.work").exists()
    prune(*command, "-o", "c.parquet", "--max-errors", "1")
    assert report(data / "c.parquet", metric="rows_kept", subset="full")[0]["value"] == 89


def test_splits_of_one_file(prune: Prune, data: Path) -> None:
    parts = [pq.read_table(data / f"{n}.parquet", columns=["id", "label", "embedding"]) for n in ("train", "test")]
    parts = [p.append_column("split", pa.array([n] * len(p))) for n, p in zip(("train", "test"), parts, strict=True)]
    pq.write_table(pa.concat_tables(parts), data / "all.parquet")
    write(data / "k.parquet", {"id": parts[0]["id"].to_pylist()[:40]})
    prune("compare", "k.parquet", "--data", "all.parquet", "--split", "train", "--test", "all.parquet", "--test-split", "test",
          *TRAINING, "--seeds", "1", "-o", "c.parquet")  # fmt: skip
    assert report(data / "c.parquet", metric="rows_kept", subset="full")[0]["value"] == 90
    assert {r["split"] for r in report(data / "c.parquet")} == {"test"}


def test_the_plan_says_how_much_and_writes_nothing(prune: Prune, kept: Path, data: Path) -> None:
    before = sorted(p.name for p in data.iterdir())
    done = prune(*GRID, "--methods", "top,ccs", "--seeds", "2", "--budget", "both", "--plan", "--json")
    plan = json.loads(done.stdout)["plan"]
    assert plan["subsets"] == 4 + 2 + 1 and plan["trainings"] == 7 * 2 * 2
    steps = 7 * 12 + 3 * (3 + 5) + 12  # epochs of 18, 36 and 90 rows in batches of 16, twice
    assert plan["steps"] == 2 * steps
    assert sorted(p.name for p in data.iterdir()) == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("--gate", "accuracy > random"), "not a claim"),
        (("--gate", "accuracy >= random", "--baselines", "full"), "'random' is not among the baselines"),
        (("--baselines", "best"), "--baselines has no 'best'"),
        (("--budget", "time"), "--budget 'time' is none of"),
        (("--steps", "5"), "--epochs and --steps are both given"),
        (("--fractions", "0.5"), "no meaning without --methods"),
        (("--methods", "top"), "--methods needs --fractions"),
        (("--methods", "top", "--fractions", "1.0"), "out of range"),
        (("--methods", "nearest", "--fractions", "0.5"), "unknown selection method 'nearest'"),
        (("--methods", "top", "--fractions", "0.5", "--features", "train.parquet"), "none of top goes by them"),
        (("--costs", "no.json"), "does not exist"),
        (("--confidence", "1"), "--confidence 1 is out of range"),
        (("--gate-undecided", "maybe"), "neither fail nor pass"),
        (("--keep-runs",), "--keep-runs needs a place"),
        (("-p", "nonsense=1"), "has no parameter 'nonsense'"),
        (("-p", "key=hardness"), "is of a selection, and none is made here"),
        (("--memory-limit", "1MB", "--jobs", "2"), "more than the memory that may be used"),
        (("--recipe", "magic"), "unknown recipe"),
        (("--device", "cuda:7"), "finds"),
    ],
)
def test_bad_options_cost_nothing(prune: Prune, kept: Path, data: Path, change: tuple[str, ...], says: str) -> None:
    done = prune(
        "compare", "kept.parquet", "--data", "train.parquet", "--test", "test.parquet", *TRAINING, *change, "-o", "c.parquet",
        check=None,
    )  # fmt: skip
    assert done.returncode == (4 if "cuda" in change[-1] else 2), done.stderr.decode()
    assert says in done.stderr.decode()
    assert not (data / "c.parquet").exists() and not (data / "c.parquet.work").exists()


def test_files_that_do_not_fit(prune: Prune, kept: Path, data: Path) -> None:
    def refused(*command: object) -> str:
        done = prune("compare", *command, *TRAINING, "-o", "c.parquet", check=2)
        assert not (data / "c.parquet").exists() and not (data / "c.parquet.work").exists()
        return str(done.stderr.decode())

    write(data / "other.parquet", {"id": ["train001", "elsewhere"]})
    assert "1 id(s) of other.parquet are not in train.parquet: elsewhere" in refused(
        "other.parquet", "--data", "train.parquet", "--test", "test.parquet"
    )
    write(data / "scores.parquet", {"id": pq.read_table(kept)["id"].to_pylist(), "cg": [1.0] * 90})
    assert "scores.parquet keeps all rows" in refused("scores.parquet", "--data", "train.parquet", "--test", "test.parquet")
    write(data / "none.parquet", {"id": ["train001"], "selected": [False]})
    assert "none.parquet selects no row" in refused("none.parquet", "--data", "train.parquet", "--test", "test.parquet")
    test = pq.read_table(data / "test.parquet")
    unknown = test.set_column(1, "label", pa.array(["violet"] * len(test)))
    pq.write_table(unknown, data / "unknown.parquet")
    assert "unknown class violet" in refused("kept.parquet", "--data", "train.parquet", "--test", "unknown.parquet")
    assert "given 2 times" in refused("kept.parquet", "./kept.parquet", "--data", "train.parquet", "--test", "test.parquet")
    (data / "c.parquet").write_text("mine")
    done = prune("compare", "kept.parquet", "--data", "train.parquet", "--test", "test.parquet", "-o", "c.parquet", check=2)
    assert b"exists already" in done.stderr and (data / "c.parquet").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_leaves_at_once_and_keeps_what_is_done(warm: WarmCommands, kept: Path, data: Path) -> None:
    command = [
        "-m", "prune_cli", "compare", "kept.parquet", "--data", "train.parquet", "--test", "test.parquet",
        "--arch", "mlp:8", "--batch-size", "2", "--epochs", "40", "--seeds", "3", "--jobs", "2", "-o", "c.parquet",
    ]  # fmt: skip
    started = warm.start(*command, cwd=data, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    runs = data / "c.parquet.work" / "runs"
    wait_until(lambda: [run for run in runs.glob("*.incomplete") if not run.name.startswith("ready")], started)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=HANGS)
    assert started.returncode == 130, said
    assert b"Traceback" not in said
    assert not (data / "c.parquet").exists() and runs.exists()
