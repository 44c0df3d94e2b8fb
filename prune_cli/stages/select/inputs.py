"""What a selection reads: scores, vectors, and what the user says of single rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress
from prune_cli.io.ids.columns import ID, canonical_order, some
from prune_cli.io.manifests.features import FeatureFile, ProbabilityFile, StreamedFeatures
from prune_cli.io.manifests.joined import Joined
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.manifests.selection import Selection, read_listed, read_selection
from prune_cli.io.parquet.provenance import InputFile, hash_file, read_provenance
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.methods.registry.lookup import chosen_in_classes
from prune_cli.methods.selection.capabilities import ByThreshold
from prune_cli.methods.selection.choosing import goes_by_angle
from prune_cli.stages.frame.memory import RowMemory
from prune_cli.stages.frame.outcome import parse_directions
from prune_cli.stages.select.key import Key, read_key, read_tie
from prune_cli.stages.select.memory import VectorMemory, row_memory
from prune_cli.stages.select.request import Request, SelectOptions


@dataclass(frozen=True)
class Wishes:
    """Rows that must be kept or dropped, by position.

    Args:
        keep, drop: (N,) bool, never both.
        keeper: what keeps the rows, for messages: ``--keep FILE names``.
        before: the selection that is topped up, or None; its kept rows are those of ``keep``.
        place_n: (N,) int64 place of each of these in the order of that selection, 1 = first, 0 = not kept; None without it.
        weight_n: (N,) float64 weights of these, NaN where there is none; None where it has no weights.
        inputs: the files.
        notes: what the user should know.
    """

    keep: np.ndarray
    drop: np.ndarray
    keeper: str
    before: Selection | None = None
    place_n: np.ndarray | None = None
    weight_n: np.ndarray | None = None
    inputs: tuple[InputFile, ...] = ()
    notes: tuple[str, ...] = ()

    def check(self, scores: Joined) -> None:
        """Raise where a row must be both kept and dropped."""
        both = self.keep & self.drop
        if both.any():
            kept = f"are kept by {self.before.location}" if self.before is not None else "are in --keep"
            raise InputError(
                f"{int(both.sum())} id(s) {kept} and in --drop, such as {scores.ids.take([both.argmax()])[0]}", "take them out of one"
            )

    def check_kept(self, ledger: Ledger, scores: Joined) -> None:
        """Raise where a row of the selection that is topped up cannot be kept; of ``--keep`` such rows are told later."""
        if self.before is None:
            return
        lost = np.flatnonzero(self.keep & ~ledger.good(len(scores.ids)))
        if len(lost):
            raise InputError(
                f"{len(lost)} row(s) that {self.before.location} keeps have no score or vector in {scores.location}: "
                f"{some(scores.ids.take(lost[:6]))}",
                "score them: rows that were kept stay kept",
            )


def read_wishes(options: SelectOptions, scores: Joined) -> Wishes:
    """Return what the options say of single rows.

    Raises:
        InputError: an id that has no score, or one that must be both kept and dropped.
    """
    drop = read_listed(options.drop, scores.ids, scores.location)
    listed = tuple(hash_file(file) for file in (options.keep, options.drop) if file is not None)
    if options.before is None:
        keep = read_listed(options.keep, scores.ids, scores.location)
        wishes = Wishes(keep, drop, f"--keep {options.keep} names", inputs=listed)
    else:
        before = read_selection(options.before, id_column=options.id_column, label_column=options.label_column)
        wishes = _topping_up(before, scores, drop, listed)
    wishes.check(scores)
    return wishes


def _topping_up(before: Selection, scores: Joined, drop: np.ndarray, listed: tuple[InputFile, ...]) -> Wishes:
    kept = np.flatnonzero(before.selected_n)
    if not len(kept):
        raise InputError(f"{before.location} keeps no row", "select anew: prune select")
    by_id = np.empty(len(before.ids), np.int64)
    by_id[canonical_order(before.ids)] = np.arange(len(before.ids))
    ranks = np.where(before.rank_n[kept] > 0, before.rank_n[kept], np.iinfo(np.int64).max)
    order = kept[np.lexsort((by_id[kept], ranks))]
    notes = []
    try:
        rows = scores.ids.locate(before.ids.take(pa.array(order)), before.location, scores.location)
    except InputError as error:
        raise InputError(error.message, "score old and new rows together: prune score of all the data") from None
    gone = int(np.count_nonzero(scores.ids.find(before.ids) < 0))
    if gone:
        notes.append(f"{gone:,} row(s) that {before.location} leaves out are not in {scores.location}, nor in the result")
    place_n = np.zeros(len(scores.ids), np.int64)
    place_n[rows] = np.arange(1, len(rows) + 1)
    weight_n = None
    if before.weight_n is not None:
        weight_n = np.full(len(scores.ids), np.nan)
        weight_n[rows] = before.weight_n[order]
        notes.append("rows that are added have no weight")
    if not np.array_equal(before.rank_n[order], np.arange(1, len(order) + 1)):
        notes.append(f"ranks in {before.location} have gaps or are missing: its rows keep their order and are ranked anew")
    return Wishes(
        place_n > 0, drop, f"{before.location} keeps", before, place_n, weight_n,
        (*before.source.inputs, *listed), tuple(notes),
    )  # fmt: skip


def feature_file(request: Request, scores: Joined, key: Key | None) -> FeatureFile | None:
    """Return where the vectors are, for a method that needs them: the file named, or the scores' own column."""
    options, method = request.options, request.method
    if "features" not in method.uses:
        if options.features is not None:
            raise InputError(f"{method.name} goes by no features, and --features is given", "leave it out")
        return None
    if options.features is not None:
        source = ParquetSource(options.features)
    else:
        own = [s for s in scores.sources if options.embedding_column in s.schema.names]
        if not own:
            data = next((i["name"] for s in scores.sources for i in (read_provenance(s.schema) or {}).get("inputs", [])), "DATA")
            raise InputError(
                f"{method.name} needs features, and {scores.location} has no column '{options.embedding_column}'",
                f"make them: prune score {data} --method {key.name if key and key.name != 'cg' else 'loss'} --epochs 1 "
                "--save-features features.parquet -o short.scores.parquet\n  and add: --features features.parquet (a file with the "
                "column of your own works too); or choose by the score alone: --method top, --method stratified",
            )
        source = own[0]
    id_column = options.id_column if options.id_column in source.schema.names else ID
    directed = goes_by_angle(request.params)
    return FeatureFile(source, scores.ids, id_column=id_column, embedding_column=options.embedding_column, directed=directed)


