"""Names of what other tools write that manifests are made of: ``prune manifest import --from``."""

from __future__ import annotations

SELECTIONS = ("indices", "ids", "csv", "uids")
"""Files of what is kept."""

ORIGINS = ("cleanlab", "scores", *SELECTIONS)
