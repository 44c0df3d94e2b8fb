"""The README's commands run, links lead somewhere, and the documentation names what the code has."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pages import blocks, page_files, run_page
from warm import WarmCommands

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def test_the_readme_runs_from_top_to_bottom(clone: Path, warm: WarmCommands) -> None:
    run_page(ROOT / "README.md", clone, warm)
    assert len(page_files(ROOT / "README.md")) >= 20
    for made in page_files(ROOT / "README.md"):
        assert list(clone.glob(made.replace(".parquet", "*.parquet"))), made  # several budgets write a file each


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Files exist, and so do the headings of pages."""
    for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text()):
        found = page.parent / target if target else page
        assert found.exists(), target
        assert not heading or heading in anchors(found), f"{target}#{heading}"


def anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives the headings of a page.

    >>> "a-first-run" in anchors(ROOT / "README.md")
    True
    """
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_map_leads_to_every_page() -> None:
    text = (ROOT / "docs" / "index.md").read_text()
    for page in PAGES[1:]:
        if page.name != "index.md" and page.parent.name != "results":
            assert f"({page.relative_to(ROOT / 'docs')})" in text, page


def test_the_parameters_of_training_have_one_default() -> None:
    """docs/methods.md leaves defaults to the code; what it names must be there."""
    from prune_cli.methods.training.networks.architectures import NETWORKS

    methods = (ROOT / "docs" / "methods.md").read_text()
    for name in NETWORKS:
        assert f"`{name}" in methods, name


def test_the_method_of_the_contributing_page_is_picked_up(tmp_path: Path, warm: WarmCommands) -> None:
    """The page's four edits are made in a copy of the repository; then its commands run there."""
    for name in ("prune_cli", "tests", "docs", "sample_data"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    page = blocks(ROOT / "docs" / "contributing.md")
    for block in page:
        if block.tag == "python":
            path = tmp_path / re.match(r"# (\S+)\n", block.text)[1]  # type: ignore[index]
            text = block.text.partition("\n")[2]
            if path.exists():
                before = path.read_text()
                assert before.count("SELECTIONS = (\n") == 1
                text = before.replace("SELECTIONS = (\n", f"SELECTIONS = (\n{text}")
            path.write_text(text)
    (row,) = [block.text for block in page if block.tag == "markdown"]
    methods = tmp_path / "docs" / "methods.md"
    methods.write_text(methods.read_text().replace("| `moderate` | the middle", f"{row}| `moderate` | the middle"))
    (text,) = [block.text for block in page if block.tag == "sh"]
    done = warm.run(f"set -euo pipefail\n{text}", tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= 12, "two tests, a doctest, and what the contract asks of a selection"
    kept = pq.read_table(tmp_path / "middle.parquet", columns=["selected"])["selected"].to_pylist()
    assert sum(kept) == (len(kept) + 1) // 2
