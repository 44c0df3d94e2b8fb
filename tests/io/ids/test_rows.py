"""Ids that are read again instead of being held: in one piece or range by range, with the same answers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from making import write

from prune_cli.core.errors import InputError
from prune_cli.io.ids import order as id_order
from prune_cli.io.ids.columns import locate, read_ids
from prune_cli.io.ids.order import order_of
from prune_cli.io.ids.rows import RowIds
from prune_cli.io.parquet.tables import ParquetSource

texts = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="ab\0é", max_size=20),
    st.builds("same-beginning-{}".format, st.text(alphabet="ab/\0😀", max_size=18)),
)
numbers = st.integers(-(2**63), 2**63 - 1)
some_ids = st.one_of(st.lists(texts, min_size=1, max_size=40), st.lists(numbers, min_size=1, max_size=40))
memories = st.sampled_from([None, 1, 200, 600])
quick = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def array(values: Sequence[object]) -> pa.Array:
    return pa.array(values, pa.int64() if isinstance(values[0], int) else pa.string())


def stored(path: Path, values: Sequence[object], *, rows: int = 7) -> ParquetSource:
    pq.write_table(pa.table({"id": array(values)}), path, row_group_size=rows)
    return ParquetSource(str(path))


def key(value: object) -> object:
    return value.encode() if isinstance(value, str) else value


def test_strings_go_by_bytes_and_the_shorter_of_equal_beginnings_first() -> None:
    """By bytes: "" < "a" < "a\\0" < "ab" < "b" < "é" (c3 a9) < "😀" (f0 ...)."""
    ids = pa.array(["😀", "ab", "", "é", "b", "a\0", "a"])
    order_n, first_n = order_of(lambda: [ids], 7)
    assert order_n.tolist() == [2, 6, 5, 1, 4, 3, 0] and first_n.all()


def test_an_id_that_stands_again_does_not_begin_a_run() -> None:
    order_n, first_n = order_of(lambda: [pa.array([3, -1]), pa.array([3])], 3)
    assert order_n[0] == 1 and first_n.tolist() == [True, True, False]


@quick
@given(values=some_ids, memory=memories, piece=st.integers(1, 50))
def test_the_order_is_that_of_a_sort_whatever_the_memory(values: list[object], memory: int | None, piece: int) -> None:
    parts = [array(values)[at : at + piece] for at in range(0, len(values), piece)]
    order_n, first_n = order_of(lambda: parts, len(values), memory)
    found = [key(values[row]) for row in order_n]
    assert found == sorted(map(key, values)) and sorted(order_n.tolist()) == list(range(len(values)))  # type: ignore[type-var]
    assert first_n.tolist() == [True, *(a != b for a, b in itertools.pairwise(found))]


def test_little_memory_makes_many_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[int] = []
    whole = id_order.in_range

    def counted(*arguments: object) -> object:
        found = whole(*arguments)  # type: ignore[arg-type]
        cut.append(len(found[0]))
        return found

    monkeypatch.setattr(id_order, "in_range", counted)
    ids = pa.array([f"sample-{i:05d}" for i in np.random.default_rng(0).permutation(5000)])
    order_n, _ = order_of(lambda: [ids], 5000, 5000 * 60 // 4)
    assert len(cut) >= 4 and sum(cut) == 5000 and max(cut) < 5000 // 3
    assert [ids[int(row)].as_py() for row in order_n[:2]] == ["sample-00000", "sample-00001"]


@quick
@given(values=some_ids, memory=memories, seed=st.integers(0, 9))
def test_duplicates_are_named_as_they_are_of_ids_in_memory(tmp_path: Path, values: list[object], memory: int | None, seed: int) -> None:
    again = [*values, *values[: seed + 1]]
    source = stored(tmp_path / "a.parquet", [again[i] for i in np.random.default_rng(seed).permutation(len(again))])
    with pytest.raises(InputError) as wanted:
        read_ids(source)
    with pytest.raises(InputError) as found:
        _ = RowIds(source, memory=memory).order_n
    assert str(found.value) == str(wanted.value)


def test_nulls_and_other_types_are_refused(tmp_path: Path) -> None:
    nulls = ParquetSource(str(write(tmp_path / "a.parquet", {"id": ["a", None, "b", None]})))
    with pytest.raises(InputError, match=r"2 null id\(s\) in 'id', the first in row 1"):
        _ = RowIds(nulls).order_n
    with pytest.raises(InputError, match="is double, not a string or an integer"):
        RowIds(ParquetSource(str(write(tmp_path / "b.parquet", {"id": [1.5]}))))
    with pytest.raises(InputError, match=r"no column 'uid'(?s:.)*--id-column"):
        RowIds(nulls, "uid")


def test_without_a_column_the_ids_are_the_positions(tmp_path: Path) -> None:
    ids = RowIds(ParquetSource(str(write(tmp_path / "a.parquet", {"x": [1.0, 2.0, 3.0]}))))
    assert ids.made_up and ids.order_n.tolist() == [0, 1, 2]
    assert ids.take(np.array([2, 0])).to_pylist() == ["row-00000002", "row-00000000"]


@quick
@given(values=some_ids, more=st.integers(0, 5), memory=memories, seed=st.integers(0, 99))
def test_rows_in_another_file_are_those_that_are_located(
    tmp_path: Path, values: list[object], more: int, memory: int | None, seed: int
) -> None:
    """The other file has the same ids in another order, or more of them."""
    unique = list(dict.fromkeys(values))
    wanted = unique[: max(1, len(unique) - more)]
    there = [unique[i] for i in np.random.default_rng(seed).permutation(len(unique))]
    ours = RowIds(stored(tmp_path / "a.parquet", wanted), memory=memory)
    theirs = RowIds(stored(tmp_path / "b.parquet", there, rows=5), memory=memory)
    rows = ours.rows_in(theirs)
    expected = locate(array(wanted), array(there), "a", "b").tolist()
    assert (rows.tolist() if rows is not None else list(range(len(wanted)))) == expected
    assert (rows is None) == (wanted == there)


@quick
@given(values=some_ids, lost=st.integers(1, 8), memory=memories, seed=st.integers(0, 99))
def test_ids_that_are_not_there_are_named_as_they_are_of_ids_in_memory(
    tmp_path: Path, values: list[object], lost: int, memory: int | None, seed: int
) -> None:
    unique = list(dict.fromkeys(values))
    lost = min(lost, len(unique))
    other = [-7 - i if isinstance(values[0], int) else f"new {i}" for i in range(lost)]
    there = [*unique[lost:], *(o for o in other if o not in unique)]
    if not there:
        return
    source = stored(tmp_path / "b.parquet", [there[i] for i in np.random.default_rng(seed).permutation(len(there))])
    ours = RowIds(stored(tmp_path / "a.parquet", unique), memory=memory)
    with pytest.raises(InputError) as wanted:
        locate(array(unique), read_ids(source)[0], ours.location, source.location)
    with pytest.raises(InputError) as found:
        ours.rows_in(RowIds(source, memory=memory))
    assert str(found.value) == str(wanted.value)


def test_texts_and_numbers_meet_as_they_do_in_memory(tmp_path: Path) -> None:
    numbers_there = RowIds(stored(tmp_path / "n.parquet", [3, 20, 1]))
    texts_there = RowIds(stored(tmp_path / "t.parquet", ["1", "3", "20"]))
    assert texts_there.rows_in(numbers_there).tolist() == [2, 0, 1]  # type: ignore[union-attr]
    assert numbers_there.rows_in(texts_there).tolist() == [1, 2, 0]  # type: ignore[union-attr]
    words = RowIds(stored(tmp_path / "w.parquet", ["1", "x", "20"]))
    with pytest.raises(InputError, match=r"has string ids, .* has integers"):
        words.rows_in(numbers_there)


def test_ids_in_memory_are_found_as_often_as_they_are_asked_for(tmp_path: Path) -> None:
    ids = RowIds(stored(tmp_path / "a.parquet", ["c", "a", "b", "d"], rows=2))
    assert ids.locate(pa.array(["b", "c", "b"]), "list", "a").tolist() == [2, 0, 2]
    assert ids.find(pa.array(["d", "z"])).tolist() == [3, -1]
    with pytest.raises(InputError, match=r"2 id\(s\) of list are not in a: z, y"):
        ids.locate(pa.array(["z", "a", "y"]), "list", "a")
    assert ids.take(np.array([3, 0, 3])).to_pylist() == ["d", "c", "d"]
    assert ids.take(np.zeros(0, np.int64)).to_pylist() == []
