"""Help, versions, and what is loaded for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from warm import WarmCommands

from prune_cli import __version__

COMMANDS = (
    ["score"],
    ["select"],
    ["train"],
    ["evaluate"],
    ["manifest", "create"],
    ["manifest", "check"],
    ["manifest", "merge"],
    ["manifest", "top-up"],
    ["manifest", "import"],
    ["manifest", "export"],
)


@pytest.mark.parametrize("command", [[], *COMMANDS, ["manifest"]])
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    program = (
        "import sys\nfrom prune_cli.cli.app import invoke\n"
        f"code = invoke({[*command, '--help']!r})\n"
        "heavy = {'torch', 'jax', 'faiss', 'scipy', 'pyarrow', 'numpy', 'torchvision', 'PIL', 'numba'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: prune" in done.stdout


@pytest.mark.parametrize("command", COMMANDS[:4])
def test_every_command_shows_an_example_and_its_defaults(prune: Any, command: list[str]) -> None:
    text = prune(*command, "--help").stdout.decode()
    assert "Example: prune" in text and "[default: " in text


def test_every_option_is_in_the_documentation() -> None:
    """docs/commands.md names every option of every command."""
    import typer

    from prune_cli.cli import app

    group: Any = typer.main.get_command(app.app)
    documented = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    commands = [group.commands[name] for name in ("score", "select", "train", "evaluate", "compare", "report")]
    for command in (*commands, *group.commands["manifest"].commands.values()):
        options = {max(p.opts, key=len) for p in command.params}
        assert not {o for o in options if o.startswith("--") and o not in documented}


def test_version_and_entry_points(prune: Any) -> None:
    assert prune("--version").stdout.decode() == f"prune {__version__}\n"
    folder = Path(sys.executable).parent
    for name in ("prune", "prune-cli"):
        if (folder / name).exists():
            assert subprocess.run([folder / name, "--version"], capture_output=True, text=True).stdout == f"prune {__version__}\n"


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("score", ["cg", "repeats=1", "harder when high", "2301.00930"]),
        ("select", ["top", "random", "window", "offset=0.0", "--preset bws-cifar10"]),
        ("train", ["standard", "momentum=0.9"]),
    ],
)
def test_methods_are_listed_with_parameters_defaults_cost_and_source(prune: Any, command: str, names: list[str]) -> None:
    text = prune(command, "--list-methods").stdout.decode()
    for name in [*names, "cost: ", "source: "]:
        assert name in text


def test_json_is_one_object_on_standard_output(prune: Any, vectors: Path) -> None:
    summary = json.loads(prune("score", vectors, "--json", "-q").stdout)
    assert summary["rows_in"] == 60 and summary["rows_bad"] == 0 and summary["output"] == "vectors.scores.parquet"
    assert summary["seconds"] > 0 and summary["peak_memory_bytes"] > 0


def test_quiet_says_nothing_and_no_color_is_kept(prune: Any, vectors: Path) -> None:
    assert prune("score", vectors, "-q").stderr == b""
    done = prune("score", vectors, "--force", env={**os.environ, "NO_COLOR": "1", "FORCE_COLOR": "1"})
    assert b"\x1b[3" not in done.stderr


def test_tracebacks_come_with_vv_alone(prune: Any) -> None:
    assert b"Traceback" not in prune("score", "none.parquet", check=2).stderr
    assert b"Traceback" in prune("score", "none.parquet", "-vv", check=2).stderr


def test_progress_bars_are_for_terminals(warm: WarmCommands, vectors: Path, tmp_path: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    process = warm.start(
        "-m", "prune_cli", "score", vectors, "-p", "repeats=5",
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=follower, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    assert process.wait() == 0 and b"scoring" in shown
