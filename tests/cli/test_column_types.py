"""Columns as other tools write them: taken, or refused with the cast that mends it; never a defect of ours."""

from __future__ import annotations

import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([None, 1.0, 0.0] * 4),
        pa.array([float("nan"), 1.0, 0.0] * 4),
        pa.array([True, False, None] * 4),
        pa.array([Decimal(1), Decimal(0), None] * 4, pa.decimal128(9, 0)),
    ],
)
def test_whole_numbers_and_truths_are_labels(prune: Any, tmp_path: Path, labels: pa.Array) -> None:
    data = put(tmp_path, label=labels)
    prune("score", data, "--method", "cg", "--max-errors", "4", "-o", "s.parquet")
    scores = pq.read_table(tmp_path / "s.parquet")
    assert scores.schema.field("label").type == pa.int64() and set(scores["label"].to_pylist()) == {0, 1}
    assert pq.read_table(tmp_path / "s.errors.parquet")["reason"].to_pylist() == ["missing label"] * 4


def test_labels_that_are_not_whole_are_refused_with_the_cast(prune: Any, tmp_path: Path) -> None:
    refused = prune("score", put(tmp_path, label=pa.array([0.0, 1.0, 0.5] * 4)), "--method", "cg", check=2).stderr
    assert b"column 'label' is double" in refused and b"cast the column to int64, or to strings" in refused


def test_uuids_and_texts_in_bytes_are_ids(prune: Any, tmp_path: Path) -> None:
    known = [uuid.UUID(int=7 * i) for i in range(12)]
    stored = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([u.bytes for u in known], pa.binary(16)))
    prune("score", put(tmp_path, id=stored), "--method", "cg", "-o", "u.parquet")
    assert pq.read_table(tmp_path / "u.parquet")["id"].to_pylist() == [str(u) for u in known]
    prune("score", put(tmp_path, id=pa.array([i.encode() for i in IDS])), "--method", "cg", "-o", "b.parquet")
    assert pq.read_table(tmp_path / "b.parquet")["id"].to_pylist() == IDS
    for ids in (
        pa.array([b"\xff" + bytes([i]) for i in range(12)]),
        pa.array([u.bytes for u in known], pa.binary(16)),
        pa.array(np.arange(12.0)),
    ):
        assert b"cast" in prune("score", put(tmp_path, id=ids), "--method", "cg", check=2).stderr


def test_scores_may_be_decimals(prune: Any, tmp_path: Path) -> None:
    data = put(tmp_path, el2n=pa.array([Decimal(i) / 4 for i in range(12)], pa.decimal128(9, 2)))
    prune("select", data, "--method", "top", "-p", "key=el2n", "--fraction", "0.25", "-o", "k.parquet")
    kept = pq.read_table(tmp_path / "k.parquet").filter(pc.field("selected"))
    assert kept["id"].to_pylist() == ["09", "10", "11"]


def test_tensors_of_one_dimension_are_vectors(prune: Any, tmp_path: Path) -> None:
    prune("score", put(tmp_path), "--method", "cg", "-o", "plain.parquet")
    kind = pa.fixed_shape_tensor(pa.float32(), [3])
    tensors = pa.ExtensionArray.from_storage(kind, pa.array(VECTORS, pa.list_(pa.float32(), 3)))
    prune("score", put(tmp_path, embedding=tensors), "--method", "cg", "-o", "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet")["cg"].equals(pq.read_table(tmp_path / "plain.parquet")["cg"])
