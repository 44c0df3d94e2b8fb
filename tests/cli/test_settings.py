"""A settings file and the environment: who goes over whom, and that nothing misspelt is silently without effect."""

from __future__ import annotations

import itertools
import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

Prune = Any


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PRUNE_"):
            monkeypatch.delenv(name)


def seed_used(folder: Path, name: str = "s.parquet") -> int:
    stored = pq.read_schema(folder / name).metadata[b"prune"]
    return int(json.loads(stored)["seed"])


@pytest.fixture
def scores(prune: Prune, vectors: Path) -> Path:
    prune("score", vectors, "-o", "scores.parquet")
    return vectors.parent / "scores.parquet"


def kept(folder: Path) -> int:
    return sum(pq.read_table(folder / "k.parquet")["selected"].to_pylist())


# flag, variable of the command, variable of all, table of the command, [defaults]: each goes over those after it
PLACES = ("flag", "PRUNE_SCORE_SEED", "PRUNE_SEED", "score", "defaults")


@pytest.mark.parametrize(("high", "low"), list(itertools.combinations(PLACES, 2)))
def test_the_nearer_goes_over_the_farther(
    prune: Prune, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, high: str, low: str
) -> None:
    given = {low: 7, high: 11}
    (tmp_path / "c.toml").write_text("".join(f"[{name}]\nseed = {given[name]}\n" for name in ("score", "defaults") if name in given))
    for name in ("PRUNE_SCORE_SEED", "PRUNE_SEED"):
        if name in given:
            monkeypatch.setenv(name, str(given[name]))
    flags = ["--seed", given["flag"]] if "flag" in given else []
    prune("--config", "c.toml", "score", vectors, "-o", "s.parquet", *flags)
    assert seed_used(tmp_path) == 11


