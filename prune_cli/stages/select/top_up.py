"""``prune manifest top-up``: rows added to a selection, without a change of what it keeps."""

from __future__ import annotations

import dataclasses

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.io.stores.locations import stem_of
from prune_cli.methods.registry.selections import DEFAULT_BY_SCORE
from prune_cli.stages.frame.outcome import Outcome
from prune_cli.stages.select.command import select
from prune_cli.stages.select.options import SelectOptions


def top_up(before: str, options: SelectOptions, progress: Progress = silent) -> Outcome:
    """Select so many rows that those an older selection keeps are among them, first and in their order.

    The method sees the rows that are kept already, as with ``prune select --keep``, and chooses the others by the new scores: among
    rows that the older selection left out and rows that it did not know.

    Args:
        before: the older selection.
        options: of ``prune select``, with a budget of rows kept in all.
        progress: told how far it is.
    Raises:
        InputError: a row that was kept and has no score, must be dropped, or is beyond the budget; see `select`.
        BadRowsError: see `select`.
    """
    if not options.fractions and not options.counts:
        raise InputError(
            "top-up needs a budget",
            "give --count 1200 or --fraction 0.3: the rows kept in all, those that were kept before among them",
        )
    output = options.output or f"{stem_of(before).removesuffix('.selection')}.top-up.parquet"
    adding = dataclasses.replace(options, before=before, method=options.method or DEFAULT_BY_SCORE, output=output)
    outcome = select(adding, progress)
    if "kept" in outcome.tables:
        column = ["kept before", *(f"{made['rows_kept_before']:,}" for made in outcome.summary["outputs"])]
        outcome.tables["kept"] = [[*row, cell] for row, cell in zip(outcome.tables["kept"], column, strict=True)]
    return outcome
