"""``--list-methods``: whole, plain where it is not for eyes, and found by grep."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from typing import Any

import pytest
from warm import WarmCommands

from prune_cli.core.params import describe_params
from prune_cli.methods.registry.lookup import PRESETS, methods_of
from prune_cli.methods.registry.method import Kind

KINDS: dict[str, tuple[Kind, ...]] = {"score": ("score",), "select": ("selection",), "train": ("recipe", "structure")}


@pytest.mark.parametrize("command", KINDS)
def test_every_method_is_listed_whole_a_line_a_row(prune: Any, command: str) -> None:
    lines = prune(command, "--list-methods").stdout.decode().splitlines()
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines]
    for kind in KINDS[command]:
        for method in methods_of(kind).values():
            (row,) = [r for r in rows if len(r) > 2 and r[0] == ", ".join((method.name, *method.aliases))]
            assert row[-2:] == [method.cost, method.summary]
            assert f"  cost: {method.cost}" in lines and f"  source: {method.source}" in lines
            for column, direction in method.columns.items():
                assert any(f"{column}: {direction} when high" in line for line in lines)
            for name, type_name, default, help in describe_params(method.params_class()):
                assert [f"-p {name}={'none' if default is None else default}", type_name.replace("|", " | "), help] in rows
        for preset, kinds in PRESETS.items():
            for values in kinds.get(kind, {}).values():
                assert f"  --preset {preset}: {', '.join(f'{k}={v}' for k, v in values.items())}" in lines


@pytest.mark.parametrize("command", KINDS)
@pytest.mark.parametrize("order", [["--list-methods", "--json"], ["--json", "--list-methods"]])
def test_as_json_it_is_one_object(prune: Any, command: str, order: list[str]) -> None:
    found = json.loads(prune(command, *order).stdout)
    assert tuple(found) == KINDS[command]
    for kind in KINDS[command]:
        named = {method["name"]: method for method in found[kind]}
        assert set(named) == {*methods_of(kind), *(["training"] if kind == "score" else [])}
        for name, method in methods_of(kind).items():
            assert named[name]["columns"] == dict(method.columns) and named[name]["source"] == method.source
            assert [p["name"] for p in named[name]["parameters"]] == [p[0] for p in describe_params(method.params_class())]
    if command == "score":
        assert named["cg"]["presets"]["cg-paper"] == {"ratio": 1.0, "repeats": 10}
        assert named["training"]["presets"]["fast"] == {"epochs": 20}


def shown_on_terminal(warm: WarmCommands, columns: int, **more: str) -> str:
    leader, follower = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), **more}
    process = warm.start("-m", "prune_cli", "select", "--list-methods", stdout=follower, stderr=follower, env=env)
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    assert process.wait() == 0
    return shown.decode()


def test_a_terminal_folds_it_and_loses_nothing(warm: WarmCommands) -> None:
    shown = shown_on_terminal(warm, 70, NO_COLOR="1")
    assert "\x1b" not in shown
    table = shown[: shown.index("\r\nwindow, bws\r\n")]
    assert max(map(len, table.splitlines())) <= 70 and "…" not in shown
    words = " ".join(table.split())
    for method in methods_of("selection").values():
        for word in [*method.summary.split(), *method.cost.split()]:
            assert word in words, word


def test_colour_is_for_terminals_alone(prune: Any, warm: WarmCommands) -> None:
    env = {**os.environ, "FORCE_COLOR": "1"}
    env.pop("NO_COLOR", None)
    assert b"\x1b" not in prune("select", "--list-methods", env=env).stdout
    assert "\x1b[1m" in shown_on_terminal(warm, 100, NO_COLOR="")


def test_a_reader_that_went_away_is_no_error(warm: WarmCommands) -> None:
    command = f"'{warm.python}' -m prune_cli score --list-methods | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "score methods" and done.stdout.splitlines()[1] in {"0", "141"}
    assert done.stderr == ""
