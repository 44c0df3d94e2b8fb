import io
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import write

from prune_cli.core.errors import InputError
from prune_cli.io.parquet.provenance import Provenance, class_names, read_provenance
from prune_cli.io.parquet.tables import ParquetSource, write_table

MADE = Provenance("score", "cg", {"ratio": 1.0}, 0, (), score_direction={"cg": "harder"}, rows={"rows_in": 3, "rows_out": 2, "rows_bad": 1})


def test_a_folder_is_read_in_name_order_as_one(tmp_path: Path) -> None:
    for name, values in (("b", [3]), ("a", [1, 2]), (".hidden", [9])):
        write(tmp_path / f"{name}.parquet", {"x": values})
    (tmp_path / "notes.txt").write_text("not data")
    source = ParquetSource(str(tmp_path))
    assert source.rows == 3
    assert source.read(["x"]).column(0).to_pylist() == [1, 2, 3]
    assert [i.name for i in source.inputs] == ["a.parquet", "b.parquet"]


def test_batches_follow_the_row_groups(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": range(10)}), tmp_path / "a.parquet", row_group_size=4)
    sizes = [len(b) for b in ParquetSource(str(tmp_path / "a.parquet")).batches(["x"], rows=3)]
    assert sum(sizes) == 10 and max(sizes) == 3


def test_files_with_other_columns_are_not_one_dataset(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"x": [1]})
    write(tmp_path / "b.parquet", {"y": [1]})
    with pytest.raises(InputError, match="other columns"):
        ParquetSource(str(tmp_path))


def test_missing_empty_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        ParquetSource(str(tmp_path / "no.parquet"))
    with pytest.raises(InputError, match=r"without \*\.parquet files(?s:.)*prune manifest create"):
        ParquetSource(str(tmp_path))
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(InputError, match="not a whole Parquet file"):
        ParquetSource(str(tmp_path / "text.parquet"))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused_at_once(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "a.parquet", {"x": list(range(1000))})
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(InputError, match="not a whole Parquet file"):
        ParquetSource(str(path))


def test_damage_in_the_middle_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [f"some text {i}" for i in range(5000)]}), path, compression="zstd")
    raw = bytearray(path.read_bytes())
    raw[200:2200] = bytes(2000)
    path.write_bytes(raw)
    with pytest.raises(InputError, match="is damaged"):
        ParquetSource(str(path)).read(["x"])


def test_standard_input_is_read_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", {"x": [1, 2]})
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    source = ParquetSource("-")
    assert source.read(["x"]).column(0).to_pylist() == [1, 2]
    assert source.inputs[0].sha256 == ParquetSource(str(path)).inputs[0].sha256
    assert len(source.read(["x"])) == 2, "hashing leaves the file readable"


def test_empty_standard_input_points_at_the_command_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(InputError, match="command before the pipe"):
        ParquetSource("-")


def test_a_written_file_tells_how_it_was_made_and_repeats_to_the_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_table(str(tmp_path / name), pa.table({"x": [1.5]}), MADE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found = read_provenance(pq.read_schema(tmp_path / "a"))
    assert found is not None
    assert found["format_version"] == 1
    assert found["parameters"] == {"ratio": 1.0}
    assert found["score_direction"] == {"cg": "harder"}
    assert (found["rows_in"], found["rows_out"], found["rows_bad"]) == (3, 2, 1)
    assert set(found) == {
        "format_version", "command", "method", "parameters", "seed", "score_direction", "inputs", "device", "versions",
        "rows_in", "rows_out", "rows_bad",
    }  # fmt: skip


def test_class_names_and_the_huggingface_key_are_kept_for_columns_still_there(tmp_path: Path) -> None:
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    write(tmp_path / "a.parquet", {"label": [0, 1]}, {"huggingface": json.dumps({"info": {"features": features}})})
    source = ParquetSource(str(tmp_path / "a.parquet"))
    write_table(str(tmp_path / "out"), pa.table({"label": [1]}), MADE, source)
    schema = pq.read_schema(tmp_path / "out")
    assert json.loads(schema.metadata[b"huggingface"]) == {"info": {"features": {"label": features["label"]}}}
    assert class_names(schema, "label") == ("cat", "dog")


@pytest.mark.parametrize("raw", ["a,b/c", '["a", "b/c"]'])
def test_plain_class_names(raw: str) -> None:
    assert class_names(pa.schema([("label", pa.int64())], {"class_names": raw}), "label") == ("a", "b/c")


@pytest.mark.parametrize("raw", ["{", "[]", '{"info": 1}', '{"info": {"features": []}}'])
def test_strange_metadata_is_no_error(raw: str) -> None:
    schema = pa.schema([("label", pa.int64())], {"huggingface": raw, "prune": raw})
    assert class_names(schema, "label") is None
    assert read_provenance(schema) is None or isinstance(read_provenance(schema), dict)
