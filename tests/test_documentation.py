"""The README's commands run as they stand; only the trainings are cut short."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import png

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.startswith("prune ")]


def test_the_readme_commands_run_in_a_row(prune: Any, tmp_path: Path) -> None:
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    rng = np.random.default_rng(0)
    for i in range(8):
        place = tmp_path / "photos" / f"class{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.png").write_bytes(png(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)))
    assert len(COMMANDS) >= 12
    for line in COMMANDS:
        piped: bytes = b""
        for part in line.replace("--steps 300", "--steps 3").split(" | "):
            done = prune(*shlex.split(part)[1:], stdin=piped, check=None if "--gate" in part else 0)
            assert done.returncode in (0, 1), done.stderr.decode()  # three steps decide no gate
            piped = done.stdout
    for made in (
        "scores.parquet",
        "half.parquet",
        "run",
        "report.parquet",
        "kept-0.1.parquet",
        "verdict.parquet",
        "report.html",
        "clean.report.parquet",
    ):
        assert (tmp_path / made).exists(), made


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_parameters_of_training_have_one_default() -> None:
    """docs/methods.md leaves defaults to the code; what it names must be there."""
    from prune_cli.methods.training.architectures import DEFAULT_WIDTHS

    methods = (ROOT / "docs" / "methods.md").read_text()
    for name in DEFAULT_WIDTHS:
        assert f"`{name}" in methods, name
