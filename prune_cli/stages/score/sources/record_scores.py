"""Scores of records, whichever source they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prune_cli.methods.registry.method import Method
from prune_cli.methods.scores.record.needs import RecordParams
from prune_cli.methods.scores.record.records import Record
from prune_cli.stages.score.contract import Scored
from prune_cli.stages.score.request import RecordFrom, Request


def score_records(request: Request, records: Sequence[Record], source: RecordFrom) -> Scored:
    """Return the scores of the records, averaged over the runs that made them."""
    scored = Scored()
    for name, params in request.records.items():
        scored.columns |= _average(request.methods[name], params, records)
        scored.stated[name] = _facts(params, records, source)
    return scored


def _average(method: Method, params: RecordParams, records: Sequence[Record]) -> dict[str, np.ndarray]:
    found = [method.load()(record, params) for record in records]
    return {name: np.mean([columns[name] for columns in found], axis=0) for name in found[0]}


def _facts(params: RecordParams, records: Sequence[Record], source: RecordFrom) -> dict[str, Any]:
    """Return what provenance says of a score beside its parameters: which passes, how many runs, which mode, whence."""
    record = records[0]
    needs = params.needs(record.n_epochs)
    if needs.watches:
        epochs = [1, needs.epochs]
    elif needs.looks and record.n_epochs:
        epochs = list(needs.looks)
    else:
        epochs = list(record.eval_epochs[-1:])
    return {"epochs_used": epochs, "runs": len(records), "mode": needs.mode, "source": source}
