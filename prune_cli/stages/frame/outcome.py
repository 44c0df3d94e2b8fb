"""What a stage hands back to the command line, how long it took, and what a high value of a score means."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prune_cli.core.errors import InputError
from prune_cli.core.runtime import format_size, peak_memory
from prune_cli.methods.registry.lookup import published_direction
from prune_cli.methods.registry.method import Direction


def parse_directions(given: Sequence[str]) -> dict[str, str]:
    """Return column -> direction of the texts of ``--direction``.

    >>> parse_directions(["margin=easier"])
    {'margin': 'easier'}
    """
    found: dict[str, str] = {}
    for text in given:
        name, _, direction = text.partition("=")
        if direction not in {"harder", "easier"}:
            raise InputError(f"--direction {text!r} is not NAME=harder or NAME=easier", "write --direction margin=easier")
        found[name] = direction
    return found


def direction_of(name: str, *stated: Mapping[str, str]) -> Direction:
    """Return what a high value of a column means: as the first says that knows it, else as published.

    Raises:
        InputError: nobody knows.
    """
    found = next((known[name] for known in stated if name in known), published_direction(name))
    if found not in {"harder", "easier"}:
        raise InputError(f"whether a high '{name}' is hard or easy is not known", f"say it: --direction {name}=harder (or easier)")
    return "harder" if found == "harder" else "easier"


@dataclass
class Outcome:
    """The result of one stage.

    Args:
        outputs: what was written; ``-`` for standard output.
        summary: the figures of ``--json``, in the order they are shown.
        tables: title -> rows (the first is the heading), shown on standard error.
        results: title -> rows of tables that are the result itself, shown on standard output unless there is ``--json``.
        warnings: sentences for standard error, each once.
        verdict: False for a negative verdict (exit code 1).
    """

    outputs: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    results: dict[str, list[list[str]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    verdict: bool = True


def plan_outcome(command: str, figures: Mapping[str, Any]) -> Outcome:
    """Return the outcome of ``--plan``: figures whose names end in ``_bytes`` are shown as sizes."""
    return Outcome(
        summary={"command": command, "plan": dict(figures)},
        tables={
            "plan": [
                ["figure", "value"],
                *([name.removesuffix("_bytes").replace("_", " "), _readable(name, v)] for name, v in figures.items()),
            ]
        },
    )


def _readable(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        return format_size(value)
    if name.endswith("flops"):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


class Stopwatch:
    """Measures a stage from its start."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def figures(self) -> Mapping[str, float | int]:
        """Return seconds since the start and the process's peak memory in bytes."""
        return {"seconds": round(time.perf_counter() - self._start, 3), "peak_memory_bytes": peak_memory()}

    def summary(self, command: str, **figures: Any) -> dict[str, Any]:
        """Return the summary of a command: its name, figures of its own, and what it took."""
        return {"command": command, **figures, **self.figures()}
