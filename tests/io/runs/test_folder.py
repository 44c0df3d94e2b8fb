"""Run folders on their way: what stands there is removed only if it is ours and asked to go, and one run at a time works there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prune_cli.core.errors import InputError
from prune_cli.io.runs.finished import locked_folder
from prune_cli.io.runs.folder import RunBuilder, check_run_output

TENSORS = {"w": np.arange(3.0)}


def builder(final: Path, **how: Any) -> RunBuilder:
    return RunBuilder(final, **{"force": False, "resume": False, "settings": {"seed": 1}, **how})


def interrupted(final: Path) -> Path:
    """Leave what a run leaves that was stopped after a checkpoint."""
    with pytest.raises(KeyboardInterrupt):
        one = builder(final)
        assert one.open() is None
        with one.building_on():
            one.save_checkpoint(TENSORS, {"step": 7})
            raise KeyboardInterrupt
    return final.with_name(f"{final.name}.incomplete")


def test_a_checkpoint_goes_only_when_asked(tmp_path: Path) -> None:
    building = interrupted(tmp_path / "run")
    kept = {path: path.read_bytes() for path in building.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"interrupted training is kept in .*run.incomplete(?s:.)*--resume, or pass --force"):
        builder(tmp_path / "run")
    assert {path: path.read_bytes() for path in building.rglob("*") if path.is_file()} == kept
    again = builder(tmp_path / "run", resume=True)
    found = again.open()
    assert found is not None and found[1] == {"step": 7}
    with pytest.raises(InputError), again.building_on():
        raise InputError("stopped", "go on")
    fresh = builder(tmp_path / "run", force=True)
    assert fresh.open() is None and not (building / "checkpoint").exists()


def test_a_folder_of_the_users_own_stays(tmp_path: Path) -> None:
    mine = tmp_path / "run.incomplete"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    for how in ({}, {"force": True}, {"resume": True}):
        with pytest.raises(InputError, match="was not made by prune"):
            check_run_output(tmp_path / "run", **{"force": False, **how})
    assert (mine / "notes.txt").read_text() == "mine"
    (mine / "notes.txt").unlink()
    check_run_output(tmp_path / "run", force=False)


def test_one_run_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    final = tmp_path / "run"
    refused = pytest.raises(InputError, match=r"another run works in .*run.incomplete(?s:.)*another with -o")
    with locked_folder(tmp_path / "run.incomplete"), refused:
        builder(final, force=True).open()
    one = builder(final)
    one.open()
    with one.building_on():
        pass
    builder(final).open()
