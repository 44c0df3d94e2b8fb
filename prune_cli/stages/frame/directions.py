"""What a high value of a score column means: as the user states it, or as it was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prune_cli.core.errors import InputError
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
            raise InputError(
                f"--direction {text!r} is not NAME=harder or NAME=easier", "write --direction margin=easier"
            )
        found[name] = direction
    return found


def direction_of(name: str, *stated: Mapping[str, str]) -> Direction:
    """Return what a high value of a column means: as the first says that knows it, else as published.

    Raises:
        InputError: nobody knows.
    """
    found = next((known[name] for known in stated if name in known), published_direction(name))
    if found not in {"harder", "easier"}:
        raise InputError(
            f"whether a high '{name}' is hard or easy is not known", f"say it: --direction {name}=harder (or easier)"
        )
    return "harder" if found == "harder" else "easier"
