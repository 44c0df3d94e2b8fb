"""Outputs are never inputs, however they are named, and a device or a pipe stays what it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 4)).astype(np.float32).tolist()
    table = pa.table({"id": [f"{i:02d}" for i in range(40)], "label": [0, 1] * 20, "embedding": vectors, "el2n": rng.random(40)})
    pq.write_table(table, tmp_path / "data.parquet")
    pq.write_table(pa.table({"id": table["id"], "aum": rng.random(40)}), tmp_path / "more.parquet")
    pq.write_table(pa.table({"id": table["id"], "selected": [True] * 40}), tmp_path / "kept.parquet")
    return tmp_path / "data.parquet"


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "data.parquet", "--method", "cg", "-o", "./data.parquet"],
        ["score", "data.parquet", "--method", "cg", "-o", "linked.parquet"],
        ["score", "data.parquet", "--method", "ntk_margin", "--save-features", "data.parquet", "-o", "x.parquet"],
        ["score", "data.parquet", "--method", "ntk_margin", "--save-features", "same.parquet", "-o", "same.parquet"],
        ["select", "data.parquet", "--method", "top", "-p", "key=el2n", "--fraction", "0.5", "-o", "hard.parquet"],
        ["select", "data.parquet", "--method", "top", "-p", "key=el2n", "--fraction", "0.5", "--keep", "ids.txt", "-o", "ids.txt"],
        ["manifest", "merge", "data.parquet", "more.parquet", "-o", "more.parquet"],
        ["manifest", "export", "kept.parquet", "--data", "data.parquet", "--to", "ids", "-o", "data.parquet"],
        ["score", "folder", "--method", "cg", "-o", "folder/scores.parquet"],
    ],
)
def test_what_a_command_reads_is_never_written(prune: Any, data: Path, arguments: list[str]) -> None:
    folder = data.parent
    (folder / "linked.parquet").symlink_to("data.parquet")
    os.link(data, folder / "hard.parquet")
    (folder / "ids.txt").write_text("01\n")
    (folder / "folder").mkdir()
    pq.write_table(pq.read_table(data), folder / "folder" / "a.parquet")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    refused = prune(*arguments, "--force", check=2)
    assert b"another with -o" in refused.stderr or b"a name of its own" in refused.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_folder_with_inputs_is_never_replaced(prune: Any, data: Path) -> None:
    arguments = ["manifest", "export", "kept.parquet", "--to", "webdataset", "-o", "export"]
    prune(*arguments, "--data", "data.parquet")
    (data.parent / "export" / "data.parquet").write_bytes(data.read_bytes())
    refused = prune(*arguments, "--data", "export/data.parquet", "--force", check=2)
    assert b"holds what the command reads" in refused.stderr and (data.parent / "export" / "data.parquet").exists()


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR])
def test_a_device_or_a_pipe_is_refused(prune: Any, data: Path, kind: int) -> None:
    place = data.parent / "place"
    try:
        os.mknod(place, kind | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices are made by root alone")
    refused = prune("select", data, "--method", "top", "-p", "key=el2n", "--fraction", "0.5", "-o", "place", "--force", check=2)
    assert b"a device, a pipe or a socket" in refused.stderr and stat.S_IFMT(place.lstat().st_mode) == kind
