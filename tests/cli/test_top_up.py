"""prune manifest top-up: rows are added, and nothing that was kept moves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import write

from prune_cli.io.parquet.provenance import read_provenance
from prune_cli.methods.registry.lookup import methods_of

Prune = Any


@pytest.fixture
def old(tmp_path: Path) -> str:
    """Rows a to e, of which d and b are kept, in this order."""
    columns = {"id": list("abcde"), "label": [0, 1, 0, 1, 0], "selected": [False, True, False, True, False]}
    write(tmp_path / "old.selection.parquet", {**columns, "rank": [3, 2, 4, 1, 5]})
    return "old.selection.parquet"


@pytest.fixture
def new(tmp_path: Path) -> str:
    """Scores of rows a to h, in another order."""
    columns = {"id": list("hgfedcba"), "label": [1, 1, 0, 0, 1, 0, 1, 0], "cg": [0.0, 9.0, 4.0, 3.0, 2.0, 5.0, 0.0, 1.0]}
    write(tmp_path / "new.scores.parquet", columns)
    return "new.scores.parquet"


def ranks(path: Path) -> dict[str, int | None]:
    table = pq.read_table(path)
    return dict(zip(table["id"].to_pylist(), table["rank"].to_pylist(), strict=True))


def kept(path: Path) -> list[str]:
    """The ids that are kept, by rank."""
    chosen = pq.read_table(path, filters=[("selected", "=", True)]).sort_by("rank")
    ids: list[str] = chosen["id"].to_pylist()
    return ids


def test_by_hand(prune: Prune, old: str, new: str, tmp_path: Path) -> None:
    done = prune("manifest", "top-up", "--no-per-class", old, "--scores", new, "--count", "4", "--json")
    table = pq.read_table(tmp_path / "old.top-up.parquet")
    # d and b as they were, though b scores lowest; then by the score g 9, c 5 | f 4, e 3, a 1, h 0.
    assert table["id"].to_pylist() == list("hgfedcba")
    assert table["rank"].to_pylist() == [8, 3, 5, 6, 1, 4, 2, 7]
    assert kept(tmp_path / "old.top-up.parquet") == ["d", "b", "g", "c"]
    out = "beyond the budget"
    assert table["reason"].to_pylist() == [out, None, out, out, None, None, None, out]
    (made,) = json.loads(done.stdout)["outputs"]
    assert made["rows_kept"] == 4 and made["rows_kept_before"] == 2
    told = read_provenance(table.schema)
    assert told is not None and told["command"] == "manifest top-up" and told["parameters"]["keep"] is True
    assert [i["name"] for i in told["inputs"]] == [new, old]
    prune("manifest", "top-up", "--no-per-class", old, "--scores", new, "--count", "4", "-o", "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "old.top-up.parquet").read_bytes()


def test_it_may_be_topped_up_again(prune: Prune, old: str, new: str, tmp_path: Path) -> None:
    more = ["-p", "order=easiest", "--selected-only"]
    prune("manifest", "top-up", "--no-per-class", old, "--scores", new, "--fraction", "0.5", *more, "-o", "half.parquet")
    assert kept(tmp_path / "half.parquet") == ["d", "b", "h", "a"]
    prune("manifest", "top-up", "--no-per-class", "half.parquet", "--scores", new, "--count", "6", "-o", "six.parquet")
    assert kept(tmp_path / "six.parquet") == ["d", "b", "h", "a", "g", "c"]
    prune("manifest", "top-up", "--no-per-class", "six.parquet", "--scores", new, "--count", "6", "-o", "same.parquet")
    assert kept(tmp_path / "same.parquet") == kept(tmp_path / "six.parquet"), "nothing to add"


def test_classes_share_what_is_added(prune: Prune, old: str, new: str, tmp_path: Path) -> None:
    prune("manifest", "top-up", "--no-per-class", old, "--scores", new, "--count", "4,6", "--per-class", "-o", "s.parquet")
    # Both that were kept are of class 1, of four rows each: the other class is caught up first, c 5 and f 4.
    assert kept(tmp_path / "s-4.parquet") == ["d", "b", "c", "f"]
    assert set(kept(tmp_path / "s-6.parquet")) == {"d", "b", "c", "f", "g", "e"}


@pytest.mark.parametrize("method", list(methods_of("selection")))
def test_what_was_kept_keeps_its_rank_whatever_the_method(prune: Prune, method: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    labels = np.arange(60) % 3
    vectors = (rng.normal(size=(60, 6)) + 3 * np.eye(6)[labels]).astype(np.float32)
    ids = [f"r{i:02d}" for i in rng.permutation(60)]
    scores = {"id": ids, "label": labels, "dual": rng.random(60), "dual_mean": rng.random(60)}
    write(tmp_path / "s.parquet", scores)
    probabilities = pa.FixedSizeListArray.from_arrays(rng.dirichlet(np.ones(3), 60).ravel(), 3)
    embedding = pa.FixedSizeListArray.from_arrays(vectors.ravel(), 6)
    write(tmp_path / "f.parquet", {"id": ids, "embedding": embedding, "prob": probabilities})
    before = [ids[i] for i in rng.permutation(40)[:10]]
    place = {row: n for n, row in enumerate(before, start=1)}
    known = ids[:40]
    columns = {"id": known, "selected": [i in place for i in known], "rank": [place.get(i) for i in known]}
    write(tmp_path / "o.parquet", columns)
    uses = methods_of("selection")[method].uses
    more = [*(["-p", "key=dual"] if "score" in uses else []), *(["--features", "f.parquet"] if "features" in uses else [])]
    arguments = ["manifest", "top-up", "--no-per-class", "o.parquet", "--scores", "s.parquet", "--method", method, "--device", "cpu", *more]
    prune(*arguments, "--count", "25", "-o", "t.parquet")
    found = kept(tmp_path / "t.parquet")
    assert len(found) == len(set(found)) == 25 and found[:10] == before
    assert [ranks(tmp_path / "t.parquet")[row] for row in found] == list(range(1, 26))
    prune(*arguments, "--count", "10", "-o", "none.parquet")
    assert kept(tmp_path / "none.parquet") == before


def test_gaps_in_ranks_are_closed_and_weights_stay(prune: Prune, new: str, tmp_path: Path) -> None:
    columns = {"id": list("fdab"), "selected": [True] * 4, "weight": [1.5, 2.0, None, 4.0]}
    write(tmp_path / "w.parquet", {**columns, "rank": pa.array([7, None, None, 3], pa.int64())})
    done = prune("manifest", "top-up", "--no-per-class", "w.parquet", "--scores", new, "--count", "5", "-o", "t.parquet")
    assert b"have gaps or are missing" in done.stderr and b"rows that are added have no weight" in done.stderr
    assert kept(tmp_path / "t.parquet") == ["b", "f", "a", "d", "g"], "those without a rank come after, by id"
    table = pq.read_table(tmp_path / "t.parquet")
    weights = dict(zip(table["id"].to_pylist(), table["weight"].to_pylist(), strict=True))
    assert weights == {"f": 1.5, "d": 2.0, "b": 4.0, **dict.fromkeys("aceegh")}


def test_it_pipes_and_plans(prune: Prune, old: str, new: str, tmp_path: Path) -> None:
    piped = (tmp_path / old).read_bytes()
    done = prune("manifest", "top-up", "--no-per-class", "-", "--scores", new, "--count", "3", "-o", "-", stdin=piped)
    (tmp_path / "t.parquet").write_bytes(done.stdout)
    assert kept(tmp_path / "t.parquet") == ["d", "b", "g"]
    plan = json.loads(prune("manifest", "top-up", "--no-per-class", old, "--scores", new, "--count", "3", "--plan", "--json").stdout)
    assert plan["command"] == "manifest top-up" and plan["plan"]["rows"] == 8
    assert not (tmp_path / "old.top-up.parquet").exists()


def test_what_cannot_be_is_refused(prune: Prune, old: str, new: str, tmp_path: Path) -> None:
    write(tmp_path / "less.parquet", {"id": list("abfgh"), "cg": [0.0] * 5})
    write(tmp_path / "gone.parquet", {"id": list("bdfgh"), "cg": [0.0, 1.0, 2.0, 3.0, 4.0]})
    write(tmp_path / "holes.parquet", {"id": list("abcde"), "cg": [1.0, None, 2.0, 3.0, 4.0]})
    write(tmp_path / "none.parquet", {"id": list("ab"), "selected": [False, False]})
    (tmp_path / "drop.txt").write_text("b\ng\n")
    before = {p.name for p in tmp_path.iterdir()}
    count = ["--count", "3"]
    for arguments, said in (
        ([old, "--scores", new], b"top-up needs a budget"),
        ([old, "--scores", new, "--count", "1"], b"the budget is 1 rows and old.selection.parquet keeps 2"),
        ([old, "--scores", new, "--count", "9"], b"the budget is 9 rows and 8 can be selected"),
        ([old, "--scores", new, "--count", "3", "--fraction", "0.5"], b"exactly one budget"),
        ([old, "--scores", "less.parquet", *count], b"1 id(s) of old.selection.parquet are not in less.parquet: d"),
        ([old, "--scores", "less.parquet", *count], b"score old and new rows together"),
        ([old, "--scores", new, *count, "--drop", "drop.txt"], b"1 id(s) are kept by old.selection.parquet and in --drop"),
        ([new, "--scores", new, *count], b"new.scores.parquet has no column 'selected'"),
        (["none.parquet", "--scores", new, *count], b"none.parquet keeps no row"),
        ([old, "--scores", "holes.parquet", *count, "--max-errors", "1"], b"1 row(s) that old.selection.parquet keeps have no"),
        (["nowhere.parquet", "--scores", new, *count], b"nowhere.parquet does not exist"),
    ):  # fmt: skip
        assert said in prune("manifest", "top-up", "--no-per-class", *arguments, check=2).stderr, arguments
        assert {p.name for p in tmp_path.iterdir()} == before
    done = prune("manifest", "top-up", "--no-per-class", old, "--scores", "gone.parquet", "--count", "3", "-o", "t.parquet")
    assert b"3 row(s) that old.selection.parquet leaves out are not in gone.parquet" in done.stderr
    assert kept(tmp_path / "t.parquet") == ["d", "b", "h"]
    assert (
        b"exists already" in prune("manifest", "top-up", "--no-per-class", old, "--scores", new, *count, "-o", "t.parquet", check=2).stderr
    )


def test_numbers_and_texts_as_ids_meet(prune: Prune, tmp_path: Path) -> None:
    write(tmp_path / "o.parquet", {"id": ["2", "x"], "selected": [True, False], "rank": [1, 2]})
    write(tmp_path / "s.parquet", {"id": [1, 2, 3], "cg": [1.0, 2.0, 3.0]})
    done = prune("manifest", "top-up", "--no-per-class", "o.parquet", "--scores", "s.parquet", "--count", "2", "-o", "t.parquet")
    assert kept(tmp_path / "t.parquet") == [2, 3] and b"1 row(s) that o.parquet leaves out" in done.stderr
