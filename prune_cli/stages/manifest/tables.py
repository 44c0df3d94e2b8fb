"""What manifests are put together and made of, by name: tables that the command line lists without loading anything."""

from __future__ import annotations

from typing import Literal, NamedTuple

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
