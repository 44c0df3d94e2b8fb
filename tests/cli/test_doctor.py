"""``prune doctor``: it outlives what is broken, says the cure, and tells nothing private."""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shadows(tmp_path: Path) -> Path:
    """A folder that comes first where packages are looked for."""
    folder = tmp_path / "home" / "shadows"
    folder.mkdir(parents=True)
    return folder


def environment(shadows: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PRUNE_") and k != "NO_COLOR"}
    path = f"{shadows}{os.pathsep}{ROOT}"
    return {**kept, "PYTHONPATH": path, "HOME": str(shadows.parent), "OMP_NUM_THREADS": "1", **more}


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in report["checks"]}


def test_all_is_well_here(prune: Any, warm_workers: None) -> None:
    report = json.loads(prune("doctor", "--json", "-q").stdout)
    assert report["healthy"] and report["versions"]["numpy"] == importlib.metadata.version("numpy")
    import torch

    assert report["auto"]["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert len(report["machine"]["cuda"]) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    if not torch.cuda.is_available():
        assert by_name(report)["torch sees a GPU"]["verdict"] == "note" and report["machine"]["why_no_cuda"]
    assert report["machine"]["cores"] == len(os.sched_getaffinity(0)) == report["auto"]["workers"]
    assert 0 < report["auto"]["memory_limit_bytes"] < report["machine"]["free_memory_bytes"] * 1.1
    assert report["extras"]["onnx"]["packages"]["onnx"] == importlib.metadata.version("onnx")
    assert by_name(report)["import torch"] == {
        "name": "import torch", "verdict": "ok", "found": importlib.metadata.version("torch"), "cure": None,
    }  # fmt: skip


def test_what_is_broken_is_told_with_its_cure(prune: Any, shadows: Path) -> None:
    """torch ends the process, faiss raises, numba exits and prints to standard output: the rest is still told."""
    (shadows / "torch.py").write_text("import os, sys; sys.stderr.write('no such instruction\\n'); os.abort()")
    (shadows / "faiss.py").write_text(f"raise ImportError('{shadows}/libfaiss.so: undefined symbol\\nmore')")
    (shadows / "numba.py").write_text("print('{\"error\": 1}'); raise SystemExit(3)")
    env = environment(shadows, CLOUD_KEY="s3cr3t", OMP_PROC_BIND="true", PRUNE_SEED="3", NO_COLOR="1")
    done = prune("doctor", "--json", "-q", check=1, env=env, fresh=True)
    report = json.loads(done.stdout)
    checks = by_name(report)
    assert not report["healthy"]
    torch = checks["import torch"]
    assert torch["verdict"] == "failed" and "SIGABRT" in torch["found"] and "no such instruction" in torch["found"]
    assert torch["cure"].startswith("pip install --force-reinstall 'torch")
    assert checks["import faiss"]["found"].endswith("is broken: ImportError: ~/shadows/libfaiss.so: undefined symbol")
    assert "SystemExit: 3" in checks["import numba"]["found"]
    assert checks["import pyarrow"]["verdict"] == "ok" == checks["import sklearn"]["verdict"]
    assert checks["torch sees a GPU"]["verdict"] == "note" and report["auto"]["device"] is None
    shown = {"OMP_NUM_THREADS": "1", "OMP_PROC_BIND": "true", "PRUNE_SEED": "3", "NO_COLOR": "1"}
    assert report["environment"].items() >= shown.items()
    assert b"s3cr3t" not in done.stdout and str(shadows.parent).encode() not in done.stdout


def test_packages_that_are_missing_or_old_and_extras(prune: Any, shadows: Path) -> None:
    (shadows / "torch.py").write_text("raise ImportError('it takes seconds')")
    told = shadows / "prune_cli-9.9.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: prune-cli\nVersion: 9.9\nRequires-Dist: numpy>=99\nRequires-Dist: not-there>=1.5\n"
        "Requires-Dist: rich\nProvides-Extra: some\nRequires-Dist: not-there; extra == 'some'\n"
        "Provides-Extra: all\nRequires-Dist: rich; extra == 'all'\nProvides-Extra: dev\n"
    )
    report = json.loads(prune("doctor", "--json", "-q", check=1, env=environment(shadows), fresh=True).stdout)
    checks = by_name(report)
    version = importlib.metadata.version("numpy")
    assert checks["import numpy"]["found"] == f"{version} is not numpy>=99"
    assert checks["import not_there"]["found"] == "not-there is not installed"
    assert checks["import not_there"]["cure"] == "pip install 'not-there>=1.5'"
    assert checks["import rich"]["verdict"] == "ok" and set(report["extras"]) == {"some", "all"}
    assert report["extras"]["some"]["install"] == "pip install 'prune-cli[some]'"
    assert report["extras"]["all"]["installed"] and report["extras"]["all"]["install"] is None


def test_as_text_it_is_the_result(prune: Any, shadows: Path) -> None:
    (shadows / "torch.py").write_text("raise ImportError('broken')")
    for name in ("scipy", "sklearn", "numba", "faiss"):  # which take seconds
        (shadows / f"{name}.py").touch()
    done = prune("doctor", check=1, env=environment(shadows), fresh=True)
    text = done.stdout.decode()
    for title in ("versions", "machine", "what is chosen when nothing is said", "extras", "variables that are set"):
        assert f"\n{title}\n" in f"\n{text}"
    assert max(map(len, text.splitlines())) <= 120 and "\x1b" not in text and "Traceback" not in done.stderr.decode()
    (row,) = [line.split() for line in text.splitlines() if line.startswith("  import torch ")]
    assert row[2] == "failed" and "pip install --force-reinstall" in text


def test_folders_that_cannot_be_written_to(tmp_path: Path) -> None:
    """Root writes anywhere, so the folder is one that is not there."""
    from prune_cli.stages.doctor import _can_write

    assert _can_write(tmp_path) and list(tmp_path.iterdir()) == []
    assert not _can_write(tmp_path / "none")
