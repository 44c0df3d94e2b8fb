"""The options of ``prune manifest merge`` and ``prune manifest import``, and the names they may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.data import DataOptions

JOIN = "join"
SET_OPERATIONS = ("union", "intersect", "difference", "quota")
"""Of selections; ``join`` is of scores."""

HOWS = (JOIN, *SET_OPERATIONS)


class Origin(NamedTuple):
    """A kind of file that another tool writes.

    Args:
        summary: what help calls it.
        makes: the manifest that becomes of it.
        reader: name of the function in `prune_cli.stages.manifest.readers` that reads it.
        options: options of ``prune manifest import`` that have a meaning with it, beside those that all share.
    """

    summary: str
    makes: Literal["scores", "selection"]
    reader: str
    options: tuple[str, ...] = ()


ORIGINS = {
    "cleanlab": Origin("cleanlab (CSV)", "scores", "read_cleanlab", ("column", "selection")),
    "scores": Origin("scores (.npy)", "scores", "read_scores", ("column", "direction", "ids")),
    "indices": Origin("indices (.npy)", "selection", "read_indices", ("unordered",)),
    "ids": Origin("ids (text)", "selection", "read_ids", ("unordered",)),
    "csv": Origin("csv", "selection", "read_csv", ("unordered",)),
    "uids": Origin("uids (DataComp)", "selection", "read_uids_file"),
}
"""What a manifest is made of: ``prune manifest import --from``."""


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
