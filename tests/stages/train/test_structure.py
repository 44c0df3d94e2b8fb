"""Training a network that shrinks, as files: the run folder holds the small network, and what follows reads it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch
from making import write

from prune_cli.core.errors import InputError, UnavailableError
from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.data import DataOptions
from prune_cli.io.runs.folder import read_run
from prune_cli.methods.training.networks.predict import predict, rebuild
from prune_cli.stages.evaluate.command import EvaluateOptions, evaluate
from prune_cli.stages.score.command import score
from prune_cli.stages.score.request import ScoreOptions
from prune_cli.stages.train.command import train
from prune_cli.stages.train.options import TrainOptions

SETTINGS = Runtime(device="cpu", batch_size=32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 300)
    values = (6 * np.eye(3, 8)[codes] + rng.normal(size=(300, 8))).astype(np.float32)
    columns = {"id": [f"r{i:03d}" for i in range(300)], "embedding": values.tolist(), "label": codes.tolist()}
    return write(tmp_path / "d.parquet", columns)


def run(data: Path, name: str = "run", **more: Any) -> tuple[Path, dict[str, Any]]:
    options = {"architecture": "mlp:32", "epochs": 20, "structure": "complexity_aware"} | more
    outcome = train(TrainOptions(DataOptions(str(data)), output=str(data.parent / name), runtime=SETTINGS, **options))
    return Path(outcome.outputs[0]), outcome.summary


def test_the_run_folder_holds_the_small_network_and_what_follows_reads_it(data: Path) -> None:
    folder, summary = run(data)
    found = read_run(folder)
    told = found.model["structure"]
    live = [units for units, _ in told["units"].values()]
    assert list(told["units"]) == ["hidden1", "hidden2"] and all(0 < n < 32 for n in live)
    assert found.tensors["hidden1.weight"].shape == (live[0], 8)
    assert found.tensors["hidden2.weight"].shape == (live[1], live[0])
    assert found.model["flops"] == 2 * (8 * live[0] + live[0] * live[1] + 3 * live[1])
    assert summary["flops_left"] == found.model["flops"] / told["whole"]["flops"] < 1
    assert found.model["settings"]["structure"]["method"] == "complexity_aware"
    history = pq.read_table(folder / "history.parquet")
    assert history["units"].to_pylist()[-1] == live and history["flops"].to_pylist()[0] <= told["whole"]["flops"]
    assert {"parameters", "layers", "expected_flops", "theta", "strength"} < set(history.schema.names)
    report = evaluate(EvaluateOptions(folder, DataOptions(str(data)), output=str(data.parent / "report.parquet")))
    assert report.summary["accuracy"] > 0.9
    features, scores = data.parent / "features.parquet", str(data.parent / "s.parquet")
    score(ScoreOptions(methods=("margin",), data=DataOptions(str(data)), model=str(folder), save_features=features, output=scores))
    assert len(pq.read_table(features)["embedding"][0]) == live[1]


def test_a_whole_network_has_no_structure_and_its_history_no_columns_of_it(data: Path) -> None:
    folder, summary = run(data, structure=None, epochs=1)
    assert "structure" not in read_run(folder).model and "flops_left" not in summary
    assert "units" not in pq.read_table(folder / "history.parquet").schema.names


def test_parameters_go_to_whoever_has_them_and_to_one_alone(data: Path) -> None:
    folder, _ = run(data, params=("strength=2", "lr=0.02", "layer_weight=0.5"), epochs=2)
    model = json.loads((folder / "model.json").read_text())
    assert model["settings"]["structure"]["strength"] == 2 and model["settings"]["structure"]["layer_weight"] == 0.5
    assert model["settings"]["parameters"]["lr"] == 0.02
    with pytest.raises(InputError, match="elr and complexity_aware both have it"):
        run(data, "elr", recipe="elr", params=("strength=2",), epochs=2)
    folder, _ = run(data, "elr", recipe="elr", params=("complexity_aware.strength=2", "elr.strength=1"), epochs=2)
    assert read_run(folder).model["settings"]["parameters"]["strength"] == 1
    with pytest.raises(InputError, match="no method that runs here has a parameter 'strenght'"):
        run(data, "typo", params=("strenght=2",), epochs=2)
    with pytest.raises(InputError, match="unknown structure method 'lottery'"):
        run(data, "other", structure="lottery", epochs=2)


def test_a_network_that_shrank_is_not_begun_from(data: Path) -> None:
    folder, _ = run(data, epochs=4)
    with pytest.raises(InputError, match="another structure: shrunk, and here it is whole"):
        run(data, "on", init=(folder,), structure=None, epochs=1)


def test_a_damaged_shape_is_refused(data: Path) -> None:
    folder, _ = run(data, epochs=4)
    model = json.loads((folder / "model.json").read_text())
    model["structure"]["removed"] = ["nothing"]
    (folder / "model.json").write_text(json.dumps(model))
    with pytest.raises(InputError, match="no residual block 'nothing'"):
        evaluate(EvaluateOptions(folder, DataOptions(str(data)), output=str(data.parent / "report.parquet")))


def test_the_small_network_goes_to_onnx_and_through_torch_export(data: Path) -> None:
    folder, _ = run(data, export=("onnx",), epochs=8)
    found = read_run(folder)
    values = np.array(pq.read_table(data)["embedding"].to_pylist(), np.float32)
    expected = predict(found.tensors, found.model, values, runtime=SETTINGS).logits_nc
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    for n in (1, 300):
        assert np.allclose(session.run(None, {"inputs": values[:n]})[0], expected[:n], atol=1e-4)
    normal = (values - found.model["normalization"]["mean"]) / found.model["normalization"]["std"]
    inputs = torch.from_numpy(normal.astype(np.float32))
    exported = torch.export.export(rebuild(found.tensors, found.model).eval(), (inputs,))
    assert np.allclose(exported.module()(inputs).detach().numpy(), expected, atol=1e-4)


def test_pictures_go_to_onnx_as_pixels_from_0_to_1(tmp_path: Path) -> None:
    data = DataOptions("sample_data/digits_test.parquet")
    how: dict[str, Any] = {"architecture": "resnet9:4", "epochs": 2, "structure": "magnitude", "export": ("onnx",)}
    options = TrainOptions(data, output=str(tmp_path / "run"), runtime=SETTINGS, **how)
    found = read_run(Path(train(options).outputs[0]))
    pictures = np.random.default_rng(0).integers(0, 256, (5, *found.model["input_size"]), dtype=np.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "run" / "model.onnx", providers=["CPUExecutionProvider"])
    pixels = (pictures / np.float32(255)).transpose(0, 3, 1, 2)
    expected = predict(found.tensors, found.model, pictures, runtime=SETTINGS).logits_nc
    assert np.allclose(session.run(None, {"inputs": pixels})[0], expected, atol=1e-4)


def test_formats_that_cannot_be_written_are_refused_before_training(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown format 'tflite'"):
        run(data, export=("tflite",))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match="onnx, onnxscript") as raised:
        run(data, export=("onnx",))
    assert "prune-cli[onnx]" in raised.value.cure
    assert not (data.parent / "run").exists()
