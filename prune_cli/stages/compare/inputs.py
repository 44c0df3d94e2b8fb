"""What a comparison trains and tests on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prune_cli.core.progress import Progress
from prune_cli.io.ids.columns import Labels
from prune_cli.io.manifests.data import DataOptions, Dataset
from prune_cli.io.manifests.ledger import Ledger, ledger_path, settle
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.stores.locations import STDIN, beside, is_remote
from prune_cli.io.stores.reading import fetch


@dataclass(frozen=True)
class Sets:
    """The two data sets, opened; labels of both by the codes of the first."""

    dataset: Dataset
    test: Dataset
    labels: Labels
    test_labels: Labels


def open_sets(data: DataOptions, test: DataOptions) -> Sets:
    """Return both data sets.

    Raises:
        InputError: a file that cannot be used, or a class of the test set that the data have not.
    """
    dataset, tested = Dataset(data), Dataset(test)
    labels = dataset.labels
    return Sets(dataset, tested, labels, tested.labels.recoded(labels.classes, labels.names, test.location))


def verify_rows(sets: Sets, output: str, workers: int, progress: Progress) -> tuple[np.ndarray, list[str]]:
    """Look at every row of both sets before anything is trained; return (N,) bool rows to train on, and what to warn of.

    Raises:
        BadRowsError: more bad rows than allowed; the ledger is written.
    """
    warnings = []
    good = np.ones(len(sets.dataset), bool)
    stem = f"{sets.dataset.source.stem}.compare"
    for name, one, codes_n in (("", sets.dataset, sets.labels.codes_n), (".test", sets.test, sets.test_labels.codes_n)):
        ledger = Ledger()
        ledger.add_all(np.flatnonzero(codes_n < 0), "missing label")
        one.verify_inputs(ledger, workers=workers, progress=progress)
        path = ledger_path(beside(output, f"{name}.parquet") if output != STDIN else output, stem + name)
        stated = Provenance(
            "compare", "rows", {}, 0, one.source.inputs, packages=("pyarrow",),
            rows={"rows_in": len(one), "rows_out": len(one) - len(ledger), "rows_bad": len(ledger)},
        )  # fmt: skip
        settle(ledger, one.ids, one.options.max_errors, path, stated)
        if len(ledger):
            warnings.append(f"{len(ledger)} bad row(s) of {one.options.location} left out, listed in {path}")
        if one is sets.dataset:
            good = ledger.good(len(one))
    return good, warnings


def at_hand(data: DataOptions, folder: Path) -> DataOptions:
    """Return how to read the data from this machine: where they are, or from a copy of what is in an object store."""
    if not is_remote(data.location):
        return data
    return dataclasses.replace(data, location=fetch(data.location, folder), root=data.root or Path.cwd())
