"""How manifests are put together: names of ``prune manifest merge --how``."""

from __future__ import annotations

JOIN = "join"
SET_OPERATIONS = ("union", "intersect", "difference", "quota")
"""Of selections; ``join`` is of scores."""

HOWS = (JOIN, *SET_OPERATIONS)
