"""Which score column a selection goes by, and what a high value of it means."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.manifests.joined import Joined
from prune_cli.methods.registry.lookup import published_direction
from prune_cli.methods.registry.method import Direction
from prune_cli.stages.frame.outcome import direction_of

_NOT_SCORES = {"true_label", "split", "rank", "weight", "gain", "fold"}
_TIE_KEYS = ("aum", "loss", "margin", "el2n", "confidence")
"""Scores that break the ties of another where nobody says, the first that is there."""

_MANY_TIES = 0.01


@dataclass(frozen=True)
class WantedKeys:
    """Parameters that every selection has beside its own.

    Args:
        key: the score column that it goes by, or None for the only one there.
        tie: the column that breaks ties, ``none`` for none, or None for one that fits where many tie.
    """

    key: str | None = None
    tie: str | None = None


@dataclass(frozen=True)
class Key:
    """A score column; ``direction`` is what a high value means."""

    name: str
    direction: Direction
    scores: Joined

    @cached_property
    def values_n(self) -> np.ndarray:
        """(N,) float64, NaN where null; read when first wanted."""
        return self.scores.numbers(self.name)

    def difficulty(self) -> np.ndarray:
        """Return (N,) float64, high = hard."""
        return self.values_n if self.direction == "harder" else -self.values_n

    @cached_property
    def share_tied(self) -> float:
        """The share of the values that another row has too."""
        values = self.values_n[np.isfinite(self.values_n)]
        values.sort()
        as_next = np.zeros(len(values) + 1, bool)
        as_next[1:-1] = values[1:] == values[:-1]
        return float(np.count_nonzero(as_next[1:] | as_next[:-1]) / max(1, len(values)))


def read_key(scores: Joined, wanted: str | None, directions: Mapping[str, str]) -> Key:
    """Return the column named, or the only one there.

    Raises:
        InputError: no score column, several and none named, no numbers, or a direction that nobody knows.
    """
    name = wanted if wanted is not None else _only_column(scores, directions)
    field = scores.fields.get(name) or scores.sources[0].require(name, "-p key=NAME")
    if name not in scores.fields or not _numeric(field):
        raise InputError(
            f"{scores.location}: column '{name}' is {field.type}, not numbers",
            f"name one of {', '.join(_numeric_columns(scores)) or 'none there'}",
        )
    return Key(name, direction_of(name, directions, scores.directions), scores)


def read_tie(scores: Joined, key: Key, wanted: str | None, directions: Mapping[str, str]) -> Key | None:
    """Return the column that breaks the ties of the key: the one named, or one that is known to fit where many tie.

    Returns:
        None for ``-p tie=none``, where few tie, or where no other known score is there.
    """
    if wanted is not None:
        return None if wanted.lower() == "none" else read_key(scores, wanted, directions)
    fitting = [name for name in _TIE_KEYS if name in scores.fields and name != key.name]
    if not fitting or key.share_tied <= _MANY_TIES:
        return None
    return read_key(scores, fitting[0], directions)


def other_columns(scores: Joined, key: str, beside: Collection[str]) -> dict[str, np.ndarray]:
    """Return the columns whose names go on after the key's, ``dual_mean`` of ``dual``, and those that are named, where they are there."""
    return {
        name: scores.numbers(name)
        for name, field in scores.fields.items()
        if (name.startswith(f"{key}_") or name in beside) and name != key and _numeric(field)
    }


def _only_column(scores: Joined, directions: Mapping[str, str]) -> str:
    numeric = _numeric_columns(scores)
    known = [n for n in numeric if n in directions or n in scores.directions or published_direction(n)]
    candidates = known or numeric
    # The sub-terms of a score stand beside it; the score itself comes first and is meant.
    main = [n for n in candidates if not any(n.startswith(f"{other}_") for other in candidates)]
    if not main:
        raise InputError(
            f"{scores.location} has no score column; it has {', '.join(scores.fields) or 'ids alone'}",
            "make one with prune score, or use --method random",
        )
    if len(main) > 1:
        raise InputError(f"{scores.location} has several score columns: {', '.join(main)}", f"name one: -p key={main[0]}")
    return main[0]


def _numeric_columns(scores: Joined) -> list[str]:
    return [name for name, field in scores.fields.items() if name not in _NOT_SCORES and _numeric(field)]


def _numeric(field: pa.Field) -> bool:
    return bool(pa.types.is_floating(field.type) or pa.types.is_integer(field.type) or pa.types.is_decimal(field.type))
