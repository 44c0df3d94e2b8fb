"""One run at a time works in a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from prune_cli.core.errors import InputError
from prune_cli.io.runs.finished import locked_folder


def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    script = (
        "import sys; from pathlib import Path; from prune_cli.io.runs.finished import locked_folder\n"
        f"with locked_folder(Path({str(folder)!r})): print('held', flush=True); sys.stdin.readline()\n"
    )
    first = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None and first.stdin is not None
    assert first.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="another run works in"), locked_folder(folder, patience=0.3):
        pass
    first.kill()
    first.wait()
    first.stdin.close()
    first.stdout.close()
    with locked_folder(folder, patience=5) as descriptor:
        assert descriptor > 2
    with locked_folder(folder, patience=0):
        pass
