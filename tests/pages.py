"""The blocks of a documentation page, as one script that runs them in their order.

Blocks of ``sh`` run as they stand, those of ``python`` as programs of their own; those of ``console`` show commands after ``$`` and
what they print. Any other tag is not run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from warm import WarmCommands

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"[-+]?\d[\d,.]*(?:e[-+]?\d+)?")
ELLIPSIS = "..."


@dataclass(frozen=True)
class Block:
    """A fenced block: its tag, its text, and the line of the page it begins at."""

    tag: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text()
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in _FENCE.finditer(text)]


def script(page: Path, shown: Path) -> str:
    """Return a bash script of a page; what the commands of ``console`` blocks print goes to ``shown/LINE.COMMAND``."""
    parts = ["set -euo pipefail"]
    for block in blocks(page):
        parts.append(f"echo '--- {page.name}, line {block.line}'")
        if block.tag == "sh":
            parts.append(block.text)
        elif block.tag == "python":
            parts.append(f"python - << 'END_OF_PYTHON'\n{block.text}END_OF_PYTHON\n")
        elif block.tag == "console":
            parts += [f"{{ {command}\n}} > {shown}/{block.line}.{number} 2>&1" for number, (command, _) in enumerate(commands(block))]
    return "\n".join(parts)


def run_page(page: Path, folder: Path, warm: WarmCommands) -> None:
    """Run a page in a folder, and check that every command succeeds and prints what the page says."""
    shown = folder / "shown"
    shown.mkdir()
    done = warm.run(script(page, shown), folder)
    assert done.returncode == 0, done.stdout[-3000:]
    for block in blocks(page):
        for number, (command, said) in enumerate(commands(block) if block.tag == "console" else []):
            printed = (shown / f"{block.line}.{number}").read_text()
            assert prints(said, printed), f"line {block.line}: {command}\n{printed}"


def page_files(page: Path) -> set[str]:
    """Return the files that a page's commands write with ``-o``."""
    return {name for block in blocks(page) if block.tag == "sh" for name in re.findall(r" -o (\w\S*)", block.text)}


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """Return the commands of a ``console`` block, each with the lines it is said to print."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def prints(said: list[str], printed: str) -> bool:
    """Return whether lines are printed one after the other: numbers and widths may differ, ``...`` is any lines.

    >>> prints(["...", "rows  12", "..."], "a\\nrows   1,300\\nb\\n"), prints(["rows 12"], "rows\\n")
    (True, False)
    """
    pattern = "".join(r"(?:.*\n)*" if line == ELLIPSIS else re.escape(_plain(line)) + r"\n" for line in said if _plain(line))
    text = "".join(f"{plain}\n" for line in printed.splitlines() if (plain := _plain(line)))
    return re.fullmatch(pattern, text) is not None


def _plain(line: str) -> str:
    return " ".join(_NUMBER.sub("#", line.replace("─", " ")).split())
