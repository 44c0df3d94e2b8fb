"""Names of what a selection is handed on as: ``prune manifest export --to``."""

from __future__ import annotations

ONE_FILE = {"ids": ".txt", "csv": ".csv", "uids": ".npy", "ultralytics": ".txt"}
"""Target that is one file -> how its name ends."""

FOLDERS = ("parquet", "folder", "webdataset")
TARGETS = (*ONE_FILE, *FOLDERS)
