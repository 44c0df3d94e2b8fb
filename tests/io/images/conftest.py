"""A folder of pictures, and the workers that decode."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from pictures import encode

from prune_cli.engines.pool import Pool
from prune_cli.io.images import column


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A root with a picture, and beside it what must not be opened."""
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "a.png").write_bytes(encode(np.array([[7]], np.uint8)))
    (tmp_path / "secret.png").write_bytes(encode(np.array([[9]], np.uint8)))
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "b.png").write_bytes(encode(np.array([[9]], np.uint8)))
    return root


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The workers that were started, however little there is to do."""
    processes: list[subprocess.Popen[bytes]] = []
    enter = Pool.__enter__

    def spy(pool: Pool) -> Pool:
        processes.extend(pool.processes)
        return enter(pool)

    monkeypatch.setattr(Pool, "__enter__", spy)
    monkeypatch.setattr(column, "_WORKERS_PAY", 1e-9)
    monkeypatch.setattr(column, "_CHUNK_ROWS", 5)
    monkeypatch.setattr(column, "_FIRST_ROWS", 2)
    return processes
