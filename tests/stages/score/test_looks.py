"""Looks of a network in blocks: what a block says is what the whole says, and every row ends once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import Prune

from prune_cli.engines import engine
from prune_cli.stages.score.sources.model import blocks as engine_looks
from prune_cli.stages.score.sources.model import source as score

pytestmark = pytest.mark.usefixtures("warm_workers")


@pytest.mark.parametrize(("data", "workers"), [("pictures", "2"), ("vectors", "1")])
def test_blocks_give_the_bytes_of_one_look(
    prune: Prune, request: Any, data: str, workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = request.getfixturevalue(data)
    prune("train", path, "--arch", "mlp:8", "--epochs", "1", "-o", "run")
    words = ["score", path, "--method", "margin,grand", "--model", "run", "--batch-size", "3", "--workers", workers]
    prune(*words, "--save-features", "f1.parquet", "-o", "one.parquet")
    monkeypatch.setattr(engine_looks, "_BLOCK_ROWS", 6)
    monkeypatch.setattr(score, "looks_elsewhere", lambda *given: True)
    monkeypatch.setattr(engine, "_WORTH_PROCESSES", -1.0)
    prune(*words, "--save-features", "f2.parquet", "-o", "two.parquet", "--work-dir", "w")
    assert len(list((tmp_path / "w").glob("*.safetensors"))) == (7 if data == "pictures" else 10)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert (tmp_path / "f1.parquet").read_bytes() == (tmp_path / "f2.parquet").read_bytes()


def test_a_process_makes_a_network_once_and_another_one_anew(
    prune: Prune, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in ("1", "2"):
        prune("train", vectors, "--arch", "mlp:8", "--epochs", "1", "--seed", seed, "-o", f"run{seed}")
    words = ["score", vectors, "--method", "grand", "--batch-size", "3", "--workers", "1"]
    prune(*words, "--model", "run1", "-o", "alone.parquet")
    made: list[str] = []
    ready = engine_looks.ready_network
    monkeypatch.setattr(engine_looks, "_READY", {})
    monkeypatch.setattr(engine_looks, "_BLOCK_ROWS", 6)
    monkeypatch.setattr(score, "looks_elsewhere", lambda *given: True)
    monkeypatch.setattr(engine_looks, "ready_network", lambda *given: (made.append(given[2]), ready(*given))[1])
    for model in ("run2", "run1", "run1"):
        prune(*words, "--model", model, "-o", f"of-{model}.parquet", "--force")
    assert made == ["auto", "auto"]
    alone, again = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("alone", "of-run1"))
    assert alone["grand"].equals(again["grand"])
    assert not alone["grand"].equals(pq.read_table(tmp_path / "of-run2.parquet")["grand"])
