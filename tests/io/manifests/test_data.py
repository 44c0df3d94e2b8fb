from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import png, write

from prune_cli.core.errors import BadRowsError, InputError
from prune_cli.io.images.spool import drop_rows
from prune_cli.io.manifests.data import DataOptions, Dataset
from prune_cli.io.manifests.ledger import ErrorAllowance, Ledger, ledger_path, settle
from prune_cli.io.parquet.provenance import Provenance

MADE = Provenance("score", "cg", {}, 0, ())


def dataset(path: Path, **options: object) -> Dataset:
    return Dataset(DataOptions(str(path), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float16(), 2), pa.list_(pa.float32(), 2)]
)
def test_vectors_of_every_list_type(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array(np.array([1, 2, 3, 4], np.float16 if kind.value_type == pa.float16() else np.float32)).cast(kind.value_type)
    rows = [values[:2].to_pylist(), values[2:].to_pylist()]
    path = write(tmp_path / "a.parquet", {"embedding": pa.array([[np.float16(v) for v in r] for r in rows], kind)})
    ledger = Ledger()
    found = dataset(path).load_inputs(ledger)
    assert found.tolist() == [[1, 2], [3, 4]] and not len(ledger)
    assert found.dtype == (np.float64 if kind.value_type == pa.float64() else np.float32)
    assert dataset(path).load_inputs(ledger, as_float32=True).dtype == np.float32


def test_every_bad_vector_is_listed_with_its_reason(tmp_path: Path) -> None:
    rows = [[1.0, 2.0], [float("nan"), 1.0], None, [0.0, 0.0], [float("inf"), 0.0], [1.0], [3.0, 4.0]]
    path = write(tmp_path / "a.parquet", {"id": list("abcdefg"), "embedding": pa.array(rows, pa.list_(pa.float32()))})
    data, ledger = dataset(path), Ledger()
    vectors = data.load_inputs(ledger)
    table = ledger.table(data.ids)
    assert table.column("id").to_pylist() == ["b", "c", "e", "f"], "zeros are a vector: d is good"
    assert table.column("reason").to_pylist() == [
        "NaN or infinite vector", "no vector", "NaN or infinite vector", "a vector of 1 numbers, 2 wanted",
    ]  # fmt: skip
    assert drop_rows(vectors, ledger.good(7)).tolist() == [[1, 2], [0, 0], [3, 4]]


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_rows_are_dropped_within_the_same_memory(chunk: int) -> None:
    array = np.arange(20).reshape(10, 2)
    good = np.array([True, False, True, True, False, False, True, True, False, True])
    expected = array[good].copy()
    found = drop_rows(array, good, chunk)
    assert found.tolist() == expected.tolist() and np.shares_memory(found, array)


def test_a_split_and_some_rows_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table(
        {
            "id": list("abcdef"),
            "label": [0, 1, 2, 0, 1, 2],
            "split": ["train", "test", "train", "train", None, "test"],
            "embedding": pa.array([[i + 1.0] for i in range(6)]),
        }
    )
    pq.write_table(table, path, row_group_size=2)
    data = dataset(path, split="train")
    assert data.ids.to_pylist() == ["a", "c", "d"] and data.labels.codes_n.tolist() == [0, 2, 0]
    assert data.load_inputs(Ledger()).tolist() == [[1], [3], [4]]
    assert data.load_inputs(Ledger(), rows=np.array([0, 2])).tolist() == [[1], [4]]
    with pytest.raises(InputError, match="no row of --split dev; it has train, test"):
        dataset(path, split="dev")


def test_pictures_and_their_bad_rows(tmp_path: Path) -> None:
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4)
    path = write(tmp_path / "a.parquet", {"image": [png(grey), b"no picture", png(grey + 1)]})
    data, ledger = dataset(path), Ledger()
    images = data.load_inputs(ledger)
    assert images.shape == (3, 4, 4, 1)
    assert list(ledger.rows) == [1]
    assert drop_rows(images, ledger.good(3))[:, :, :, 0].tolist() == [grey.tolist(), (grey + 1).tolist()]


