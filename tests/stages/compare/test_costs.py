"""What selecting cost, from what the commands said of themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from making import write

from prune_cli.core.errors import InputError
from prune_cli.stages.compare.costs import cost_of, read_costs


def said(folder: Path, name: str, **figures: object) -> str:
    path = folder / name
    path.write_text(json.dumps(figures) + "\n")
    return str(path)


def test_scoring_and_selecting_add_up_and_count_once(tmp_path: Path) -> None:
    score = said(tmp_path, "a.json", command="score", output="x/s.parquet", features="f.parquet", seconds=60.0, flops=1e12)
    select = said(tmp_path, "b.json", command="select", outputs=[{"output": "kept.parquet"}, {"output": "k2.parquet"}], seconds=2)
    spent = read_costs([score, select])
    cost, counted = cost_of(["kept.parquet", "s.parquet", "f.parquet"], [], spent, None)
    assert cost is not None and counted == {0, 1}
    assert (cost.score_seconds, cost.score_flops, cost.select_seconds) == (60.0, 1e12, 2.0)


def test_two_lines_of_one_file_and_an_unknown_work(tmp_path: Path) -> None:
    both = tmp_path / "both.json"
    lines = [
        {"command": "score", "output": "a.parquet", "seconds": 1, "flops": 5.0},
        {"command": "score", "output": "b.parquet", "seconds": 2},
    ]
    both.write_text("".join(json.dumps(line) + "\n\n" for line in lines))
    cost, _ = cost_of(["a.parquet", "b.parquet"], [], read_costs([str(both)]), 0.5)
    assert cost is not None
    assert (cost.score_seconds, cost.score_flops, cost.select_seconds) == (3.0, None, 0.5)


def test_scores_that_were_joined_and_not_gone_by_do_not_count(tmp_path: Path) -> None:
    for name in ("cg", "el2n"):
        write(tmp_path / f"{name}.parquet", {"id": ["a"], name: [1.0]})
    files = [
        said(tmp_path, f"{name}.json", command="score", output=str(tmp_path / f"{name}.parquet"), seconds=seconds)
        for name, seconds in (("cg", 10), ("el2n", 100))
    ]
    spent = read_costs(files)
    cost, counted = cost_of(["cg.parquet", "el2n.parquet"], ["cg"], spent, 0.0)
    assert cost is not None and (cost.score_seconds, counted) == (10.0, {0})
    both, _ = cost_of(["cg.parquet", "el2n.parquet"], ["cg", "el2n"], spent, 0.0)
    assert both is not None and both.score_seconds == 110.0


def test_files_beside_the_costs_are_looked_at_where_paths_lead_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "el2n.parquet", {"id": ["a"], "el2n": [1.0]})
    spent = read_costs([said(tmp_path, "c.json", command="score", output="elsewhere/el2n.parquet", seconds=1)])
    assert cost_of(["el2n.parquet"], ["cg"], spent, 0.0) == (None, set())
    assert cost_of(["el2n.parquet"], ["el2n"], spent, 0.0)[1] == {0}


def test_a_training_before_the_scoring_counts_too(tmp_path: Path) -> None:
    stated = {"prune": json.dumps({"inputs": [{"name": "run/model.safetensors", "sha256": ""}]})}
    write(tmp_path / "s.parquet", {"id": ["a"], "loss": [1.0]}, stated)
    train = said(tmp_path, "t.json", command="train", output="out/run", seconds=30, flops=1000, samples=50)
    score = said(tmp_path, "s.json", command="score", output=str(tmp_path / "s.parquet"), seconds=4, flops=7.0)
    cost, counted = cost_of(["s.parquet"], ["loss"], read_costs([train, score]), 1.0)
    assert cost is not None and counted == {0, 1}
    assert cost.score_seconds == 34.0
    assert cost.score_flops == 3 * 1000 * 50 + 7.0


def test_nothing_known_is_not_nothing_spent(tmp_path: Path) -> None:
    spent = read_costs([said(tmp_path, "a.json", command="score", output="other.parquet", seconds=1)])
    assert cost_of(["s.parquet"], [], spent, 0.5) == (None, set())


@pytest.mark.parametrize("text", ["not json", "[]", '{"command": "score"}', '{"seconds": 1}', '{"seconds": "x", "command": "y"}'])
def test_other_files_are_refused_by_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.json"
    path.write_text("\n" + text)
    with pytest.raises(InputError, match=r"c.json, line 2 is not what a command printed"):
        read_costs([str(path)])


def test_a_file_that_is_not_there_or_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_costs([str(tmp_path / "no.json")])
    (tmp_path / "e.json").touch()
    with pytest.raises(InputError, match="is empty"):
        read_costs([str(tmp_path / "e.json")])


def test_an_empty_file_is_named_after_a_full_one_as_well(tmp_path: Path) -> None:
    full = said(tmp_path, "c.json", command="score", output="el2n.parquet", seconds=1)
    (tmp_path / "e.json").touch()
    with pytest.raises(InputError, match=r"e\.json is empty"):
        read_costs([full, str(tmp_path / "e.json")])
