"""Columns as other tools write them: taken, or refused with the cast that mends it; never a defect of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import png

IDS = [f"{i:02d}" for i in range(12)]
VECTORS = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32).tolist()


def put(folder: Path, **columns: Any) -> str:
    table = pa.table({"id": IDS, "label": [0, 1, 2] * 4, "embedding": VECTORS, **columns})
    pq.write_table(table, folder / "data.parquet")
    return "data.parquet"


def test_views_are_the_values_they_show(prune: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [png(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)) for _ in IDS]
    image = pa.array(
        [{"bytes": p, "path": "a.png"} for p in pictures], pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])
    )
    columns = {
        "id": pa.array(IDS, pa.string_view()),
        "label": pa.array([0, 1, 2] * 4),
        "split": pa.array(["train", "test"] * 6, pa.string_view()),
    }
    pq.write_table(pa.table({**columns, "image": image}), tmp_path / "a.parquet")
    pq.write_table(pa.table({**columns, "image": pa.array(pictures, pa.binary_view())}), tmp_path / "b.parquet")
    for name in ("a", "b"):
        assert b"bad rows            0" in prune("manifest", "check", f"{name}.parquet", "--split", "train").stderr
        prune("score", f"{name}.parquet", "--method", "cg", "-q", "-o", f"{name}.s.parquet")
    assert pq.read_table(tmp_path / "a.s.parquet")["cg"].equals(pq.read_table(tmp_path / "b.s.parquet")["cg"])
    pq.write_table(pa.table({"id": columns["id"], "selected": [True] * 12}), tmp_path / "k.parquet")
    prune("manifest", "export", "k.parquet", "--data", "a.parquet", "--to", "parquet", "-o", "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == IDS


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": pa.array(range(2**63, 2**63 + 12), pa.uint64())}, b"does not fit int64"),
        ({"label": pa.array([2**64 - 1, 0, 1] * 4, pa.uint64())}, b"column 'label' is uint64"),
    ],
)
def test_numbers_beyond_what_is_held_are_refused_with_the_cast(prune: Any, tmp_path: Path, columns: Any, said: bytes) -> None:
    refused = prune("score", put(tmp_path, **columns), "--method", "cg", check=2).stderr
    assert said in refused and b"cast the column to int64" in refused


def test_whole_scores_beyond_53_bits_are_refused_with_the_cast(prune: Any, tmp_path: Path) -> None:
    data = put(tmp_path, el2n=pa.array([2**60 + i for i in range(12)]))
    refused = prune("select", data, "--method", "top", "-p", "key=el2n", "--fraction", "0.5", check=2).stderr
    assert b"column 'el2n' is int64" in refused and b"cast the column to double" in refused
    assert b"--threshold nan" in prune("select", data, "-p", "key=el2n", "--threshold", "nan", check=2).stderr


def test_a_column_that_stands_twice_is_refused_where_it_is_read(prune: Any, tmp_path: Path) -> None:
    table = pa.table([IDS, [0, 1, 2] * 4, [1, 1, 1] * 4, VECTORS], ["id", "label", "label", "embedding"])
    pq.write_table(table, tmp_path / "twice.parquet")
    assert b"column 'label' stands twice" in prune("manifest", "check", "twice.parquet", check=2).stderr
    pq.write_table(table.rename_columns(["id", "label", "embedding", "embedding"]), tmp_path / "other.parquet")
    assert b"column 'embedding' stands twice" in prune("score", "other.parquet", "--method", "cg", check=2).stderr
    pq.write_table(table.rename_columns(["note", "label", "note", "embedding"]), tmp_path / "unread.parquet")
    prune("score", "unread.parquet", "--method", "cg", "-o", "s.parquet")


def test_a_negative_label_is_none_where_classes_have_names_and_told_where_not(prune: Any, tmp_path: Path) -> None:
    labels = pa.array([0, 1, 2, -100, -1, 0, 1, 2, 0, 1, 2, 0])
    data = put(tmp_path, label=labels)
    told = prune("score", data, "--method", "cg", "-o", "s.parquet").stderr
    assert b"label -100, -1 is taken as a class of its own" in told
    assert b"taken as a class of its own" in prune("manifest", "check", data).stderr
    table = pq.read_table(tmp_path / data).replace_schema_metadata({"class_names": "a,b,c"})
    pq.write_table(table, tmp_path / data)
    prune("score", data, "--method", "cg", "--max-errors", "2", "-o", "n.parquet")
    assert pq.read_table(tmp_path / "n.errors.parquet")["reason"].to_pylist() == ["missing label"] * 2
