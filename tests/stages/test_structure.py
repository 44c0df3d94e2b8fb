"""Training a network that shrinks, as files: the run folder holds the small network, and what follows reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from making import write

from prune_cli.core.errors import InputError
from prune_cli.core.runtime import Runtime
from prune_cli.io.manifest import DataOptions
from prune_cli.io.run_folder import read_run
from prune_cli.stages.evaluate import EvaluateOptions, evaluate
from prune_cli.stages.score import ScoreOptions, score
from prune_cli.stages.train import TrainOptions, train

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
    score(
        ScoreOptions(
            methods=("margin",),
            data=DataOptions(str(data)),
            model=str(folder),
            save_features=features,
            output=scores,
        )
    )
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
