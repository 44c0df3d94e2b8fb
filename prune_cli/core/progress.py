"""How a method tells how far it is without knowing whether anybody looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Receives progress: called often and cheaply, never asked for anything back."""

    def __call__(self, task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
        """Say that ``done`` of ``total`` units of ``task`` are finished, with optional figures to show."""


def silent(task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
    """Ignore progress."""
