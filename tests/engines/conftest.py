"""The module prune_cli.made, here and in workers."""

from __future__ import annotations

import sys

import made_blocks
import pytest

from prune_cli.engines import pool


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch, warm_workers: None) -> None:
    """Let functions of `made_blocks` pass for the package's own."""
    monkeypatch.setitem(sys.modules, "prune_cli.made", made_blocks)
    monkeypatch.setattr(pool, "_START", made_blocks.START)
