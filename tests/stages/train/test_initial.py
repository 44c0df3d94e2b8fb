"""Training that begins from a run: the network goes on, what does not fit is refused, the run is named in what comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import write

from prune_cli.core.errors import InputError
from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.data import DataOptions
from prune_cli.io.runs.folder import read_run
from prune_cli.stages.train.command import train
from prune_cli.stages.train.options import TrainOptions

SETTINGS = Runtime(device="cpu", batch_size=32)


def vectors(path: Path, classes: tuple[str, ...] = ("cat", "dog", "owl"), size: int = 8) -> Path:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, len(classes), 200)
    values = (6 * np.eye(len(classes), size)[codes] + rng.normal(size=(200, size))).astype(np.float32)
    return write(path, {"id": [f"r{i:03d}" for i in range(200)], "embedding": values.tolist(), "label": [classes[c] for c in codes]})


def run(data: Path, name: str, **more: Any) -> Path:
    return Path(train(TrainOptions(DataOptions(str(data)), output=str(data.parent / name), runtime=SETTINGS, **more)).outputs[0])


def test_a_run_goes_on_from_another(tmp_path: Path) -> None:
    data = vectors(tmp_path / "d.parquet")
    warm = run(data, "warm", architecture="mlp:5", epochs=6)
    still = run(data, "still", init=(warm,), epochs=1, params=("lr=0",))
    a, b = read_run(warm), read_run(still)
    assert b.model["architecture"] == "mlp:5"
    assert all(a.tensors[n].tobytes() == b.tensors[n].tobytes() for n in a.tensors)
    named = {file["name"] for file in json.loads((still / "model.json").read_text())["provenance"]["inputs"]}
    assert {"d.parquet", "warm/model.json", "warm/model.safetensors"} == named


def test_two_networks_take_two_runs(tmp_path: Path) -> None:
    data = vectors(tmp_path / "d.parquet")
    warm = [run(data, f"warm{seed}", architecture="mlp:5", epochs=4) for seed in (0, 1)]
    both = run(data, "both", recipe="dividemix", init=tuple(warm), epochs=1, params=("lr=0",))
    first, kept = read_run(warm[0]), read_run(both)
    assert all(first.tensors[n].tobytes() == kept.tensors[n].tobytes() for n in first.tensors)
    with pytest.raises(InputError, match="for 2 networks, and sop trains 1"):
        run(data, "sop", recipe="sop", init=tuple(warm), epochs=1)
    assert not (tmp_path / "sop").exists() and not (tmp_path / "sop.incomplete").exists()


def test_the_classes_are_those_of_the_run_whatever_the_part_that_is_trained_on(tmp_path: Path) -> None:
    warm = run(vectors(tmp_path / "d.parquet"), "warm", architecture="linear", epochs=1)
    fewer = vectors(tmp_path / "fewer.parquet", ("owl", "cat"))
    found = read_run(run(fewer, "on", init=(warm,), epochs=1))
    assert found.model["classes"] == ["cat", "dog", "owl"]


@pytest.mark.parametrize(
    ("other", "more", "complaint"),
    [
        ({"classes": ("cat", "dog", "emu")}, {}, "unknown class emu"),
        ({"size": 9}, {}, "another input size: \\[8\\], and here it is \\[9\\]"),
        ({}, {"architecture": "mlp:6"}, "another architecture: mlp:5, and here it is mlp:6"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, other: dict[str, Any], more: dict[str, Any], complaint: str) -> None:
    warm = run(vectors(tmp_path / "d.parquet"), "warm", architecture="mlp:5", epochs=1)
    data = vectors(tmp_path / "other.parquet", **other)
    with pytest.raises(InputError, match=complaint):
        run(data, "on", init=(warm,), epochs=1, **more)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.parquet", "other.parquet", "warm"]
