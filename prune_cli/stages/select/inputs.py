"""What a selection reads: scores, vectors and what the user says of single rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prune_cli.core.progress import Progress
from prune_cli.io.manifests.features import FeatureFile, ProbabilityFile
from prune_cli.io.manifests.joined import Joined
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.methods.selection.capabilities import ByThreshold
from prune_cli.stages.frame.directions import parse_directions
from prune_cli.stages.frame.memory import RowMemory
from prune_cli.stages.select.key import Key, read_key, read_tie
from prune_cli.stages.select.memory import VectorMemory, row_memory
from prune_cli.stages.select.request import Request
from prune_cli.stages.select.vectors import feature_file, probability_file, read_features
from prune_cli.stages.select.wishes import Wishes, read_wishes


@dataclass(frozen=True)
class Threshold:
    """A threshold of a score that takes the place of a budget.

    Args:
        value: of the score.
        key: the score.
        params: of the method that says which rows are beyond it.
    """

    value: float
    key: Key
    params: ByThreshold

    def beyond(self) -> np.ndarray:
        """Return (N,) bool, rows at or beyond it."""
        bound = self.value if self.key.direction == "harder" else -self.value
        return self.params.beyond(self.key.difficulty(), bound)


@dataclass(frozen=True)
class Inputs:
    """What is known before any row is looked at, by position.

    Args:
        scores: ids, labels and scores.
        key, tie: the score the selection goes by and the one that breaks its ties, or None.
        threshold: what takes the place of a budget, or None.
        probabilities: where the probabilities are, or None.
        wishes: rows that the user wants kept or dropped.
        memory: what the rows take.
        vectors: what their vectors take.
    """

    scores: Joined
    key: Key | None
    tie: Key | None
    threshold: Threshold | None
    probabilities: ProbabilityFile | None
    wishes: Wishes
    memory: RowMemory
    vectors: VectorMemory

    @property
    def features(self) -> FeatureFile | None:
        """Where the vectors are, or None."""
        return self.vectors.features


@dataclass(frozen=True)
class SelectionRows(Inputs):
    """The rows to choose from.

    Args:
        good: (N,) bool, rows with all that is needed.
        values_nd: (N, D) their vectors, or None where there are none or they stay in the file.
    """

    good: np.ndarray
    values_nd: np.ndarray | None

    @property
    def eligible(self) -> np.ndarray:
        """(N,) bool, rows that can be kept."""
        rows: np.ndarray = self.good & ~self.wishes.drop
        return rows


def open_inputs(request: Request) -> Inputs:
    """Return what is read, its files opened and joined.

    Raises:
        InputError: a file or column is missing or is not what it should be, or the rows do not fit the memory.
    """
    options, method = request.options, request.method
    scores = Joined(options.scores, id_column=options.id_column, label_column=options.label_column)
    memory = row_memory(request, len(scores.ids))
    if not options.plan:
        memory.check()
        scores.match(memory.for_sorting)
    if (options.per_class or "labels" in method.uses) and scores.labels is None:
        scores.sources[0].require(options.label_column, "--label-column")
    directions = parse_directions(options.directions)
    key = tie = threshold = None
    if request.needs_key:
        key = read_key(scores, request.keys.key, directions)
        tie = read_tie(scores, key, request.keys.tie, directions)
        if options.threshold is not None and isinstance(request.params, ByThreshold):
            threshold = Threshold(options.threshold, key, request.params)
    features = feature_file(request, scores, key)
    probabilities = probability_file(request, scores, features)
    wishes = read_wishes(options, scores)
    vectors = VectorMemory(request, features)
    return Inputs(scores, key, tie, threshold, probabilities, wishes, memory, vectors)


def read_rows(inputs: Inputs, ledger: Ledger, progress: Progress) -> SelectionRows:
    """Return the rows to choose from; those that lack something go to the ledger.

    Raises:
        InputError: the vectors do not fit the memory, or a row of the selection that is topped up lacks something.
    """
    for column in (inputs.key, inputs.tie):
        if column is not None:
            bad = np.flatnonzero(~np.isfinite(column.values_n))
            ledger.add_all(bad, f"no score: '{column.name}' is null, NaN or infinite")
    values_nd = read_features(inputs.vectors, ledger, progress)
    if inputs.probabilities is not None:
        inputs.probabilities.check(ledger, progress)
    labels = inputs.scores.labels
    if "labels" in inputs.vectors.request.method.uses and labels is not None:
        ledger.add_all(np.flatnonzero(labels.codes_n < 0), "missing label")
    inputs.wishes.check_kept(ledger, inputs.scores)
    return SelectionRows(**vars(inputs), good=ledger.good(len(inputs.scores.ids)), values_nd=values_nd)
