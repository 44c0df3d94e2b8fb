"""How manifests are put together: names of ``prune manifest merge --how``, and its options."""

from __future__ import annotations

from dataclasses import dataclass, field

from prune_cli.core.runtime import Runtime

JOIN = "join"
SET_OPERATIONS = ("union", "intersect", "difference", "quota")
"""Of selections; ``join`` is of scores."""

HOWS = (JOIN, *SET_OPERATIONS)


@dataclass(frozen=True)
class MergeOptions:
    """The options of ``prune manifest merge``; see docs/commands.md."""

    files: tuple[str, ...]
    how: str = JOIN
    quotas: tuple[str, ...] = ()
    selected_only: bool = False
    id_column: str = "id"
    label_column: str = "label"
    runtime: Runtime = field(default_factory=Runtime)
    output: str | None = None
    force: bool = False
    plan: bool = False