def probability_file(request: Request, scores: Joined, features: FeatureFile | None) -> ProbabilityFile | None:
    """Return where the probabilities are, for a method that needs them: a file named, that of the features, or the scores'."""
    options, method = request.options, request.method
    if "probabilities" not in method.uses:
        if options.probabilities is not None:
            raise InputError(f"{method.name} goes by no probabilities, and --probabilities is given", "leave it out")
        return None
    if options.probabilities is not None:
        source = ParquetSource(options.probabilities)
    else:
        sources = [*([features.source] if features is not None else []), *scores.sources]
        there = [s for s in sources if options.prob_column in s.schema.names]
        if not there:
            raise InputError(
                f"{method.name} needs probabilities, and {' and '.join(dict.fromkeys(s.location for s in sources))} has no "
                f"column '{options.prob_column}'",
                "name their column with --prob-column, or their file with --probabilities; prune score --save-features writes both",
            )
        source = there[0]
    id_column = options.id_column if options.id_column in source.schema.names else ID
    return ProbabilityFile(source, scores.ids, id_column=id_column, embedding_column=options.prob_column, option="--prob-column")


@dataclass(frozen=True)
class Threshold:
    """A threshold of a score that takes the place of a budget; ``params`` of the method say which rows are beyond it."""

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
        key, tie: the score the selection goes by and the one that breaks its ties, or None.
        threshold: what takes the place of a budget, or None.
        per_class: whether the method chooses inside each class.
    """

    scores: Joined
    key: Key | None
    tie: Key | None
    threshold: Threshold | None
    probabilities: ProbabilityFile | None
    wishes: Wishes
    memory: RowMemory
    vectors: VectorMemory
    per_class: bool

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
    per_class = options.per_class
    if per_class is None:
        published = chosen_in_classes(method, key.name if key is not None else None)
        per_class = published and threshold is None and scores.labels is not None
    return Inputs(scores, key, tie, threshold, probabilities, wishes, memory, vectors, per_class)


def read_rows(inputs: Inputs, ledger: Ledger, progress: Progress) -> SelectionRows:
    """Return the rows to choose from; those that lack something go to the ledger.

    Raises:
        InputError: the vectors do not fit the memory, or a row of the selection that is topped up lacks something.
    """
    for column in (inputs.key, inputs.tie):
        if column is not None:
            bad = np.flatnonzero(~np.isfinite(column.values_n))
            ledger.add_all(bad, f"no score: '{column.name}' is null, NaN or infinite")
    memory, features, values_nd = inputs.vectors, inputs.features, None
    if features is not None and memory.streamed:
        features.check(ledger, progress)
    elif features is not None:
        if not memory.fits:
            StreamedFeatures(features, np.arange(features.rows)).array()
        values_nd = features.load(ledger, progress)
    if inputs.probabilities is not None:
        inputs.probabilities.check(ledger, progress)
    labels = inputs.scores.labels
    if "labels" in inputs.vectors.request.method.uses and labels is not None:
        ledger.add_all(np.flatnonzero(labels.codes_n < 0), "missing label")
    inputs.wishes.check_kept(ledger, inputs.scores)
    return SelectionRows(**vars(inputs), good=ledger.good(len(inputs.scores.ids)), values_nd=values_nd)
