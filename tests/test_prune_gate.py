"""docs/ci/prune_gate.sh: its exit code is the verdict, and no verdict where there is none to give."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from pages import blocks
from warm import WarmCommands

ROOT = Path(__file__).parent.parent
GATE = "docs/ci/prune_gate.sh train.parquet sample_data/digits_test.parquet out"
SETTINGS = """
[select]
method = "stratified"
fraction = 0.3
[compare]
arch = "mlp:64"
steps = 200
gate = ["accuracy >= full - 20"]
"""


@pytest.mark.parametrize(
    ("code", "gate", "said"), [(0, "accuracy>=full-20", "**The gate holds.**"), (1, "accuracy>=99.9%", "**The gate does not hold**")]
)
def test_the_gate_s_exit_code_is_the_verdict(clone: Path, warm: WarmCommands, code: int, gate: str, said: str) -> None:
    (clone / "prune.toml").write_text(SETTINGS)
    shutil.copy(ROOT / "sample_data" / "digits_train.parquet", clone / "train.parquet")
    summary = clone / "summary.md"
    summary.write_text("before\n")
    settings = {"PRUNE_CONFIG": "prune.toml", "PRUNE_COMPARE_GATE": gate, "GITHUB_STEP_SUMMARY": str(summary)}
    done = warm.run(GATE, clone, **settings)
    assert done.returncode == code, done.stdout
    told = summary.read_text()
    assert told.startswith("before\n") and said in told and "less random" in told and told.count("```") == 2
    assert "break-even" in told, "what scoring and selecting cost is known"
    assert {p.name for p in (clone / "out").glob("*")} >= {"scores.parquet", "kept.parquet", "compare.parquet", "report.html", "work"}
    if code == 0:
        cells = {p: p.stat().st_mtime_ns for p in (clone / "out" / "work" / "cells").iterdir()}
        assert len(cells) == 9
        assert warm.run(GATE, clone, **settings).returncode == 0, "a second run goes over the first"
        assert {p: p.stat().st_mtime_ns for p in (clone / "out" / "work" / "cells").iterdir()} == cells


def test_the_gate_tells_bad_input_from_a_verdict(clone: Path, warm: WarmCommands) -> None:
    (clone / "prune.toml").write_text(SETTINGS)
    whole = (ROOT / "sample_data" / "digits_train.parquet").read_bytes()
    (clone / "train.parquet").write_bytes(whole[: len(whole) // 2])
    summary = clone / "summary.md"
    settings = {"PRUNE_CONFIG": "prune.toml", "GITHUB_STEP_SUMMARY": str(summary)}
    done = warm.run(GATE, clone, **settings)
    assert done.returncode == 2 and "train.parquet" in done.stdout
    assert "exit code 2" in summary.read_text() and "train.parquet" in summary.read_text()
    assert not (clone / "out" / "compare.parquet").exists()
    (clone / "train.parquet").write_bytes(whole)
    done = warm.run(GATE, clone, **settings, PRUNE_COMPARE_GATE="accuracy>=everything")
    assert done.returncode == 2 and "everything" in summary.read_text()
    assert not (clone / "out" / "report.html").exists()
    assert warm.run("docs/ci/prune_gate.sh train.parquet", clone).returncode == 2


def test_the_gate_stops_at_bad_rows(clone: Path, warm: WarmCommands) -> None:
    table = pq.read_table(ROOT / "sample_data" / "digits_train.parquet")
    rows = table.to_pylist()
    rows[7]["image"]["bytes"] = b"no image"
    pq.write_table(table.from_pylist(rows, table.schema), clone / "train.parquet")
    done = warm.run(GATE, clone)
    assert done.returncode == 3 and "errors.parquet" in done.stdout
    assert (clone / "out" / "scores.errors.parquet").exists()


def test_the_workflow_is_one_that_runs_the_gate() -> None:
    (found,) = [block for block in blocks(ROOT / "docs" / "tutorials" / "ci_gate.md") if block.tag == "yaml"]
    workflow = yaml.safe_load(found.text)
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert job["runs-on"] and job["env"]["PRUNE_CONFIG"] == "prune.toml"
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    assert [step["run"] for step in job["steps"] if "gate.sh" in step.get("run", "")] == [
        "./prune_gate.sh data/train.parquet data/test.parquet"
    ]
