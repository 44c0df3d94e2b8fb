"""Folders of Parquet files: all that is there is read, or what is not is named."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import read_labels
from prune_cli.io.parquet.tables import ParquetSource


def put(place: Path, rows: int = 4, names: list[str] | None = None, labels: list[int] | None = None) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"label": labels or [i % 2 for i in range(rows)]})
    feature = {"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(feature)} if names else None), place)


def test_every_ending_of_parquet_is_read(tmp_path: Path) -> None:
    for name in ("a.parquet", "b.PARQUET", "c.pq", ".hidden.parquet", "notes.txt", "_SUCCESS"):
        put(tmp_path / name)
    assert ParquetSource(str(tmp_path)).names == ["a.parquet", "b.PARQUET", "c.pq"]


def test_files_in_folders_below_are_named(tmp_path: Path) -> None:
    put(tmp_path / "a.parquet")
    put(tmp_path / "sub" / "c.parquet")
    put(tmp_path / "sub" / "deep" / "d.pq")
    with pytest.raises(InputError, match=r"2 more in folders below, which would not be read: sub/c.parquet, sub/deep/d.pq"):
        ParquetSource(str(tmp_path))


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("train.parquet", "validation.parquet"),
        ("Training-0.parquet", "eval_1.parquet"),
    ],
)
def test_shards_of_several_splits_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        put(tmp_path / name)
    with pytest.raises(InputError, match=r"files of several splits, by their names: \w+, \w+(?s:.)*one split"):
        ParquetSource(str(tmp_path))


@pytest.mark.parametrize(
    "names",
    [("train-00000-of-00002.parquet", "train-00001-of-00002.parquet"), ("part-0.parquet", "part-1.parquet"), ("a.parquet", "test.parquet")],
)
def test_shards_of_one_split_are_one_dataset(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        put(tmp_path / name)
    assert ParquetSource(str(tmp_path)).rows == 8


@pytest.mark.parametrize("other", [["dog", "cat", "owl"], ["cat", "dog"], None])
def test_shards_that_name_their_classes_otherwise_are_refused(tmp_path: Path, other: list[str] | None) -> None:
    put(tmp_path / "a.parquet", names=["cat", "dog", "owl"])
    put(tmp_path / "b.parquet", names=other)
    with pytest.raises(InputError, match=r"b.parquet has other class names, or another order of them, than a.parquet"):
        read_labels(ParquetSource(str(tmp_path)), "label")
