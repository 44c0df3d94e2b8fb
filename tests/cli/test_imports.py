"""prune manifest import: what other tools wrote, and what we wrote for them, comes back."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import write

from prune_cli.io.parquet.provenance import read_provenance

Prune = Any

LAB = """,is_label_issue,label_score,given_label,predicted_label
0,False,0.9,cat,cat
1,True,0.05,dog,cat
2,False,0.5,cat,cat
3,False,,dog,dog
"""
"""As cleanlab's Datalab.get_issues("label").to_csv writes it: an index without a name, class names."""

CLEAN_LEARNING = """is_label_issue,label_quality,given_label,predicted_label
False,0.9,0,0
True,0.05,1,0
False,0.5,0,0
False,0.25,1,1
"""
"""As CleanLearning.get_label_issues().to_csv(index=False) writes it."""


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Four rows of the classes cat and dog; ids in no order."""
    columns = {"id": ["d", "a", "c", "b"], "label": [0, 1, 0, 1], "embedding": [[1.0]] * 4}
    write(tmp_path / "data.parquet", columns, {"class_names": '["cat","dog"]'})
    return "data.parquet"


def told(path: Path) -> dict[str, Any]:
    found = read_provenance(pq.read_schema(path))
    assert found is not None
    return found


def test_scores_of_datalab(prune: Prune, data: str, tmp_path: Path) -> None:
    (tmp_path / "issues.csv").write_text(LAB)
    done = prune("manifest", "import", "issues.csv", "--from", "cleanlab", "--data", data)
    assert done.stdout == b"issues.scores.parquet\n"
    table = pq.read_table(tmp_path / "issues.scores.parquet")
    assert table.to_pydict() == {"id": ["d", "a", "c", "b"], "label": [0, 1, 0, 1], "label_score": [0.9, 0.05, 0.5, None]}
    assert b"1 of 4 scores are missing, NaN or infinite" in done.stderr
    assert told(tmp_path / "issues.scores.parquet")["score_direction"] == {"label_score": "easier"}
    assert [i["name"] for i in told(tmp_path / "issues.scores.parquet")["inputs"]] == ["issues.csv", data]
    prune("select", "issues.scores.parquet", "--method", "top", "--count", "1", "--max-errors", "1", "-o", "hard.parquet")
    kept = pq.read_table(tmp_path / "hard.parquet", filters=[("selected", "=", True)])
    assert kept["id"].to_pylist() == ["a"], "the lowest score is the most suspicious label, and that is hard"


def test_a_sorted_file_goes_by_its_index_or_its_ids(prune: Prune, data: str, tmp_path: Path) -> None:
    head, *lines = LAB.splitlines()
    prune_it = ["manifest", "import", "i.csv", "--from", "cleanlab", "--data", data, "--force", "-o", "i.parquet"]
    wanted = [0.9, 0.05, 0.5, None]
    (tmp_path / "i.csv").write_text("\n".join([head, *sorted(lines, key=lambda line: line.split(",")[2])]))
    prune(*prune_it)
    assert pq.read_table(tmp_path / "i.parquet")["label_score"].to_pylist() == wanted
    (tmp_path / "i.csv").write_text("\n".join([f"Unnamed: 0{head}", *lines[::-1]]))
    prune(*prune_it)
    assert pq.read_table(tmp_path / "i.parquet")["label_score"].to_pylist() == wanted
    named = [line.replace(line[0], row, 1) for line, row in zip(lines, "dacb", strict=True)]
    for name in ("id", ""):
        (tmp_path / "i.csv").write_text("\n".join([f"{name}{head}", *named[::-1]]))
        prune(*prune_it)
        assert pq.read_table(tmp_path / "i.parquet")["label_score"].to_pylist() == wanted


def test_the_older_column_and_the_issues_as_a_selection(prune: Prune, data: str, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text(CLEAN_LEARNING)
    arguments = ["manifest", "import", "old.csv", "--from", "cleanlab", "--data", data]
    prune(*arguments, "--column", "quality", "-o", "s.parquet")
    assert pq.read_table(tmp_path / "s.parquet")["quality"].to_pylist() == [0.9, 0.05, 0.5, 0.25]
    assert told(tmp_path / "s.parquet")["score_direction"] == {"quality": "easier"}
    assert prune(*arguments, "--selection").stdout == b"old.selection.parquet\n"
    assert pq.read_table(tmp_path / "old.selection.parquet").to_pydict() == {
        "id": ["d", "a", "c", "b"],
        "label": [0, 1, 0, 1],
        "selected": [True, False, True, True],
        "rank": [None] * 4,
        "reason": [None, "a label issue", None, None],
    }


def test_labels_tell_whether_the_rows_are_the_same(prune: Prune, data: str, tmp_path: Path) -> None:
    arguments = ["manifest", "import", "i.csv", "--from", "cleanlab", "--data", data, "-o", "i.parquet"]
    (tmp_path / "i.csv").write_text(LAB.replace("1,True,0.05,dog", "1,True,0.05,cat"))
    failed = prune(*arguments, check=2).stderr
    assert b"1 label(s) of i.csv are not those of data.parquet, such as that of 'a': 'cat', there '1'" in failed
    (tmp_path / "i.csv").write_text(LAB.replace("dog", "1.0").replace("cat", "0.0"))
    assert b"classes" not in prune(*arguments).stderr, "numbers, as pandas writes them beside gaps, are the classes' values"
    (tmp_path / "i.csv").write_text(LAB.replace("dog", "hound"))
    assert b"'hound', are no classes of data.parquet" in prune(*arguments, "--force").stderr


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, np.uint64, ">i4"])
def test_positions_as_deepcore_saves_them(prune: Prune, data: str, kind: Any, tmp_path: Path) -> None:
    # DeepCore begins with an empty int64 array and appends the positions of each class to it.
    chosen = np.append(np.append(np.array([], dtype=np.int64), [3]), [0]).astype(kind)
    np.save(tmp_path / "coreset.npy", chosen)
    done = prune("manifest", "import", "coreset.npy", "--from", "indices", "--data", data)
    assert done.stdout == b"coreset.selection.parquet\n"
    assert pq.read_table(tmp_path / "coreset.selection.parquet").to_pydict() == {
        "id": ["d", "a", "c", "b"],
        "label": [0, 1, 0, 1],
        "selected": [True, False, False, True],
        "rank": [2, None, None, 1],
        "reason": [None, "not in coreset.npy", "not in coreset.npy", None],
    }
    prune("manifest", "import", "coreset.npy", "--from", "indices", "--data", data, "--unordered", "-o", "u.parquet")
    assert pq.read_table(tmp_path / "u.parquet")["rank"].to_pylist() == [None] * 4


def test_positions_are_those_of_the_split(prune: Prune, tmp_path: Path) -> None:
    columns = {"id": list("abcd"), "label": [0, 1, 0, 1], "split": ["test", "train", "test", "train"]}
    write(tmp_path / "s.parquet", columns)
    np.save(tmp_path / "p.npy", np.array([1]))
    arguments = ["manifest", "import", "p.npy", "--from", "indices", "--data", "s.parquet"]
    prune(*arguments, "--split", "train", "-o", "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    assert table["id"].to_pylist() == ["b", "d"] and table["selected"].to_pylist() == [False, True]


def test_scores_of_numpy(prune: Prune, data: str, tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.array([0.5, np.nan, -1.0, np.inf], np.float32))
    arguments = ["manifest", "import", "s.npy", "--from", "scores"]
    done = prune(*arguments, "--data", data, "--column", "el2n", "--json")
    table = pq.read_table(tmp_path / "s.scores.parquet")
    assert table.to_pydict() == {"id": ["d", "a", "c", "b"], "label": [0, 1, 0, 1], "el2n": [0.5, None, -1.0, None]}
    assert str(table.schema.field("el2n").type) == "double"
    assert b"2 of 4 scores are missing, NaN or infinite" in done.stderr and json.loads(done.stdout)["null_scores"] == 2
    assert told(tmp_path / "s.scores.parquet")["score_direction"] == {"el2n": "harder"}
    prune(*arguments, "--data", data, "--column", "mine", "--direction", "mine=easier", "-o", "m.parquet")
    assert told(tmp_path / "m.parquet")["score_direction"] == {"mine": "easier"}


@pytest.mark.parametrize("kind", ["text", "strings", "bytes"])
def test_ids_say_whose_scores_they_are(prune: Prune, data: str, kind: str, tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.arange(4.0))
    ids = "abcd"
    name = "ids.txt" if kind == "text" else "ids.npy"
    if kind == "text":
        (tmp_path / name).write_bytes(b"a\r\nb\r\nc\nd")
    else:
        np.save(tmp_path / name, np.array(list(ids), "S" if kind == "bytes" else "U"))
    arguments = ["manifest", "import", "s.npy", "--from", "scores", "--column", "cg", "--ids", name]
    prune(*arguments, "-o", "alone.parquet")
    assert pq.read_table(tmp_path / "alone.parquet").to_pydict() == {"id": list(ids), "cg": [0.0, 1.0, 2.0, 3.0]}
    prune(*arguments, "--data", data, "-o", "both.parquet")
    found = pq.read_table(tmp_path / "both.parquet")
    assert found["id"].to_pylist() == ["d", "a", "c", "b"] and found["cg"].to_pylist() == [3.0, 0.0, 2.0, 1.0]
    assert [i["name"] for i in told(tmp_path / "both.parquet")["inputs"]] == ["s.npy", name, data]


def test_whole_numbers_as_ids(prune: Prune, tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.array([1, 2], np.int16))
    np.save(tmp_path / "ids.npy", np.array([7, 5], np.uint32))
    arguments = ["manifest", "import", "s.npy", "--from", "scores", "--column", "forgetting"]
    prune(*arguments, "--ids", "ids.npy", "-o", "n.parquet")
    assert pq.read_table(tmp_path / "n.parquet").to_pydict() == {"id": [7, 5], "forgetting": [1.0, 2.0]}


def selected(path: Path) -> set[Any]:
    return set(pq.read_table(path, filters=[("selected", "=", True)])["id"].to_pylist())


@pytest.mark.parametrize("target", ["ids", "csv", "uids"])
def test_what_was_exported_comes_back(prune: Prune, target: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    uids = [rng.bytes(16).hex() for _ in range(40)]
    strange = [" a", "0007", "b,\"c'", "\u2028x", "1e3", "null"] if target != "uids" else uids[:6]
    ids = strange + uids[6:]
    write(tmp_path / "d.parquet", {"id": ids, "label": ["x", "y"] * 20, "embedding": [[1.0]] * 40})
    kept = [ids[i] for i in rng.permutation(40)[:10]] + strange
    columns = {"id": ids, "selected": [i in kept for i in ids], "weight": [0.5 * n for n in range(40)]}
    write(tmp_path / "s.parquet", columns)
    prune("manifest", "export", "s.parquet", "--data", "d.parquet", "--to", target, "-o", "out")
    (tmp_path / "out").rename(tmp_path / "kept.file")
    done = prune("manifest", "import", "kept.file", "--from", target, "--data", "d.parquet", "-o", "back.parquet")
    assert selected(tmp_path / "back.parquet") == set(kept) and done.stdout == b"back.parquet\n"
    back = pq.read_table(tmp_path / "back.parquet")
    assert back["id"].to_pylist() == ids and back["label"].to_pylist() == ["x", "y"] * 20
    if target == "csv":
        wanted = [w if i in kept else None for i, w in zip(ids, columns["weight"], strict=True)]
        assert back["weight"].to_pylist() == wanted
    ranks = [r for r in back["rank"].to_pylist() if r is not None]
    assert ranks == ([] if target == "uids" else list(range(1, len(set(kept)) + 1))), "the order of the data, or none"


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("open('owned', 'w').close()",))


def test_no_object_is_ever_loaded(prune: Prune, data: str, tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([Evil(), Evil()], object), allow_pickle=True)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Evil()))
    np.savez(tmp_path / "z.npy", np.arange(3))
    (tmp_path / "z.npy.npz").rename(tmp_path / "z.npy")
    for origin, more in (("indices", []), ("uids", []), ("scores", ["--column", "cg"])):
        arguments = ["--from", origin, "--data", data, *more]
        assert b"o.npy holds Python objects" in prune("manifest", "import", "o.npy", *arguments, check=2).stderr
        assert b"p.npy is no array of numpy.save" in prune("manifest", "import", "p.npy", *arguments, check=2).stderr
        assert b"z.npy is no array of numpy.save" in prune("manifest", "import", "z.npy", *arguments, check=2).stderr
    np.save(tmp_path / "s.npy", np.arange(2.0))
    arguments = ["manifest", "import", "s.npy", "--from", "scores", "--column", "cg", "--ids", "o.npy"]
    assert b"o.npy holds Python objects" in prune(*arguments, check=2).stderr
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([0, 4, 5]), b"2 position(s) of p.npy are not in data.parquet, which has 4 rows, such as 4 in place 1"),
        (np.array([0, -1]), b"such as -1 in place 1"),
        (np.array([2**64 - 1], np.uint64), b"such as 18446744073709551615"),
        (np.array([1, 3, 1]), b"1 position(s) of p.npy stand more than once, such as 1"),
        (np.array([0.0, 1.0]), b"holds float64, and positions are whole numbers"),
        (np.array([True, False, True, False]), b"np.flatnonzero"),
        (np.array(["0", "1"]), b"positions are whole numbers"),
        (np.array([[0, 1]]), b"has the shape (1, 2)"),
        (np.array(3), b"has the shape ()"),
        (np.array([], np.int64), b"has no positions"),
    ],
)
def test_positions_that_cannot_be(prune: Prune, data: str, array: np.ndarray, said: bytes, tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", array)
    assert said in prune("manifest", "import", "p.npy", "--from", "indices", "--data", data, check=2).stderr
    assert not (tmp_path / "p.selection.parquet").exists()


def test_a_file_that_is_cut_short_or_says_more_than_it_has(prune: Prune, data: str, tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.arange(4))
    arguments = ["manifest", "import", "p.npy", "--from", "indices", "--data", data]
    whole = (tmp_path / "p.npy").read_bytes()
    (tmp_path / "p.npy").write_bytes(whole[:-3])
    assert b"p.npy is cut short: 29 bytes of 4 positions, 32 wanted" in prune(*arguments, check=2).stderr
    (tmp_path / "p.npy").write_bytes(whole.replace(b"'shape': (4,), }", b"'shape': (10**9,), }"))
    assert b"is no array of numpy.save" in prune(*arguments, check=2).stderr
    (tmp_path / "p.npy").write_bytes(whole.replace(b"(4,), }         ", b"(4000000000,), }"))
    assert b"cut short: 32 bytes of 4,000,000,000 positions" in prune(*arguments, check=2).stderr
    (tmp_path / "p.npy").write_bytes(whole[:20])
    assert b"is no array of numpy.save" in prune(*arguments, check=2).stderr
    (tmp_path / "p.npy").write_bytes(b"")
    assert b"is no array of numpy.save" in prune(*arguments, check=2).stderr


def test_what_cannot_be_is_refused(prune: Prune, data: str, tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.arange(3.0))
    np.save(tmp_path / "four.npy", np.arange(4.0))
    np.save(tmp_path / "c.npy", np.zeros(4, complex))
    np.save(tmp_path / "u.npy", np.array([(0, 1)], "u8,u8"))
    np.save(tmp_path / "times.npy", np.array(["2020-01-01"], "M8[D]"))
    np.save(tmp_path / "latin.npy", np.array([b"\xff", b"a", b"b", b"c"]))
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    (tmp_path / "twice.txt").write_text("a\nb\na\nd\n")
    (tmp_path / "others.txt").write_text("a\nb\nc\nzz\n")
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "lab.csv").write_text(LAB)
    (tmp_path / "short.csv").write_text("\n".join(LAB.splitlines()[:3]))
    (tmp_path / "twice.csv").write_text(LAB.replace("3,False", "2,False"))
    (tmp_path / "far.csv").write_text(LAB.replace("3,False", "9,False"))
    (tmp_path / "ragged.csv").write_text(LAB + "4,False\n")
    (tmp_path / "word.csv").write_text(LAB.replace("0.5", "high"))
    (tmp_path / "maybe.csv").write_text(LAB.replace("1,True", "1,maybe"))
    (tmp_path / "head.csv").write_text("id,id\n1,1\n")
    (tmp_path / "none.csv").write_text("id,label_score\n")
    (tmp_path / "bare.csv").write_text("")
    (tmp_path / "plain.csv").write_text("a,b\n1,2\n")
    (tmp_path / "kept.csv").write_text("id,label\na,1\na,1\n")
    before = {p.name for p in tmp_path.iterdir()}
    here, scores = ["--data", data], ["--from", "scores", "--column", "cg"]
    lab = ["--from", "cleanlab", *here]
    for arguments, said in (
        (["s.npy", *scores, *here], b"s.npy has 3 scores and data.parquet has 4 rows"),
        (["s.npy", *scores, "--ids", "others.txt"], b"s.npy has 3 scores and others.txt has 4 rows"),
        (["four.npy", *scores, *here, "--ids", "three.txt"], b"three.txt has 3 ids and data.parquet has 4 rows"),
        (["four.npy", *scores, *here, "--ids", "others.txt"], b"1 id(s) of others.txt are not in data.parquet: zz"),
        (["four.npy", *scores, "--ids", "twice.txt"], b"twice.txt: 1 id(s) stand more than once: a"),
        (["four.npy", *scores, "--ids", "empty.txt"], b"empty.txt has no ids"),
        (["four.npy", *scores, "--ids", "bytes.txt"], b"bytes.txt is not text"),
        (["four.npy", *scores, "--ids", "nowhere.txt"], b"nowhere.txt cannot be read"),
        (["four.npy", *scores, "--ids", "four.npy"], b"four.npy holds float64, and ids are strings"),
        (["four.npy", *scores, "--ids", "latin.npy"], b"bytes that are not UTF-8"),
        (["c.npy", *scores, *here], b"holds complex128, and scores are numbers"),
        (["times.npy", *scores, *here], b"and scores are numbers"),
        (["four.npy", *scores], b"needs to know the rows"),
        (["four.npy", "--from", "scores", *here], b"does not say what its scores are"),
        (["four.npy", "--from", "scores", *here, "--column", "mine"], b"--direction mine=harder"),
        (["four.npy", "--from", "scores", *here, "--column", "rank"], b"the name of another column"),
        (["four.npy", *scores, *here, "--direction", "el2n=harder"], b"--direction names 'el2n', and the column is 'cg'"),
        (["four.npy", *scores, *here, "--selection"], b"--selection has no meaning with --from scores"),
        (["four.npy", "--from", "indices", *here, "--column", "x"], b"--column has no meaning with --from indices"),
        (["four.npy", "--from", "pickle", *here], b"unknown --from 'pickle'"),
        (["nowhere.npy", *scores, *here], b"nowhere.npy is no file"),
        (["u.npy", "--from", "indices", *here], b"positions are whole numbers"),
        (["u.npy", "--from", "uids", *here], b"1 id(s) of u.npy are not in data.parquet: 00000000000000000000000000000001"),
        (["four.npy", "--from", "uids", *here], b"four.npy holds float64, and DataComp's uids are"),
        (["others.txt", "--from", "ids", *here], b"1 id(s) of others.txt are not in data.parquet: zz"),
        (["twice.txt", "--from", "ids", *here], b"stand more than once"),
        (["four.npy", "--from", "ids", *here], b"four.npy is not text"),
        (["short.csv", *lab], b"short.csv has 2 rows and data.parquet has 4 rows"),
        (["twice.csv", *lab], b"1 position(s) of twice.csv stand more than once, such as 2"),
        (["far.csv", *lab], b"such as 9 in place 3"),
        (["ragged.csv", *lab], b"ragged.csv is not sound CSV"),
        (["word.csv", *lab], b"column 'label_score' has 'high' in row 2, which is no number"),
        (["maybe.csv", *lab, "--selection"], b"column 'is_label_issue' has 'maybe' in row 1"),
        (["lab.csv", *lab, "--selection", "--column", "x"], b"--selection writes none"),
        (["head.csv", *lab], b"head.csv has the column 'id' twice"),
        (["none.csv", *lab], b"none.csv has no rows"),
        (["bare.csv", *lab], b"no column 'label_score' or 'label_quality'; it has none"),
        (["plain.csv", *lab], b"plain.csv has no column 'label_score' or 'label_quality'; it has a, b"),
        (["bytes.txt", *lab], b"bytes.txt is not CSV"),
        (["plain.csv", "--from", "csv", *here], b"plain.csv has no column 'id'"),
        (["kept.csv", "--from", "csv", *here], b"1 id(s) of kept.csv stand more than once, such as a"),
        (["lab.csv", "--from", "cleanlab", "--data", "nowhere.parquet"], b"nowhere.parquet does not exist"),
    ):
        assert said in prune("manifest", "import", *arguments, check=2).stderr, arguments
        assert {p.name for p in tmp_path.iterdir()} == before
    prune("manifest", "import", "lab.csv", *lab, "-o", "l.parquet")
    assert b"exists already" in prune("manifest", "import", "lab.csv", *lab, "-o", "l.parquet", check=2).stderr


def test_it_pipes_plans_and_repeats(prune: Prune, data: str, tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.array([2, 0]))
    arguments = ["manifest", "import", "p.npy", "--from", "indices", "--data", data]
    plan = json.loads(prune(*arguments, "--plan", "--json").stdout)["plan"]
    assert plan["rows"] == 4 and not (tmp_path / "p.selection.parquet").exists()
    prune(*arguments)
    piped = prune(*arguments, "-o", "-").stdout
    assert piped == (tmp_path / "p.selection.parquet").read_bytes()
    exported = prune("manifest", "export", "-", "--data", data, "--to", "ids", "-o", "-", stdin=piped).stdout
    assert exported == b"d\nc\n"


def test_ids_that_are_made_up_are_told(prune: Prune, tmp_path: Path) -> None:
    write(tmp_path / "d.parquet", {"label": pa.array([0, 1])})
    np.save(tmp_path / "p.npy", np.array([1]))
    done = prune("manifest", "import", "p.npy", "--from", "indices", "--data", "d.parquet", "-o", "p.parquet")
    assert b"ids are the positions" in done.stderr
    assert pq.read_table(tmp_path / "p.parquet")["id"].to_pylist() == ["row-00000000", "row-00000001"]
