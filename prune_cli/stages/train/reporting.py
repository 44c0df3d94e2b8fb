"""``--report-to``: where the history of a training also goes while it trains."""

from __future__ import annotations

from pathlib import Path

from prune_cli.core.errors import InputError
from prune_cli.io.runs.events import EventFolder, require
from prune_cli.io.stores.locations import require_local

TENSORBOARD = "tensorboard"


def event_folder(report_to: str | None, output: Path) -> EventFolder | None:
    """Return where events go: beside the output, or in a folder of its name below the one that is named.

    Not inside a run folder, which appears whole or not at all and is the same with and without a report.

    Args:
        report_to: ``tensorboard`` or ``tensorboard:DIR``; None for nowhere.
        output: of the run.
    Raises:
        InputError: another name.
        UnavailableError: the package is missing.
    """
    if report_to is None:
        return None
    name, colon, folder = report_to.partition(":")
    if name != TENSORBOARD or (colon and not folder):
        raise InputError(f"--report-to {report_to!r} is not known", f"use {TENSORBOARD} or {TENSORBOARD}:DIR")
    require_local(folder, f"--report-to {name}")
    require()
    return EventFolder(Path(folder) / output.name if folder else output.with_name(f"{output.name}.tensorboard"))
