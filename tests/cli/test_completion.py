"""Shells complete commands, options and values: real shells on a terminal of their own, and fast."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from waiting import HANGS

SETUP = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "bind 'set bell-style none'; source prune.bash"),
    "zsh": (["zsh", "-f", "-i"], "autoload -Uz compinit; compinit -u -D; source ./prune.zsh"),
    "fish": (["fish", "--no-config", "-i"], "source prune.fish"),
}
CASES = (
    ("prune sc", "prune score"),
    ("prune manifest ex", "export"),
    ("prune score --method conf", "confidence"),
    ("prune score --method cg,au", "cg,aum"),
    ("prune select --preset bws", "bws-cifar10"),
    ("prune train --recipe divi", "dividemix"),
    ("prune train --arch preact", "preactresnet18"),
    ("prune manifest export --to webd", "webdataset"),
    ("prune score --save-dyn", "--save-dynamics"),
)


@pytest.fixture
def place(tmp_path: Path, prune: Any) -> Path:
    """A folder with a command ``prune`` that runs this code, and the scripts of the shells."""
    command = tmp_path / "bin" / "prune"
    command.parent.mkdir()
    root = Path(__file__).parents[2]
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" -m prune_cli "$@"\n')
    command.chmod(0o755)
    for shell in SETUP:
        (tmp_path / f"prune.{shell}").write_bytes(prune("completion", shell).stdout)
    return tmp_path


def on_terminal(place: Path, shell: str, typed: str, wanted: str) -> str:
    """Return what a shell shows after some words and TAB, until the wanted word is there or half a minute is over."""
    command, setup = SETUP[shell]
    leader, follower = pty.openpty()
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    process = subprocess.Popen(
        command,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=place,
        start_new_session=True,
        env={"PATH": path, "TERM": "xterm", "HOME": str(place), "LANG": "C.UTF-8"},
    )
    os.close(follower)

    def read_until(word: str, seconds: float = HANGS) -> str:
        shown, end = "", time.monotonic() + seconds
        while word not in shown and time.monotonic() < end:
            if select.select([leader], [], [], 0.2)[0]:
                try:
                    piece = os.read(leader, 4096).decode(errors="replace")
                except OSError:
                    break
                shown += piece
                if "\x1b[c" in piece or "\x1b[0c" in piece:  # fish asks what terminal this is, and waits for a word
                    os.write(leader, b"\x1b[?62c")
        return shown

    try:
        os.write(leader, f"{setup}; echo rea''dy\n".encode())
        assert "ready" in read_until("ready")
        os.write(leader, f"{typed}\t".encode())
        return read_until(wanted)
    finally:
        process.kill()
        process.wait()
        os.close(leader)


@pytest.mark.parametrize(("typed", "wanted"), CASES)
def test_bash_completes(place: Path, typed: str, wanted: str) -> None:
    assert wanted in on_terminal(place, "bash", typed, wanted)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="wants zsh")
@pytest.mark.parametrize(("typed", "wanted"), CASES[::2])
def test_zsh_completes(place: Path, typed: str, wanted: str) -> None:
    assert wanted in on_terminal(place, "zsh", typed, wanted)


@pytest.mark.skipif(shutil.which("fish") is None, reason="wants fish")
@pytest.mark.parametrize(("typed", "wanted"), CASES)
def test_fish_completes(place: Path, typed: str, wanted: str) -> None:
    env = {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "HOME": str(place), "LANG": "C.UTF-8"}
    command = ["fish", "--no-config", "-c", f"source prune.fish; complete -C '{typed}'"]
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=True)
    assert wanted.split()[-1] in [line.split("\t")[0] for line in done.stdout.splitlines()]


def asked(words: str, number: int) -> subprocess.CompletedProcess[str]:
    """Ask as bash does, and let the process say what it loaded."""
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: sys.stderr.write(repr({'torch', 'numpy', 'pyarrow', 'scipy'} & set(sys.modules))))\n"
        "from prune_cli.cli.app import main\nmain()\n"
    )
    env = {**os.environ, "_PRUNE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)


def test_nothing_heavy_is_loaded_for_an_answer() -> None:
    for words, number, wanted in (
        ("prune score --method c", 3, ["cg", "confidence"]),
        ("prune select --method prune4", 3, ["prune4rel"]),
        ("prune train --structure ", 3, ["complexity_aware", "magnitude"]),
        ("prune manifest export --to u", 4, ["uids", "ultralytics"]),
        ("prune train --arch resnet1", 3, ["resnet18"]),
        ("prune score --list-methods --device c", 4, ["cpu", "cuda"]),
        ("prune train --preset c", 3, []),
    ):
        done = asked(words, number)
        assert done.stdout.split() == wanted and done.stderr == "set()", (words, done.stdout, done.stderr)


def test_other_shells_and_names_are_refused(prune: Any) -> None:
    assert b"use one of: bash, zsh, fish" in prune("completion", "tcsh", check=2).stderr
    assert b"use prune or prune-cli" in prune("completion", "bash", "--program", "pru", check=2).stderr
    assert b"complete -o default -F _prune_cli_completion prune-cli" in prune(
        "completion", "bash", "--program", "prune-cli"
    ).stdout  # fmt: skip