@pytest.mark.parametrize("place", PLACES)
def test_each_goes_over_the_default(prune: Prune, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    if place.startswith("PRUNE_"):
        monkeypatch.setenv(place, "7")
    text = f"[{place}]\nseed = 7\n" if place in {"score", "defaults"} else ""
    (tmp_path / "c.toml").write_text(text)
    monkeypatch.setenv("PRUNE_CONFIG", "c.toml")
    prune("score", vectors, "-o", "s.parquet", *(["--seed", "7"] if place == "flag" else []))
    assert seed_used(tmp_path) == 7


def test_a_file_and_flags_give_the_same_bytes(prune: Prune, vectors: Path, scores: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        '[defaults]\nseed = 5\ndevice = "cpu"\nmemory-limit = "1GiB"\n'
        '[score]\nmethod = ["cg", "ntk_margin"]\nparam = ["cg.repeats=2", "ntk_margin.ridge=0.1"]\n'
        '[select]\nmethod = "top"\nparam = ["key=cg"]\nfraction = 0.5\nper_class = true\n'
        '[manifest.export]\ndata = "vectors.parquet"\nto = "csv"\n'
    )
    config = ("--config", "c.toml")
    flags = ["--seed", "5", "--device", "cpu", "--memory-limit", "1GiB"]
    prune(*config, "score", vectors, "-o", "a.parquet")
    more = ["-p", "cg.repeats=2", "-p", "ntk_margin.ridge=0.1"]
    prune("score", vectors, "-o", "b.parquet", "--method", "cg,ntk_margin", *more, *flags)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    prune(*config, "select", "a.parquet", "-o", "a.kept.parquet")
    more = ["--method", "top", "-p", "key=cg", "--fraction", "0.5", "--per-class"]
    prune("select", "a.parquet", "-o", "b.kept.parquet", *more, *flags)
    assert (tmp_path / "a.kept.parquet").read_bytes() == (tmp_path / "b.kept.parquet").read_bytes()
    prune(*config, "manifest", "export", "a.kept.parquet", "-o", "a.csv")
    prune("manifest", "export", "a.kept.parquet", "-o", "b.csv", "--data", "vectors.parquet", "--to", "csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_budget_that_is_nearer_stands_alone(prune: Prune, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fraction 0.5 of 60 rows is 30; the other budgets say 10 and 12."""
    (tmp_path / "c.toml").write_text('[select]\nmethod = "top"\nfraction = 0.5\n')
    command = ["--config", "c.toml", "select", scores, "-o", "k.parquet", "--force"]
    prune(*command)
    assert kept(tmp_path) == 30
    prune(*command, "--count", 10)
    assert kept(tmp_path) == 10
    monkeypatch.setenv("PRUNE_SELECT_COUNT", "12")
    prune(*command)
    assert kept(tmp_path) == 12
    prune(*command, "--fraction", "0.1")
    assert kept(tmp_path) == 6
    monkeypatch.delenv("PRUNE_SELECT_COUNT")
    (tmp_path / "c.toml").write_text('[select]\nmethod = "top"\nfraction = 0.5\ncount = 10\n')
    assert b"exactly one" in prune(*command, check=2).stderr.lower()


def test_steps_on_the_command_line_go_over_epochs_of_the_file(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[train]\nepochs = 3\n")
    command = ["--config", "c.toml", "train", vectors, "--plan", "--json", "-q"]
    assert json.loads(prune(*command).stdout)["plan"]["passes_over_data"] == 3
    assert json.loads(prune(*command, "--steps", 1).stdout)["plan"]["steps"] == 1


def test_flags_of_the_file_are_undone(prune: Prune, scores: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "c.toml").write_text('[select]\nmethod = "top"\nfraction = 0.5\nselected-only = true\nforce = true\n')

    def rows(*flags: str) -> int:
        prune("--config", "c.toml", "select", scores, "-o", "k.parquet", *flags)
        return pq.read_metadata(tmp_path / "k.parquet").num_rows  # type: ignore[no-any-return]

    assert rows() == 30
    assert rows("--no-selected-only") == 60
    monkeypatch.setenv("PRUNE_SELECT_SELECTED_ONLY", "false")
    assert rows() == 60
    assert rows("--selected-only") == 30
    assert b"exists already" in prune(
        "--config", "c.toml", "select", scores, "-o", "k.parquet", "--no-force", check=2
    ).stderr  # fmt: skip


def test_lists_replace_one_another(prune: Prune, vectors: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "c.toml").write_text('[score]\nparam = ["repeats=2", "ratio=2.0"]\nforce = true\n')

    def stated(*flags: str) -> tuple[int, float]:
        prune("--config", "c.toml", "score", vectors, "-o", "s.parquet", *flags)
        found = json.loads(pq.read_schema(tmp_path / "s.parquet").metadata[b"prune"])["parameters"]["cg"]
        return found["repeats"], found["ratio"]

    assert stated() == (2, 2.0)
    assert stated("-p", "repeats=3") == (3, 1.0)
    monkeypatch.setenv("PRUNE_SCORE_PARAM", "repeats=4 ratio=3.0")
    assert stated() == (4, 3.0)


def test_arguments_and_required_options_may_come_from_the_file(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        '[score]\ndata = "vectors.parquet"\n[manifest.merge]\nfiles = ["s.parquet", "t.parquet"]\noutput = "m.parquet"\n'
    )
    prune("--config", "c.toml", "score", "-o", "s.parquet")
    prune("--config", "c.toml", "score", "-o", "t.parquet", "--method", "ntk_margin")
    assert prune("--config", "c.toml", "manifest", "merge").stdout == b"m.parquet\n"
    assert b"--data" in prune("manifest", "export", "s.parquet", "--to", "ids", check=2).stderr


BAD = (
    ("seed = 1\n", "the key 'seed' is not known: options stand in the table of a command"),
    ("[scores]\nseed = 1\n", "the table 'scores' is not known: is 'score' meant?"),
    ("[manifest]\nforce = true\n", "the key 'manifest.force' is not known"),
    ("[manifest.exprot]\nforce = true\n", "'manifest.exprot' is not known: is 'manifest.export' meant?"),
    ("[score]\nmetod = 'cg'\n", "[score] has no option 'metod': is 'method' meant?"),
    ("[score]\nlist-methods = true\n", "[score] has no option 'list-methods'"),
    ("[defaults]\ndevise = 'cpu'\n", "[defaults] has no option 'devise': is 'device' meant?"),
    ("[defaults]\nfraction = 0.3\n", "[defaults] has no option 'fraction'"),
    ("score = 3\n", "score is a whole number, and a table is wanted"),
    ("[score]\nmemory-limit = '1GB'\nmemory_limit = '2GB'\n", "'memory_limit' twice, under two spellings"),
    ("[score]\nseed = 'one'\n", "[score] seed = 'one' is text, and a whole number is wanted"),
    ("[score]\nseed = true\n", "[score] seed = true is true or false, and a whole number is wanted"),
    ("[score]\nseed = 1.0\n", "[score] seed = 1.0 is a number, and a whole number is wanted"),
    ("[defaults]\nseed = [1]\n", "[defaults] seed = [1] is a list, and a whole number is wanted"),
    ("[score]\nforce = 1\n", "[score] force = 1 is a whole number, and true or false is wanted"),
    ("[score]\npreset = true\n", "[score] preset = true is true or false, and text is wanted"),
    ("[score]\nparam = 'repeats=2'\n", "[score] param = 'repeats=2' is text, and a list of texts is wanted"),
    ("[score]\nparam = [true]\n", "[score] param = [True] is a list, and a list of texts is wanted"),
    ("[score]\npreset = ['a']\n", "[score] preset = ['a'] is a list, and text is wanted"),
    ("[score]\ncheckpoint-seconds = '60'\n", "= '60' is text, and a number is wanted"),
    ("[score]\nseed = 2026-01-01\n", "is a date, and a whole number is wanted"),
    ("[score]\nseed =\n", "c.toml is not TOML: Invalid value (at line 2"),
)


@pytest.mark.parametrize(("text", "said"), BAD)
def test_what_is_wrong_in_a_file_is_said(prune: Prune, vectors: Path, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    failed = prune("--config", "c.toml", "score", vectors, "-o", "s.parquet", check=2)
    assert said in failed.stderr.decode() and b"c.toml" in failed.stderr and b"cure: " in failed.stderr
    assert not (tmp_path / "s.parquet").exists()


def test_a_file_that_is_not_there_or_no_text(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    assert b"--config none.toml cannot be read: No such file" in prune(
        "--config", "none.toml", "score", vectors, check=2
    ).stderr  # fmt: skip
    assert b"cannot be read: Is a directory" in prune("--config", tmp_path, "score", vectors, check=2).stderr
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe")
    assert b"it is not UTF-8 text" in prune("--config", "c.toml", "score", vectors, check=2).stderr


def test_values_are_held_to_the_same_rules_and_their_origin_is_named(prune: Prune, vectors: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "c.toml").write_text("[defaults]\nseed = -1\n")
    failed = prune("--config", "c.toml", "score", vectors, check=2).stderr
    assert b"'--seed'" in failed and b"(from c.toml)" in failed
    monkeypatch.setenv("PRUNE_SEED", "x")
    failed = prune("score", vectors, check=2).stderr
    assert b"'--seed'" in failed and b"(from the variable PRUNE_SEED)" in failed
    monkeypatch.delenv("PRUNE_SEED")
    assert b"(from" not in prune("score", vectors, "--seed", "x", check=2).stderr


def test_a_variable_that_sets_nothing_is_told_and_its_neighbour_named(prune: Prune, vectors: Path, monkeypatch: Any) -> None:
    for name in ("PRUNE_SCORE_METHD", "PRUNE_DEVISE", "PRUNE_XYZZY_Q"):
        monkeypatch.setenv(name, "1")
    done = prune("score", vectors, "-o", "-")
    said = done.stderr.decode()
    assert "the variable PRUNE_SCORE_METHD sets nothing: is 'PRUNE_SCORE_METHOD' meant?" in said
    assert "the variable PRUNE_DEVISE sets nothing: is 'PRUNE_DEVICE' meant?" in said
    assert "the variable PRUNE_XYZZY_Q sets nothing" in said and b"PRUNE_" not in done.stdout
    assert prune("score", vectors, "-o", "-", "-q").stderr == b""


def test_every_command_heeds_settings() -> None:
    """A command that was registered without `Command` would ignore its alternatives and --no-NAME."""
    import typer

    from prune_cli.cli.app import app
    from prune_cli.cli.command import Command

    def leaves(command: Any) -> list[Any]:
        return [x for c in command.commands.values() for x in leaves(c)] if hasattr(command, "commands") else [command]

    found = leaves(typer.main.get_command(app))
    assert len(found) >= 8 and all(isinstance(command, Command) for command in found)


def test_shared_options_are_options(prune: Prune) -> None:
    import typer

    from prune_cli.cli.app import app
    from prune_cli.cli.settings import SHARED

    group: Any = typer.main.get_command(app)
    names = {p.name for command in ("score", "select", "train", "evaluate") for p in group.commands[command].params}
    assert names >= SHARED
    documented = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    listed = documented[documented.index("`[defaults]` and `PRUNE_NAME` take") :].split("\n\n")[0]
    assert set(re.findall(r"`([a-z-]+)`", listed)) == {name.replace("_", "-") for name in SHARED}


def test_of_two_variables_for_one_option_the_one_named_as_the_option_counts() -> None:
    """``train`` takes ``--recipe`` and ``--method`` for one option: their order is the same in every process."""
    import typer

    from prune_cli.cli import settings
    from prune_cli.cli.app import app

    train = dict(settings._commands(typer.main.get_command(app)))[("train",)]
    names = [name for name in settings._settings(train) if name in ("recipe", "method")]
    assert names == ["recipe", "method"]
