"""The commands in a row, in processes of their own, as a shell script would run them."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import png, write
from safetensors.numpy import load_file
from waiting import HANGS
from warm import WarmCommands

TRAIN = ["--arch", "resnet9:4", "--batch-size", "16"]


def test_score_select_train_evaluate(prune: Any, pictures: Path, tmp_path: Path) -> None:
    assert prune("score", pictures).stdout == b"pictures.scores.parquet\n"
    assert prune("select", "pictures.scores.parquet", "--method", "top", "--fraction", "0.5").stdout == b"pictures.selection.parquet\n"
    assert prune("train", pictures, "--subset", "pictures.selection.parquet", "--steps", 30, *TRAIN).stdout == b"pictures.train\n"
    assert prune("evaluate", "pictures.train", pictures).stdout == b"pictures.train.evaluate.parquet\n"
    scores = pq.read_table(tmp_path / "pictures.scores.parquet")
    assert scores.schema.names == ["id", "label", "cg"] and scores.num_rows == 40
    assert pq.read_table(tmp_path / "pictures.selection.parquet").column("selected").to_pylist().count(True) == 20
    assert {p.name for p in (tmp_path / "pictures.train").iterdir()} == {"model.safetensors", "model.json", "history.parquet"}
    model = json.loads((tmp_path / "pictures.train" / "model.json").read_text())
    assert model["architecture"] == "resnet9:4" and model["input_size"] == [8, 8, 1] and model["classes"] == [0, 1]
    assert model["parameters"] > 0 and model["flops"] > 0 and model["metrics"]["step"] == 30
    report = pq.read_table(tmp_path / "pictures.train.evaluate.parquet").to_pylist()
    values = {r["metric"]: r["value"] for r in report if r["class"] is None}
    assert values["accuracy"] > 0.9 and set(values) == {"accuracy", "loss", "ece"}
    assert sum(r["value"] for r in report if r["metric"] == "confusion") == 40
    history = pq.read_table(tmp_path / "pictures.train" / "history.parquet")
    assert history.column("epoch").to_pylist() == list(range(1, 25))
    assert all((tmp_path / f).exists() for f in ("pictures.scores.parquet", "pictures.selection.parquet"))
    assert not list(tmp_path.glob(".*")) and not list(tmp_path.glob("*.work")) and not list(tmp_path.glob("*.incomplete"))


def test_a_pipe_gives_the_same_bytes_as_files(prune: Any, vectors: Path, tmp_path: Path) -> None:
    prune("score", vectors)
    piped = prune("score", vectors, "-o", "-", "-q").stdout
    assert piped == (tmp_path / "vectors.scores.parquet").read_bytes()
    from_file = prune("select", "vectors.scores.parquet", "--method", "top", "--fraction", "0.3", "-o", "-").stdout
    from_pipe = prune("select", "-", "--method", "top", "--fraction", "0.3", "-o", "-", stdin=piped).stdout
    assert pq.read_table(pa.BufferReader(from_pipe)).equals(pq.read_table(pa.BufferReader(from_file)))
    prune("train", vectors, "--subset", "-", "--steps", 5, "-o", "run", stdin=from_pipe)
    data = vectors.read_bytes()
    prune("evaluate", "run", "-", "-o", "report.parquet", stdin=data)
    assert prune("select", "-", "--method", "top", "--fraction", "0.3", stdin=piped).stdout == b"stdin.selection.parquet\n"


def test_the_same_run_gives_the_same_bytes_wherever_the_rows_stand(prune: Any, pictures: Path, tmp_path: Path) -> None:
    table = pq.read_table(pictures)
    for name in "abc":
        (tmp_path / name).mkdir()
        moved = np.random.default_rng(0).permutation(40) if name == "c" else np.arange(40)
        pq.write_table(table.take(pa.array(moved)), tmp_path / name / "d.parquet")
        prune("score", f"{name}/d.parquet", "-o", f"{name}/scores.parquet", "-p", "repeats=2")
        prune("select", f"{name}/scores.parquet", "--method", "top", "--count", 11, "-o", f"{name}/selection.parquet")
        prune("train", f"{name}/d.parquet", "--subset", f"{name}/selection.parquet", "--steps", 6, *TRAIN, "-o", f"{name}/run", "-q")
    for file in ("scores.parquet", "selection.parquet", "run/model.safetensors", "run/model.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    for file in ("scores.parquet", "selection.parquet"):
        tables = [pq.read_table(tmp_path / name / file).sort_by("id") for name in "ac"]
        assert tables[0].equals(tables[1])
    a, c = (load_file(tmp_path / name / "run" / "model.safetensors") for name in "ac")
    assert all(a[k].tobytes() == c[k].tobytes() for k in a)


@pytest.mark.parametrize(
    ("how", "more"),
    [
        (signal.SIGINT, []),
        (signal.SIGTERM, []),
        (signal.SIGKILL, []),
        (signal.SIGKILL, ["--structure", "complexity_aware", "-p", "strength=3"]),
    ],
)
def test_a_stopped_training_resumes_to_the_same_weights(
    prune: Any, warm: WarmCommands, pictures: Path, tmp_path: Path, how: signal.Signals, more: list[str]
) -> None:
    arguments = ["train", str(pictures), "--steps", "30", *TRAIN, *more, "--checkpoint-seconds", "0", "-o", "run"]
    saved = "prune_cli.stages.train.observer:RunObserver.save_checkpoint"
    process = warm.held(saved, 2, *arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    checkpoint = tmp_path / "run.incomplete" / "checkpoint" / "model.safetensors"
    process.send_signal(how)
    _, errors = process.communicate(timeout=HANGS)
    assert process.returncode == (-9 if how == signal.SIGKILL else 130), errors
    assert b"Traceback" not in errors and checkpoint.exists() and not (tmp_path / "run").exists()
    other = prune(*arguments[:-1], "run", "--resume", "--seed", 1, check=2).stderr
    assert b"other settings: seed was 0, is 1" in other
    kept = checkpoint.read_bytes()
    assert b"--resume, or pass --force" in prune(*arguments, check=2).stderr and checkpoint.read_bytes() == kept
    resumed = prune(*arguments, "--resume")
    assert b"resumed from the checkpoint" in resumed.stderr
    prune(*arguments[:-1], "whole")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    columns = ["epoch", "step", "samples", "lr", "train_loss", "train_accuracy"]
    histories = [pq.read_table(tmp_path / n / "history.parquet", columns=columns) for n in ("run", "whole")]
    assert histories[0].equals(histories[1])
    again = prune(*arguments, "--resume")
    assert b"whole already" in again.stderr and again.stdout == b"run\n"


def test_a_killed_scoring_goes_on_from_its_finished_blocks(prune: Any, warm: WarmCommands, vectors: Path, tmp_path: Path) -> None:
    arguments = ["score", str(vectors), "-p", "repeats=20", "-o", "out.parquet"]
    process = warm.held("prune_cli.io.runs.finished:BlockFolder.put", 20, *arguments, cwd=tmp_path)
    work = tmp_path / "out.parquet.work"
    process.kill()
    process.wait()
    kept = {p.name for p in work.iterdir() if p.suffix == ".safetensors"}
    assert len(kept) == 20 and not (tmp_path / "out.parquet").exists()
    prune(*arguments)
    assert not work.exists()
    prune(*arguments[:-1], "whole.parquet", "--work-dir", "blocks")
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert kept <= {p.name for p in (tmp_path / "blocks").iterdir()}, "blocks are named by what they depend on"


def test_huggingface_data_trains_and_keeps_its_class_names(prune: Any, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 8, 8, 3)).astype(np.uint8)
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    images = [{"bytes": png(p), "path": None} for p in pixels]
    write(tmp_path / "hf.parquet", {"image": images, "label": [0, 1] * 12}, {"huggingface": json.dumps({"info": {"features": features}})})
    done = prune("score", "hf.parquet")
    assert b"ids are the positions" in done.stderr
    schema = pq.read_schema(tmp_path / "hf.scores.parquet")
    assert json.loads(schema.metadata[b"huggingface"])["info"]["features"] == {"label": features["label"]}
    prune("select", "hf.scores.parquet", "--method", "top", "--fraction", "0.5", "--per-class")
    prune("train", "hf.parquet", "--subset", "hf.selection.parquet", "--steps", 2, *TRAIN)
    report = prune("evaluate", "hf.train", "hf.parquet", "-o", "-").stdout
    rows = pq.read_table(pa.BufferReader(report)).to_pylist()
    assert {r["class"] for r in rows if r["metric"] == "accuracy"} == {None, "cat", "dog"}
    assert {r["subset"] for r in rows} == {"hf.selection.parquet"}


def test_label_noise_is_reported_where_the_truth_is_known(prune: Any, vectors: Path, tmp_path: Path) -> None:
    table = pq.read_table(vectors)
    labels = table.column("label").to_pylist()
    noisy = [(x + 1) % 3 if i < 12 else x for i, x in enumerate(labels)]
    table = table.set_column(1, "label", pa.array(noisy)).append_column("true_label", pa.array(labels))
    pq.write_table(table, tmp_path / "noisy.parquet")
    ids = table.column("id").to_pylist()
    write(tmp_path / "selection.parquet", {"id": ids, "selected": [6 <= i < 26 for i in range(60)]})
    prune("train", "noisy.parquet", "--subset", "selection.parquet", "--steps", 3, "-o", "run")
    done = prune("evaluate", "run", "noisy.parquet", "--data", "noisy.parquet", "--subset", "selection.parquet", "--json")
    summary = json.loads(done.stdout)
    assert summary["label_noise_data"] == pytest.approx(0.2) and summary["label_noise_subset"] == pytest.approx(0.3)
    assert "true_label_accuracy" in summary and summary["accuracy"] != summary["true_label_accuracy"]
    missing = prune("evaluate", "run", "noisy.parquet", "--subset", "selection.parquet", "--force", check=2)
    assert b"--subset is given without --data" in missing.stderr


def test_float64_vectors_train_and_evaluate(prune: Any, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 3))
    write(tmp_path / "d.parquet", {"label": [0, 1] * 10, "embedding": list(values)})
    prune("train", "d.parquet", "--steps", 2)
    prune("evaluate", "d.train", "d.parquet")


def test_an_unknown_class_in_the_test_set(prune: Any, vectors: Path, tmp_path: Path) -> None:
    prune("train", vectors, "--steps", 3, "-o", "run")
    table = pq.read_table(vectors)
    pq.write_table(table.set_column(1, "label", pa.array([7] + [0] * 59)), tmp_path / "test.parquet")
    failed = prune("evaluate", "run", "test.parquet", check=2)
    assert b"unknown class 7 in 1 row(s); known: 0, 1, 2" in failed.stderr
    narrow = [[1.0, 2.0]] * 3
    write(tmp_path / "narrow.parquet", {"label": [0, 1, 2], "embedding": narrow})
    failed = prune("evaluate", "run", "narrow.parquet", check=2)
    assert b"shape [2]" in failed.stderr and b"trained on [8]" in failed.stderr


def test_a_run_folder_is_kept_and_an_unfinished_one_is_named(prune: Any, vectors: Path, tmp_path: Path) -> None:
    prune("train", vectors, "--steps", 3, "-o", "run")
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert b"exists already" in prune("train", vectors, "--steps", 3, "-o", "run", "--seed", 1, check=2).stderr
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    prune("train", vectors, "--steps", 3, "-o", "run", "--seed", 1, "--force")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() != before
    (tmp_path / "run").rename(tmp_path / "run.incomplete")
    (tmp_path / "run.incomplete" / "model.json").unlink()
    assert b"--resume" in prune("evaluate", "run.incomplete", vectors, check=2).stderr
    (tmp_path / "mine").mkdir()
    assert b"is not a run folder" in prune("train", vectors, "-o", "mine", "--force", check=2).stderr


def test_plans_say_what_a_run_needs_and_write_nothing(prune: Any, pictures: Path, tmp_path: Path) -> None:
    prune("score", pictures, "-o", "s.parquet")
    prune("train", pictures, "--steps", 1, *TRAIN, "-o", "run")
    before = {p.name for p in tmp_path.iterdir()}
    for arguments in (
        ["score", pictures],
        ["select", "s.parquet", "--method", "top", "--count", 2],
        ["train", pictures],
        ["evaluate", "run", pictures],
    ):
        plan = json.loads(prune(*arguments, "--plan", "--json").stdout)["plan"]
        assert plan["rows"] == 40 and plan["passes_over_data"] >= 1 and plan["algorithm"]
        assert plan["peak_memory_bytes"] > 0 and plan["disk_bytes"] > 0
    assert {p.name for p in tmp_path.iterdir()} == before


def test_data_larger_than_the_memory_limit_is_streamed_to_the_same_weights(prune: Any, pictures: Path, tmp_path: Path) -> None:
    arguments = ["train", pictures, "--steps", 5, *TRAIN]
    prune(*arguments, "-o", "memory")
    plan = json.loads(prune(*arguments, "--memory-limit", "1KiB", "--plan", "--json").stdout)["plan"]
    assert "streamed" in plan["algorithm"]
    prune(*arguments, "-o", "streamed", "--memory-limit", "1KiB")
    assert (tmp_path / "memory" / "model.safetensors").read_bytes() == (tmp_path / "streamed" / "model.safetensors").read_bytes()
    assert not list(tmp_path.glob("*.incomplete"))
