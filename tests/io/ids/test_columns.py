import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from making import write

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import Labels, canonical_order, locate, read_ids, read_labels
from prune_cli.io.parquet.tables import ParquetSource


def source(tmp_path: Path, metadata: dict[str, str] | None = None, **columns: object) -> ParquetSource:
    return ParquetSource(str(write(tmp_path / "a.parquet", columns, metadata)))


@pytest.mark.parametrize(
    "values", [pa.array(["b", "a"]), pa.array(["b", "a"], pa.large_string()), pa.array(["b", "a"]).dictionary_encode()]
)
def test_string_ids(tmp_path: Path, values: pa.Array) -> None:
    ids, made_up = read_ids(source(tmp_path, id=values))
    assert ids.to_pylist() == ["b", "a"] and ids.type == pa.string() and not made_up
    assert canonical_order(ids).tolist() == [1, 0]


def test_integer_ids_sort_as_numbers(tmp_path: Path) -> None:
    ids, _ = read_ids(source(tmp_path, id=pa.array([10, 9], pa.uint16())))
    assert ids.type == pa.int64() and canonical_order(ids).tolist() == [1, 0]


def test_no_ids_are_the_positions(tmp_path: Path) -> None:
    ids, made_up = read_ids(source(tmp_path, x=[5, 6]))
    assert ids.to_pylist() == ["row-00000000", "row-00000001"] and made_up


def test_a_named_id_column_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'uid'; it has x(?s:.)*--id-column"):
        read_ids(source(tmp_path, x=[1]), "uid")


@pytest.mark.parametrize(
    ("values", "message"),
    [(["a", None], "1 null id.* row 1"), (["a", "b", "a"], r"stand more than once in 'id': a"), ([1.5, 2.5], "not a string or an integer")],
)
def test_bad_ids(tmp_path: Path, values: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_ids(source(tmp_path, id=values))


def test_string_labels_are_coded_in_name_order(tmp_path: Path) -> None:
    labels = read_labels(source(tmp_path, label=["dog", None, "cat"]), "label")
    assert labels.classes == ("cat", "dog") and labels.codes_n.tolist() == [1, -1, 0]
    assert labels.values().to_pylist() == ["dog", None, "cat"]


def test_integer_labels_without_names_are_their_own(tmp_path: Path) -> None:
    labels = read_labels(source(tmp_path, label=pa.array([7, -1, None, 7], pa.int8())), "label")
    assert labels.classes == (-1, 7) and labels.codes_n.tolist() == [1, 0, -1, 1]
    assert labels.values().type == pa.int8() and labels.values().to_pylist() == [7, -1, None, 7]


def test_huggingface_class_labels_know_all_their_classes(tmp_path: Path) -> None:
    features = {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}
    labels = read_labels(source(tmp_path, {"huggingface": json.dumps({"info": {"features": features}})}, label=[2, -1, 0]), "label")
    assert labels.names == ("a", "b", "c") and labels.classes == (0, 1, 2) and labels.codes_n.tolist() == [2, -1, 0]


def test_a_label_outside_the_named_classes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 1 has the unknown class 2"):
        read_labels(source(tmp_path, {"class_names": "a,b"}, label=[0, 2]), "label")


def test_labels_of_another_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not fit int64"):
        read_labels(source(tmp_path, label=[0.5]), "label")
    with pytest.raises(InputError, match="no column 'y'"):
        read_labels(source(tmp_path, label=[1]), "y")


def labels(codes: list[int], classes: tuple[object, ...], names: tuple[str, ...] | None = None) -> Labels:
    return Labels(np.array(codes), classes, names, pa.string())  # type: ignore[arg-type]


def test_recoding_matches_values_or_names() -> None:
    assert labels([0, 1, -1], ("b", "c")).recoded(("a", "b", "c"), None, "t").codes_n.tolist() == [1, 2, -1]
    named = labels([0, 1], (0, 1), ("dog", "cat")).recoded((0, 1), ("cat", "dog"), "t")
    assert named.codes_n.tolist() == [1, 0]


def test_recoding_refuses_a_class_that_occurs_and_is_unknown() -> None:
    assert labels([0], ("a", "z")).recoded(("a",), None, "t").codes_n.tolist() == [0], "z does not occur"
    with pytest.raises(InputError, match="t: unknown class z in 1 row"):
        labels([0, 1], ("a", "z")).recoded(("a",), None, "t")


def test_locate_finds_positions_and_names_strangers() -> None:
    ids = pa.array(["a", "b", "c"])
    assert locate(pa.array(["c", "a"]), ids, "x", "y").tolist() == [2, 0]
    assert locate(pa.array(["2"]), pa.array([1, 2]), "x", "y").tolist() == [1]
    with pytest.raises(InputError, match=r"2 id\(s\) of x are not in y: d, e"):
        locate(pa.array(["d", "a", "e"]), ids, "x", "y")
    with pytest.raises(InputError, match="string ids"):
        locate(pa.array(["one"]), pa.array([1, 2]), "x", "y")
