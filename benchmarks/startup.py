"""How long `prune --help` takes beside importing the two libraries it needs, in pairs."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULT = Path(__file__).parents[1] / "docs" / "results" / "startup.md"
COMMANDS = {
    "python -c 'import typer, rich'": [sys.executable, "-c", "import typer, rich"],
    "prune --help": [sys.executable, "-m", "prune_cli", "--help"],
    "prune score --help": [sys.executable, "-m", "prune_cli", "score", "--help"],
}


def seconds(command: list[str]) -> float:
    """Return the wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print, or write, the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--write", action="store_true", help=f"update {RESULT.name}")
    options = parser.parse_args()
    turns = [{name: seconds(command) for name, command in COMMANDS.items()} for _ in range(options.turns + 1)][1:]
    base = next(iter(COMMANDS))
    lines = ["| command | seconds, median | ratio, median of pairs | wanted |", "| --- | --- | --- | --- |"]
    for name in COMMANDS:
        ratio = statistics.median(t[name] / t[base] for t in turns)
        wanted = "<= 1.6" if name == "prune --help" else ""
        lines.append(f"| `{name}` | {statistics.median(t[name] for t in turns):.3f} | {ratio:.2f} | {wanted} |")
    text = "\n".join(["# Start", "", "Made by `python benchmarks/startup.py --write` on 2 cores.", "", *lines, ""])
    print(text)
    if options.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
