"""One training in several processes: started by torchrun, on a CPU through Gloo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Prune
from making import write
from safetensors.numpy import load_file
from waiting import HANGS, wait_until
from warm import WarmCommands

from prune_cli.core.errors import InputError
from prune_cli.core.launch import Launch
from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.data import DataOptions
from prune_cli.stages.train import run
from prune_cli.stages.train.command import train
from prune_cli.stages.train.options import TrainOptions
from prune_cli.stages.train.run import on_own_device, share_of_machine

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]


@pytest.fixture
def launched(tmp_path: Path, warm: WarmCommands):
    """Start a command line in two processes; all of it ends with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: object) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{warm.folder}:{os.environ['PATH']}"}
        process = warm.start(*TORCHRUN, *words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.terminate()
            process.wait(HANGS)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=HANGS)
    return process.returncode, out.decode(), err.decode()


def history(run: Path) -> list[dict[str, object]]:
    rows = pq.read_table(run / "history.parquet").to_pylist()
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


def test_two_processes_train_as_one_and_speak_with_one_voice(vectors: Path, prune: Prune, launched) -> None:
    options = ["train", "vectors.parquet", "--arch", "linear", "--epochs", "6", "--batch-size", "7", "--device", "cpu"]
    prune(*options, "-o", "one")
    code, out, err = ended(launched("prune", *options, "--save-dynamics", "-o", "two"))
    assert (code, out) == (0, "two\n"), err
    assert err.count("samples/s") == 1
    one, two = (load_file(vectors.parent / name / "model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        np.testing.assert_allclose(two[name], tensor, atol=1e-6, err_msg=name)
    for mine, theirs in zip(history(vectors.parent / "two"), history(vectors.parent / "one"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6)
    assert (vectors.parent / "two" / "dynamics.parquet").is_file()
    assert json.loads((vectors.parent / "two" / "model.json").read_text())["settings"]["processes"] == 2
    assert sorted(p.name for p in vectors.parent.iterdir()) == ["one", "two", "vectors.parquet"]


def test_a_run_of_two_that_was_stopped_goes_on_to_the_same_bytes(pictures: Path, prune: Prune, warm: WarmCommands, launched) -> None:
    folder = pictures.parent
    options = ["train", "pictures.parquet", "--arch", "resnet20:4", "--steps", "16", "--batch-size", "10"]
    options += ["--device", "cpu", "--checkpoint-seconds", "0", "-o"]
    whole = launched("prune", *options, "whole")
    assert ended(whole)[0] == 0
    held, command = warm.holding("prune_cli.stages.train.observer:RunObserver.save_checkpoint", 2)
    stopped = launched("python", *command, *options, "stopped")
    wait_until(held.exists, stopped)
    stopped.send_signal(signal.SIGTERM)
    code, out, err = ended(stopped)
    assert code != 0 and out == "", err
    assert err.count("go on with --resume") == 1
    assert sorted(p.name for p in folder.iterdir()) == ["pictures.parquet", "stopped.incomplete", "whole"]

    refused = prune(*options, "stopped", "--resume", check=2).stderr.decode()
    assert "processes was 2, is None" in refused
    code, _, err = ended(launched("prune", *options, "stopped", "--resume"))
    assert code == 0 and "resumed from the checkpoint" in err
    assert history(folder / "stopped") == history(folder / "whole")
    found, expected = (load_file(folder / name / "model.safetensors") for name in ("stopped", "whole"))
    assert {name: tensor.tobytes() for name, tensor in found.items()} == {name: tensor.tobytes() for name, tensor in expected.items()}


def test_processes_with_other_data_are_refused(vectors: Path, launched) -> None:
    table = pq.read_table(vectors)
    write(vectors.parent / "0.parquet", {name: table[name] for name in table.column_names})
    other = pa.array(1 - np.asarray(table["label"]) % 2)
    write(vectors.parent / "1.parquet", {**{name: table[name] for name in table.column_names}, "label": other})
    code, out, err = ended(launched("sh", "-c", "exec prune train $RANK.parquet --arch linear --epochs 2 --device cpu -o run"))
    assert code != 0 and out == ""
    assert "rank 0 and rank 1 do not train on the same data" in err
    assert sorted(p.name for p in vectors.parent.iterdir()) == ["0.parquet", "1.parquet", "vectors.parquet"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"recipe": "sop"}, "--recipe sop trains in one process, not in 3"),
        ({"structure": "magnitude"}, r"a network that shrinks \(--structure\) trains in one process, not in 3"),
        ({}, "a batch of 5 for 3 processes"),
    ],
)
def test_what_cannot_be_shared_is_refused(vectors: Path, more: dict[str, str], says: str) -> None:
    options = TrainOptions(
        DataOptions(str(vectors)),
        output=str(vectors.parent / "run"),
        epochs=1,
        runtime=Runtime(device="cpu", batch_size=5),
        launch=Launch(0, 3, 0, 3),
        **more,  # type: ignore[arg-type]
    )
    with pytest.raises(InputError, match=says):
        train(options)
    assert list(vectors.parent.iterdir()) == [vectors]


def test_other_commands_run_in_one_process(vectors: Path, prune: Prune, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1}.items():
        monkeypatch.setenv(name, str(value))
    assert "LOCAL_WORLD_SIZE" in prune("score", vectors, check=2).stderr.decode()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert "prune score runs in one process" in prune("score", vectors, check=2).stderr.decode()
    assert list(vectors.parent.iterdir()) == [vectors]


def test_a_process_has_its_share_of_the_machine() -> None:
    found = share_of_machine(Runtime(memory_limit=900, workers=7), Launch(5, 6, 2, 3))
    assert (found.memory_limit, found.workers) == (300, 2)


def test_each_process_takes_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(run, "resolve_device", torch.device)
    place = {name: on_own_device(Runtime(device=name), Launch(5, 6, 2, 3)).device for name in ("cpu", "cuda")}
    assert place == {"cpu": "cpu", "cuda": "cuda:2"}
    assert on_own_device(Runtime(device="cuda:1"), Launch(5, 6, 0, 1)).device == "cuda:1"
    with pytest.raises(InputError, match="cuda:1 for 3 processes of this machine"):
        on_own_device(Runtime(device="cuda:1"), Launch(5, 6, 2, 3))
