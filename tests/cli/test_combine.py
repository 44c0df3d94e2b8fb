"""prune manifest merge --how: selections in, one selection out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import write

from prune_cli.io.parquet.provenance import read_provenance

Prune = Any

NO_RANK = pa.array([None, None], pa.int64())


@pytest.fixture
def selections(tmp_path: Path) -> tuple[str, str]:
    """Rows a to e, a, c, e of class 0. The first keeps a, c, b in this order, the second b, d, c; the files' orders differ."""
    first = {"id": list("cabde"), "label": [0, 0, 1, 1, 0], "selected": [True, True, True, False, False]}
    write(tmp_path / "a.selection.parquet", {**first, "rank": [2, 1, 3, 4, 5]})
    second = {"id": list("abcde"), "label": [0, 1, 0, 1, 0], "selected": [False, True, True, True, False]}
    write(tmp_path / "b.selection.parquet", {**second, "rank": pa.array([4, 1, 3, 2, None], pa.int64())})
    return "a.selection.parquet", "b.selection.parquet"


def by_id(path: Path, column: str) -> dict[str, Any]:
    table = pq.read_table(path)
    return dict(zip(table["id"].to_pylist(), table[column].to_pylist(), strict=True))


def test_union_is_a_selection_manifest(prune: Prune, selections: tuple[str, str], tmp_path: Path) -> None:
    done = prune("manifest", "merge", *selections, "--how", "union")
    assert done.stdout == b"a.union.parquet\n"
    table = pq.read_table(tmp_path / "a.union.parquet")
    assert table.schema.names == ["id", "label", "selected", "rank", "reason"]
    assert [str(t) for t in table.schema.types] == ["string", "int64", "bool", "int64", "string"]
    assert table.to_pydict() == {
        "id": list("cabde"),
        "label": [0, 0, 1, 1, 0],
        "selected": [True, True, True, True, False],
        "rank": [3, 1, 2, 4, None],
        "reason": [None, None, None, None, "in none of the selections"],
    }
    told = read_provenance(table.schema)
    assert told is not None and (told["command"], told["method"], told["rows_out"]) == ("manifest merge", "union", 5)
    assert [i["name"] for i in told["inputs"]] == list(selections)
    prune("manifest", "merge", *selections, "--how", "union", "-o", "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "a.union.parquet").read_bytes()


def test_intersection_and_difference(prune: Prune, selections: tuple[str, str], tmp_path: Path) -> None:
    prune("manifest", "merge", *selections, "--how", "intersect", "-o", "i.parquet")
    assert by_id(tmp_path / "i.parquet", "rank") == {"a": None, "b": 1, "c": 2, "d": None, "e": None}
    assert by_id(tmp_path / "i.parquet", "reason") == {
        "a": "not in b.selection.parquet", "b": None, "c": None, "d": "not in a.selection.parquet",
        "e": "not in a.selection.parquet",
    }  # fmt: skip
    prune("manifest", "merge", *selections, "--how", "difference", "--selected-only", "-o", "d.parquet")
    assert pq.read_table(tmp_path / "d.parquet").to_pylist() == [{"id": "a", "label": 0, "selected": True, "rank": 1, "reason": None}]


def test_quotas(prune: Prune, selections: tuple[str, str], tmp_path: Path) -> None:
    arguments = ["manifest", "merge", *selections, "--how", "quota"]
    done = prune(*arguments, "--quota", "1", "--json", "-o", "q.parquet")
    assert by_id(tmp_path / "q.parquet", "rank") == {"a": 1, "b": 2, "c": None, "d": None, "e": None}
    assert by_id(tmp_path / "q.parquet", "reason")["c"] == "over the quota of its class"
    assert json.loads(done.stdout)["rows_kept"] == 2
    # Half of the three rows of class 0, rounded up, and three of class 1, which has two.
    done = prune(*arguments, "--quota", "0=50%", "--quota", "3", "-o", "r.parquet")
    assert by_id(tmp_path / "r.parquet", "rank") == {"a": 1, "c": 2, "b": 3, "d": 4, "e": None}
    assert b"1 class(es) have fewer selected rows than their quota: 1" in done.stderr
    prune("manifest", "merge", selections[1], "--how", "quota", "--quota", "1", "-o", "one.parquet")
    assert by_id(tmp_path / "one.parquet", "rank") == {"a": None, "b": 1, "c": 2, "d": None, "e": None}


def test_class_names_serve_for_quotas(prune: Prune, tmp_path: Path) -> None:
    columns = {"id": ["x", "y"], "label": [0, 1], "selected": [True, True], "rank": [2, 1]}
    write(tmp_path / "s.parquet", columns, {"class_names": '["cat","a=b"]'})
    prune("manifest", "merge", "s.parquet", "--how", "quota", "--quota", "cat=1", "--quota", "a=b=0", "-o", "q.parquet")
    assert by_id(tmp_path / "q.parquet", "selected") == {"x": True, "y": False}


def test_kept_rows_alone_may_be_a_part(prune: Prune, selections: tuple[str, str], tmp_path: Path) -> None:
    write(tmp_path / "k.parquet", {"id": ["e", "b"], "label": [0, 1], "selected": [True, True], "rank": [1, 2]})
    prune("manifest", "merge", selections[0], "k.parquet", "--how", "union", "-o", "u.parquet")
    assert by_id(tmp_path / "u.parquet", "rank") == {"a": 1, "e": 2, "c": 3, "b": 4, "d": None}
    prune("manifest", "merge", "k.parquet", selections[0], "--how", "difference", "-o", "d.parquet")
    assert by_id(tmp_path / "d.parquet", "selected") == {"a": False, "b": False, "c": False, "d": False, "e": True}
    write(tmp_path / "l.parquet", {"id": ["z", "b"], "label": [3, 1], "selected": [True, True], "rank": NO_RANK})
    done = prune("manifest", "merge", "k.parquet", "l.parquet", "--how", "union", "-o", "n.parquet")
    assert b"kept rows alone" in done.stderr
    assert by_id(tmp_path / "n.parquet", "rank") == {"e": 1, "b": 2, "z": None}
    assert by_id(tmp_path / "n.parquet", "label") == {"e": 0, "b": 1, "z": 3}


def test_weights_are_carried_where_all_agree(prune: Prune, tmp_path: Path) -> None:
    columns = {"id": ["x", "y", "z"], "selected": [True, True, False]}
    write(tmp_path / "a.parquet", {**columns, "weight": [2.0, 3.0, None]})
    write(tmp_path / "b.parquet", {**columns, "selected": [True, False, True], "weight": [2.0, 9.0, 1.0]})
    prune("manifest", "merge", "a.parquet", "b.parquet", "--how", "union", "-o", "u.parquet")
    assert by_id(tmp_path / "u.parquet", "weight") == {"x": 2.0, "y": 3.0, "z": 1.0}, "what leaves y out says nothing"
    write(tmp_path / "b.parquet", {**columns, "weight": [2.0, 9.0, None]})
    done = prune("manifest", "merge", "a.parquet", "b.parquet", "--how", "union", "-o", "v.parquet")
    assert b"'weight' is left out: 1 row(s) have weights that differ" in done.stderr
    assert "weight" not in pq.read_schema(tmp_path / "v.parquet").names
    write(tmp_path / "b.parquet", columns)
    done = prune("manifest", "merge", "a.parquet", "b.parquet", "--how", "intersect", "-o", "w.parquet")
    assert b"a file has none" in done.stderr and "weight" not in pq.read_schema(tmp_path / "w.parquet").names


def test_it_pipes_and_plans(prune: Prune, selections: tuple[str, str], tmp_path: Path) -> None:
    first = (tmp_path / selections[0]).read_bytes()
    piped = prune("manifest", "merge", "-", selections[1], "--how", "intersect", "-o", "-", stdin=first).stdout
    (tmp_path / "i.parquet").write_bytes(piped)
    assert by_id(tmp_path / "i.parquet", "reason")["d"] == "not in standard input"
    plan = json.loads(prune("manifest", "merge", *selections, "--how", "union", "--plan", "--json").stdout)["plan"]
    assert plan["rows"] == 5 and not (tmp_path / "a.union.parquet").exists()


def test_files_of_one_name_are_told_apart(prune: Prune, selections: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / selections[0]).write_bytes((tmp_path / selections[1]).read_bytes())
    prune("manifest", "merge", selections[0], f"x/{selections[0]}", "--how", "intersect", "-o", "i.parquet")
    assert by_id(tmp_path / "i.parquet", "reason")["a"] == "not in a.selection.parquet (file 2)"


def test_what_cannot_be_is_refused(prune: Prune, selections: tuple[str, str], tmp_path: Path) -> None:
    a, b = selections
    keys = {"id": ["a", "b"], "selected": [True, False]}
    write(tmp_path / "less.parquet", keys)
    write(tmp_path / "other.parquet", {"id": ["a", "zz"], "selected": [True, True]})
    write(tmp_path / "relabeled.parquet", {**keys, "selected": [True, True], "label": [1, 1]})
    write(tmp_path / "scores.parquet", {"id": list("abcde"), "cg": [0.0] * 5})
    write(tmp_path / "text.parquet", {"id": ["a", "b"], "selected": ["yes", "no"]})
    write(tmp_path / "null.parquet", {"id": ["a", "b"], "selected": [True, None]})
    write(tmp_path / "ranks.parquet", {**keys, "rank": [0, 1]})
    write(tmp_path / "words.parquet", {**keys, "rank": ["1", "2"]})
    write(tmp_path / "twice.parquet", {"id": ["a", "a"], "selected": [True, False]})
    write(tmp_path / "bare.parquet", {"selected": [True, False]})
    write(tmp_path / "unlabeled.parquet", {"id": ["a", "b"], "selected": [True, False]})
    (tmp_path / "cut.parquet").write_bytes((tmp_path / a).read_bytes()[:-20])
    before = {p.name for p in tmp_path.iterdir()}
    for arguments, said in (
        ([a, "less.parquet", "--how", "union"], b"3 id(s) of a.selection.parquet are not in less.parquet: c, d, e"),
        ([a, "other.parquet", "--how", "union"], b"1 id(s) of other.parquet are not in a.selection.parquet: zz"),
        ([a, "relabeled.parquet", "--how", "union"], b"1 label(s) of relabeled.parquet are not those"),
        ([a, "scores.parquet", "--how", "union"], b"scores.parquet has no column 'selected'"),
        ([a, "text.parquet", "--how", "union"], b"'selected' has string"),
        ([a, "null.parquet", "--how", "union"], b"'selected' has 1 null(s)"),
        ([a, "ranks.parquet", "--how", "union"], b"'rank' has 0, and ranks begin at 1"),
        ([a, "words.parquet", "--how", "union"], b"'rank' is string"),
        ([a, "twice.parquet", "--how", "union"], b"stand more than once"),
        ([a, "bare.parquet", "--how", "union"], b"no column 'id'"),
        ([a, "cut.parquet", "--how", "union"], b"not a whole Parquet file"),
        ([a, "nowhere.parquet", "--how", "union"], b"nowhere.parquet does not exist"),
        ([a, b, "--how", "xor"], b"unknown --how 'xor'"),
        ([a, "--how", "union"], b"one is given"),
        ([a, b], b"--how join joins scores"),
        ([a, b, "--quota", "3"], b"--quota is of selections"),
        (["scores.parquet", "scores.parquet", "--selected-only"], b"--selected-only is of selections"),
        ([a, b, "--how", "union", "--quota", "3"], b"--quota has no meaning with --how union"),
        ([a, b, "--how", "union", "--relabel"], b"--relabel goes with none of"),
        ([a, b, "--how", "quota"], b"needs a quota"),
        ([a, b, "--how", "quota", "--quota", "0.5"], b"'0.5' is not a number of rows"),
        ([a, b, "--how", "quota", "--quota", "0%"], b"'0%' is not a number of rows"),
        ([a, b, "--how", "quota", "--quota", "2", "--quota", "3"], b"given twice"),
        ([a, b, "--how", "quota", "--quota", "0=2", "--quota", "0=3"], b"the class '0' twice"),
        ([a, b, "--how", "quota", "--quota", "0=2"], b"no quota for the class 1"),
        ([a, b, "--how", "quota", "--quota", "7=2", "--quota", "1"], b"no class '7'; there are 0, 1"),
        (["unlabeled.parquet", "--how", "quota", "--quota", "1"], b"no column 'label'"),
    ):
        assert said in prune("manifest", "merge", *arguments, check=2).stderr, arguments
        assert {p.name for p in tmp_path.iterdir()} == before
    prune("manifest", "merge", a, b, "--how", "union", "-o", "u.parquet")
    assert b"exists already" in prune("manifest", "merge", a, b, "--how", "union", "-o", "u.parquet", check=2).stderr
    prune("manifest", "merge", a, b, "--how", "union", "-o", "u.parquet", "--force")


def test_a_memory_limit_that_is_no_size_is_refused_however_manifests_are_combined(
    prune: Prune, selections: tuple[str, str], tmp_path: Path
) -> None:
    done = prune("manifest", "merge", *selections, "--how", "union", "--memory-limit", "plenty", check=2)
    assert b"'plenty' is not a size" in done.stderr and not (tmp_path / "a.union.parquet").exists()
