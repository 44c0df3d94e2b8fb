"""``--report-to tensorboard``: the history of a training, read back by TensorBoard's own reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
from warm import WarmCommands

Prune = Any
DRAWN = ("epoch", "lr", "train_loss", "train_accuracy", "samples_per_second")


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard reads without TensorFlow where this module is there, as its own build without it has it."""
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return tag -> (step, value) as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def raw_steps(folder: Path) -> list[int]:
    """Return the steps that stand in the files, void or not, in the order of the files."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    files = sorted(folder.glob("events.out.tfevents.*"))
    return [event.step for file in files for event in EventFileLoader(str(file)).Load() if event.HasField("summary")]


def assert_is_history(events: Path, run: Path, tags: tuple[str, ...] = DRAWN) -> None:
    history = pq.read_table(run / "history.parquet").to_pylist()
    found = read(events)
    assert set(found) >= set(tags)
    for tag in tags:
        assert [step for step, _ in found[tag]] == [row["step"] for row in history]
        assert [value for _, value in found[tag]] == pytest.approx([row[tag] for row in history], rel=1e-6)


def test_the_curve_is_the_history_and_the_run_is_the_same(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    more = ["--epochs", 3, "--arch", "linear"]
    prune("train", vectors, "-o", "plain", *more)
    done = prune("train", vectors, "-o", "run", *more, "--report-to", "tensorboard", "--json")
    assert json.loads(done.stdout)["events"] == "run.tensorboard"
    assert_is_history(tmp_path / "run.tensorboard", tmp_path / "run")
    assert set(read(tmp_path / "run.tensorboard")) == set(DRAWN)
    assert {p.name for p in (tmp_path / "run").iterdir()} == {p.name for p in (tmp_path / "plain").iterdir()}
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_a_folder_of_ones_own_has_one_for_each_run(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    more = ["--epochs", 1, "--arch", "linear", "--report-to", "tensorboard:logs/today"]
    prune("train", vectors, "-o", "one", *more)
    prune("train", vectors, "-o", "two", *more)
    assert {p.name for p in (tmp_path / "logs" / "today").iterdir()} == {"one", "two"}
    assert_is_history(tmp_path / "logs" / "today" / "two", tmp_path / "two")


def test_a_network_that_shrinks_shows_its_size(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    more = ["--epochs", 3, "--arch", "mlp:16", "--structure", "magnitude", "-p", "target_flops=0.5"]
    prune("train", vectors, "-o", "run", *more, "--report-to", "tensorboard")
    assert_is_history(tmp_path / "run.tensorboard", tmp_path / "run", (*DRAWN, "flops", "parameters"))
    model = json.loads((tmp_path / "run" / "model.json").read_text())
    last = read(tmp_path / "run.tensorboard")["flops"][-1][1]
    assert last == model["flops"] < model["structure"]["whole"]["flops"]


def test_a_resumed_run_goes_on_with_its_curve(prune: Prune, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """60 rows in batches of 20 are 3 steps a pass. Checkpoint after pass 1, death after pass 4: passes 2 to 4 are void."""
    from prune_cli.stages.train.observer import RunObserver

    more = ["--epochs", 6, "--arch", "linear", "--batch-size", 20, "-o", "run", "--report-to", "tensorboard"]
    passed = RunObserver.on_pass

    def die(self: RunObserver, row: Any) -> None:
        passed(self, row)
        if row["epoch"] == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunObserver, "on_pass", die)
        patch.setattr(RunObserver, "should_checkpoint", lambda self: len(self.history) == 1)
        prune("train", vectors, *more, check=130)
    events = tmp_path / "run.tensorboard"
    assert raw_steps(events) == [3, 6, 9, 12]
    prune("train", vectors, *more, "--resume")
    assert raw_steps(events) == [3, 6, 9, 12, 6, 9, 12, 15, 18]
    assert_is_history(events, tmp_path / "run")
    assert [step for step, _ in read(events)["lr"]] == [3, 6, 9, 12, 15, 18]


def test_a_run_that_is_resumed_with_a_report_has_all_of_its_curve(
    prune: Prune, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prune_cli.stages.train.observer import RunObserver

    more = ["--epochs", 4, "--arch", "linear", "-o", "run"]
    with monkeypatch.context() as patch:
        patch.setattr(RunObserver, "should_stop", lambda self: len(self.history) == 2)
        prune("train", vectors, *more, check=130)
    prune("train", vectors, *more, "--resume", "--report-to", "tensorboard")
    assert_is_history(tmp_path / "run.tensorboard", tmp_path / "run")


def test_events_are_not_replaced_unasked(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    more = ["--epochs", 2, "--arch", "linear", "--report-to", "tensorboard:logs", "-o", "run"]
    prune("train", vectors, *more)
    (tmp_path / "logs" / "run" / "events.out.tfevents.1.host").write_bytes(b"another's")
    (tmp_path / "run").rename(tmp_path / "kept")
    failed = prune("train", vectors, *more, check=2)
    assert b"logs/run has events already" in failed.stderr and not (tmp_path / "run").exists()
    prune("train", vectors, *more, "--force")
    assert (tmp_path / "logs" / "run" / "events.out.tfevents.1.host").read_bytes() == b"another's"
    (tmp_path / "logs" / "run" / "events.out.tfevents.1.host").unlink()
    assert len(raw_steps(tmp_path / "logs" / "run")) == 2
    (tmp_path / "file").write_text("")
    failed = prune("train", vectors, "--report-to", "tensorboard:file", "-o", "file/run", check=2)
    (tmp_path / "a.tensorboard").write_text("")
    failed = prune("train", vectors, "--report-to", "tensorboard", "-o", "a", check=2)
    assert b"a.tensorboard is not a folder" in failed.stderr


@pytest.mark.parametrize("name", ["wandb", "tensorboard:", ""])
def test_other_names_are_refused(prune: Prune, vectors: Path, name: str) -> None:
    assert b"use tensorboard or tensorboard:DIR" in prune("train", vectors, "--report-to", name, check=2).stderr


def test_scores_of_a_training_report_it_too(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    more = ["--method", "aum", "--epochs", 2, "--arch", "linear", "-o", "s.parquet"]
    prune("score", vectors, *more)
    plain = (tmp_path / "s.parquet").read_bytes()
    done = prune("score", vectors, *more, "--force", "--report-to", "tensorboard", "--json")
    assert json.loads(done.stdout)["events"] == "s.parquet.tensorboard"
    assert (tmp_path / "s.parquet").read_bytes() == plain
    assert [value for _, value in read(tmp_path / "s.parquet.tensorboard")["epoch"]] == [1, 2]
    prune("score", vectors, *more, "--force", "--report-to", "tensorboard:logs", "-p", "training.runs=2")
    assert {p.name for p in (tmp_path / "logs" / "s.parquet").iterdir()} == {"run-0", "run-1"}
    assert [value for _, value in read(tmp_path / "logs" / "s.parquet" / "run-1")["epoch"]] == [1, 2]
    (tmp_path / "s.parquet").unlink()
    again = prune("score", vectors, *more, "--report-to", "tensorboard:logs", "-p", "training.runs=2", check=2)
    assert b"has events already" in again.stderr


def test_where_nothing_trains_there_is_nothing_to_report(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    prune("score", vectors, "--method", "aum", "--epochs", 2, "--save-dynamics", "d.parquet", "-o", "s.parquet")
    for given in ([vectors, "--method", "cg"], ["--from-dynamics", "d.parquet", "--method", "aum"]):
        failed = prune("score", *given, "--report-to", "tensorboard", "-o", "t.parquet", check=2)
        assert b"nothing here trains" in failed.stderr and not (tmp_path / "t.parquet").exists()


def test_a_missing_package_is_told_before_any_work(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "tensorboard.py").write_text("raise ModuleNotFoundError(\"No module named 'tensorboard'\")")
    env = {**os.environ, "PYTHONPATH": f"{shadow}{os.pathsep}{Path(__file__).parents[2]}"}
    failed = prune("train", vectors, "-o", "run", "--report-to", "tensorboard", check=4, env=env)
    assert b"pip install 'prune-cli[tensorboard]'" in failed.stderr
    assert not (tmp_path / "run").exists() and not (tmp_path / "run.tensorboard").exists()


def test_a_full_disk_does_not_end_the_training(prune: Prune, vectors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prune_cli.io.runs.events import EventWriter

    def full(self: EventWriter, row: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EventWriter, "add", full)
    done = prune("train", vectors, "--epochs", 3, "--arch", "linear", "-o", "run", "--report-to", "tensorboard")
    assert done.stderr.count(b"events are not written any more: No space left on device") == 1


def test_tensorflow_is_not_loaded(warm: WarmCommands, vectors: Path, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom prune_cli.cli.app import invoke\n"
        f"code = invoke(['train', {str(vectors)!r}, '--epochs', '1', '--arch', 'linear', '-o', 'run', '--report-to', 'tensorboard'])\n"
        "loaded = {'tensorboard', 'tensorflow'} & set(sys.modules)\n"
        "sys.exit(0 if code == 0 and loaded == {'tensorboard'} else f'{code} {loaded}')\n"
    )
    done = subprocess.run([warm.python, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "oneDNN" not in done.stderr and "Warning" not in done.stderr