def test_spooled_pictures_are_the_same_as_loaded_ones(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 4, 4, 3)).astype(np.uint8)
    encoded = [png(p) for p in pixels]
    path = write(tmp_path / "a.parquet", {"image": [*encoded[:2], b"bad", *encoded[2:]]})
    ledger = Ledger()
    spooled = dataset(path).spool_inputs(ledger, tmp_path, rows=np.arange(6))
    assert spooled.shape == (5, 4, 4, 3) and list(ledger.rows) == [2]
    assert np.array_equal(spooled.take(np.array([4, 0, 2])), pixels[[4, 0, 2]])


def test_sizes_that_differ_are_named_with_their_ids(tmp_path: Path) -> None:
    images = [png(np.zeros((4, 4), np.uint8)), png(np.zeros((4, 5), np.uint8))]
    path = write(tmp_path / "a.parquet", {"id": ["one", "two"], "image": images})
    with pytest.raises(InputError, match=r"'one'.*'two'(?s:.)*--image-size"):
        dataset(path).load_inputs(Ledger())
    assert dataset(path, image_size=(3, 3)).load_inputs(Ledger()).shape == (2, 3, 3, 1)


def test_image_or_embedding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": [png(np.zeros((2, 2), np.uint8))], "embedding": pa.array([[1.0]])})
    assert dataset(path).kind == "image" and dataset(path, input="embedding").kind == "embedding"
    bare = write(tmp_path / "b.parquet", {"id": [1]})
    with pytest.raises(InputError, match=r"no column 'image' and no 'embedding'; it has id"):
        _ = dataset(bare).kind
    with pytest.raises(InputError, match="no column 'embedding'"):
        _ = dataset(bare, input="embedding").kind


@pytest.mark.parametrize(
    ("column", "values", "message"), [("image", [1.5], "not struct<bytes, path>"), ("embedding", ["a"], "not a list of floats")]
)
def test_columns_of_a_wrong_type(tmp_path: Path, column: str, values: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataset(write(tmp_path / "a.parquet", {column: values})).load_inputs(Ledger())


def test_a_file_without_rows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no rows"):
        dataset(write(tmp_path / "a.parquet", {"id": pa.array([], pa.string())}))


def test_the_ledger_is_written_counted_and_cleared(tmp_path: Path) -> None:
    ledger, path, ids = Ledger(), tmp_path / "o.errors.parquet", pa.array(["a", "b"])
    ledger.add(1, "broken", "p/b.png")
    ledger.add(1, "again")
    with pytest.raises(BadRowsError, match=r"1 of 2 rows are bad(?s:.)*b \(p/b.png\): broken") as caught:
        settle(ledger, ids, ErrorAllowance(), path, MADE)
    assert caught.value.exit_code == 3
    assert pq.read_table(path).to_pylist() == [{"id": "b", "path": "p/b.png", "reason": "broken"}]
    settle(ledger, ids, ErrorAllowance(1), path, MADE)
    settle(ledger, ids, ErrorAllowance(share=0.5), path, MADE)
    settle(Ledger(), ids, ErrorAllowance(), path, MADE)
    assert not path.exists(), "a ledger of an earlier run does not outlive its errors"
    write(path, {"mine": [1]})
    settle(Ledger(), ids, ErrorAllowance(), path, MADE)
    assert path.exists(), "a file we did not write stays"


@pytest.mark.parametrize("text", ["-1", "many", "101%", "1.5", "-1%"])
def test_allowances_that_are_none(text: str) -> None:
    with pytest.raises(InputError):
        ErrorAllowance.parse(text)


def test_where_the_ledger_goes() -> None:
    assert str(ledger_path("x/a.parquet", "d")) == "x/a.errors.parquet"
    assert str(ledger_path("run", "d")) == "run.errors.parquet"
    assert str(ledger_path("-", "data.scores")) == "data.scores.errors.parquet"
