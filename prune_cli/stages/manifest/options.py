"""The options of ``prune manifest merge`` and ``prune manifest import``."""

from __future__ import annotations

from dataclasses import dataclass, field

from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.data import DataOptions
from prune_cli.stages.manifest.tables import JOIN


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


@dataclass(frozen=True)
class ImportOptions:
    """The options of ``prune manifest import``; see docs/commands.md."""

    file: str
    origin: str
    data: DataOptions | None = None
    ids: str | None = None
    column: str | None = None
    directions: tuple[str, ...] = ()
    selection: bool = False
    unordered: bool = False
    output: str | None = None
    force: bool = False
    plan: bool = False
