"""``prune manifest check``: whether a data manifest is sound."""

from __future__ import annotations

import numpy as np

from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.data import DataOptions, Dataset
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.stages.frame.outcome import Outcome, Stopwatch


def check(options: DataOptions, workers: int, progress: Progress = silent) -> Outcome:
    """Read every row of a data manifest and say what is wrong; nothing is written.

    Returns:
        Outcome with a negative verdict where a row is bad.
    Raises:
        InputError: the file cannot be used at all (missing, truncated, duplicate ids, no inputs).
    """
    watch = Stopwatch()
    outcome = Outcome()
    dataset = Dataset(options)
    ledger = Ledger()
    rows = len(dataset)
    facts: list[list[str]] = [["what", "found"], ["rows", f"{rows:,}"], ["input", dataset.kind]]
    if dataset.ids_made_up:
        outcome.warnings.append(f"no column '{options.id_column}': commands would use the positions, row-00000000 and on")
    if options.label_column in dataset.source.schema.names:
        labels = dataset.labels
        outcome.warnings += labels.doubts()
        ledger.add_all(np.flatnonzero(labels.codes_n < 0), "missing label")
        sizes = np.bincount(labels.codes_n[labels.codes_n >= 0], minlength=len(labels.classes))
        facts.append(["classes", f"{len(labels.classes):,}"])
        if len(sizes):
            smallest, largest = int(sizes.argmin()), int(sizes.argmax())
            names = labels.display_names()
            facts.append(["smallest class", f"{names[smallest]}: {sizes[smallest]:,}"])
            facts.append(["largest class", f"{names[largest]}: {sizes[largest]:,}"])
    else:
        outcome.warnings.append(f"no column '{options.label_column}': score and train need labels (--label-column)")
    shape = dataset.verify_inputs(ledger, workers=Runtime(workers=workers).worker_count(), progress=progress)
    facts.append(["shape of an input", " x ".join(str(s) for s in shape) if shape else "differs: pass --image-size"])
    facts.append(["bad rows", f"{len(ledger):,}"])
    outcome.tables[f"manifest {options.location}"] = facts
    bad = ledger.table(dataset.ids).to_pylist()
    if bad:
        heading = "bad rows" if len(ledger) <= 20 else f"bad rows, the first 20 of {len(ledger):,}"
        outcome.tables[heading] = [["id", "path", "reason"], *([str(r["id"]), r["path"] or "", r["reason"]] for r in bad[:20])]
    outcome.verdict = not len(ledger)
    outcome.summary = watch.summary(
        "manifest check",
        sound=outcome.verdict,
        rows_in=rows,
        rows_bad=len(ledger),
        input=dataset.kind,
        input_shape=list(shape) if shape else None,
        bad=bad,
    )
    return outcome
