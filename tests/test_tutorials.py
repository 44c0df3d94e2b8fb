"""Every command of the tutorials runs as it stands, and prints what the page says that it prints."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pages import blocks, page_files, prints, run_page
from warm import WarmCommands

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted((DOCS / "tutorials").glob("*.md")), DOCS / "manifests.md"]
NOT_RUN = {"text", "yaml", "toml", "markdown", "bash"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_from_top_to_bottom(page: Path, clone: Path, warm: WarmCommands) -> None:
    run_page(page, clone, warm)
    for made in page_files(page):
        assert list(clone.glob(f"try/*/{made}")), made
    if page.stem == "manifests":
        documented = page.read_text()
        for file in clone.glob("try/**/*.parquet"):
            if "sample_data" not in file.parts:
                assert not {c for c in pq.read_schema(file).names if f"`{c}`" not in documented}, file.name


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES, DOCS / "contributing.md"], ids=lambda page: page.stem)
def test_hardly_a_block_is_left_out(page: Path) -> None:
    tags = [block.tag for block in blocks(page)]
    assert set(tags) <= {"sh", "python", "console", *NOT_RUN}
    assert page.read_text().count("\n```") == 2 * len(tags), "a fence that is not closed"
    assert tags.count("bash") <= (2 if page.stem == "README" else 1)


def test_a_page_that_says_something_else_is_caught() -> None:
    assert prints(["prune: 3 rows", "...", "exit code 1"], "prune: 12 rows\n\nmore\nand more\nexit code 1\n")
    assert not prints(["prune: 3 rows"], "prune: 12 columns\n")
    assert not prints(["prune: 3 rows"], "prune: 12 rows\nand more\n")
