"""Streams that are closed, full, or cannot hold a name: the exit code says what became of the data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    vectors = [[float(i), 1.0] for i in range(20)]
    pq.write_table(pa.table({"id": [f"{i:02d}" for i in range(20)], "label": [0, 1] * 10, "embedding": vectors}), tmp_path / "data.parquet")
    pq.write_table(pa.table({"id": [f"{i:02d}" for i in range(20)], "el2n": [float(i) for i in range(20)]}), tmp_path / "s.parquet")
    return tmp_path


def shell(folder: Path, line: str, **environment: str) -> Any:
    """Run a line of a shell in which ``prune`` is the command of this checkout."""
    program = f"prune() {{ '{sys.executable}' -m prune_cli \"$@\"; }}; {line}"
    return subprocess.run(["bash", "-c", program], cwd=folder, capture_output=True, env={**os.environ, **environment})


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("prune manifest check data.parquet 2>&-", 0),
        ("prune manifest check data.parquet 2>/dev/full", 0),
        ("prune manifest check none.parquet 2>&-", 2),
        ("prune manifest check none.parquet 2>/dev/full", 2),
        ("prune select s.parquet --method top --fraction 0.5 -q -o k.parquet >&-; code=$?; test -s k.parquet && exit $code", 0),
        ("prune select s.parquet --method top --fraction 0.5 -q -o k.parquet >/dev/full; code=$?; test -s k.parquet && exit $code", 0),
        ("prune select - --method top --fraction 0.5 -q -o - <s.parquet >&-", 2),
        ("prune select s.parquet --method top --fraction 0.5 -q -o k.parquet <&-", 0),
    ],
)
def test_the_exit_code_is_that_of_the_data(folder: Path, line: str, code: int) -> None:
    done = shell(folder, line)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr


def test_a_name_that_is_not_utf_8_is_refused_with_the_cure(folder: Path) -> None:
    os.rename(folder / "s.parquet", os.fsencode(folder) + b"/caf\xe9.parquet")  # noqa: PTH104 -- no name that a Path is made of
    done = shell(folder, "prune manifest check $'caf\\xe9.parquet'")
    assert done.returncode == 2 and b"not UTF-8" in done.stderr and b"rename" in done.stderr


def test_a_result_whose_name_the_stream_cannot_write_is_a_result(folder: Path) -> None:
    done = shell(folder, "prune select s.parquet --method top --fraction 0.5 -q -o käse.parquet", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and (folder / "käse.parquet").exists() and done.stdout == b"k\\xe4se.parquet\n"


def test_a_locale_that_cannot_name_the_file_is_named(folder: Path) -> None:
    (folder / "data.parquet").rename(folder / "dätä.parquet")
    plain = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell(folder, "prune manifest check dätä.parquet", **plain)
    assert done.returncode == 2 and b"LC_ALL=C.UTF-8" in done.stderr
