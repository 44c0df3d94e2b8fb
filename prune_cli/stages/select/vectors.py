"""The vectors and probabilities a selection goes by: which file has them, whether they fit, what the methods see of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress
from prune_cli.io.ids.columns import ID
from prune_cli.io.manifests.features import FeatureFile, ProbabilityFile, StreamedFeatures
from prune_cli.io.manifests.joined import Joined
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.parquet.provenance import read_provenance
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.methods.registry.method import Method
from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Features
from prune_cli.methods.selection.greedy.partitions import sizes_of
from prune_cli.stages.frame.memory import PROCESS_BYTES
from prune_cli.stages.select.files import SelectionRows
from prune_cli.stages.select.key import Key, sub_terms

if TYPE_CHECKING:
    from prune_cli.stages.select.command import SelectOptions

LIBRARY_BYTES = 500 * 2**20
"""Memory of torch and numba: a measured upper bound."""


def feature_file(options: SelectOptions, method: Method, scores: Joined, key: Key | None) -> FeatureFile | None:
    """Return where the vectors are, for a method that needs them: the file named, or the scores' own column."""
    if "features" not in method.uses:
        if options.features is not None:
            raise InputError(f"{method.name} goes by no features, and --features is given", "leave it out")
        return None
    if options.features is not None:
        source = ParquetSource(options.features)
    else:
        own = [s for s in scores.sources if options.embedding_column in s.schema.names]
        if not own:
            data = next(
                (i["name"] for s in scores.sources for i in (read_provenance(s.schema) or {}).get("inputs", [])),
                "DATA",
            )
            raise InputError(
                f"{method.name} needs features, and {scores.location} has no column '{options.embedding_column}'",
                f"make them: prune score {data} --method {key.name if key and key.name != 'cg' else 'loss'} --epochs 1 "
                "--save-features features.parquet -o short.scores.parquet\n  and add: --features features.parquet (a file with the "
                "column of your own works too); or choose by the score alone: --method top, --method stratified",
            )
        source = own[0]
    return FeatureFile(
        source,
        scores.ids,
        id_column=options.id_column if options.id_column in source.schema.names else ID,
        embedding_column=options.embedding_column,
    )


def probability_file(
    options: SelectOptions, method: Method, scores: Joined, features: FeatureFile | None
) -> ProbabilityFile | None:
    """Return where the probabilities are, for a method that needs them: a file named, that of the features, or the scores'."""
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
    return ProbabilityFile(
        source,
        scores.ids,
        id_column=options.id_column if options.id_column in source.schema.names else ID,
        embedding_column=options.prob_column,
        option="--prob-column",
    )


def read_features(
    options: SelectOptions,
    method: Method,
    params: Any,
    features: FeatureFile | None,
    ledger: Ledger,
    progress: Progress,
) -> np.ndarray | None:
    """Return the vectors in memory; None where there are none or they stay in the file, once all were looked at."""
    if features is None:
        return None
    if streams(options, method, params, features):
        features.check(ledger, progress)
        return None
    if not fits(options, features):
        StreamedFeatures(features, np.arange(features.rows)).array()
    return features.load(ledger, progress)


def fits(options: SelectOptions, features: FeatureFile) -> bool:
    return 2 * features.nbytes <= options.runtime.memory_budget()


def partitions_of(params: Any) -> int:
    """Return how many partitions a method's parameters ask for, 1 where they know of none."""
    return getattr(params, "parts", None) or 1


def streams(options: SelectOptions, method: Method, params: Any, features: FeatureFile) -> bool:
    """Return whether the vectors stay in the file: they do not fit, and the method reads blocks or one partition at a time."""
    return (method.reads_blocks or partitions_of(params) > 1) and not fits(options, features)


def held_bytes(options: SelectOptions, method: Method, params: Any, features: FeatureFile) -> int:
    """Return the bytes of the vectors that are in memory together: of all, of one partition and its halo, or of a few blocks."""
    if not streams(options, method, params, features):
        return features.nbytes
    if partitions_of(params) == 1:
        return 0
    return 4 * features.width * sum(sizes_of(params.parts, params.overlap, features.rows))


def engine_bytes(options: SelectOptions, method: Method, params: Any, features: FeatureFile) -> int:
    """Return the bytes of this process while blocks of work run, those of the blocks aside."""
    return PROCESS_BYTES + LIBRARY_BYTES + held_bytes(options, method, params, features)


def memory_left(options: SelectOptions, method: Method, params: Any, features: FeatureFile | None) -> int:
    """Return the bytes a method may take beside the rows and its features."""
    held = held_bytes(options, method, params, features) if features is not None else 0
    return max(0, options.runtime.memory_budget() - LIBRARY_BYTES - 3 * held)


def candidates_of(rows: SelectionRows, positions: np.ndarray | None, values_nd: np.ndarray | None) -> Candidates:
    """Return the rows that can be kept as the methods see them, numbered from 0.

    Args:
        rows: all rows.
        positions: (M,) those that can be kept, or None for all: then nothing is copied.
        values_nd: (N, D) vectors in memory, or None.
    """
    order_n = rows.scores.ids.order_n
    if positions is not None:
        number = np.full(len(order_n), -1, order_n.dtype)
        number[positions] = np.arange(len(positions))
        order_n = number[order_n]
        order_n = order_n[order_n >= 0]
    at: np.ndarray | slice = slice(None) if positions is None else positions
    features: Features | None = None
    if values_nd is not None:
        features = ArrayFeatures(values_nd[at])
    elif rows.features is not None:
        features = StreamedFeatures(rows.features, np.arange(len(order_n)) if positions is None else positions)
    labels, key, tie = rows.scores.labels, rows.key, rows.tie
    codes_n = labels.codes_n[at] if labels is not None else None
    if rows.features is not None:  # torch and faiss index by int64 alone
        order_n = order_n.astype(np.int64)
        codes_n = codes_n.astype(np.int64) if codes_n is not None else None
    terms = sub_terms(rows.scores, key.name) if key is not None else {}
    return Candidates(
        order_n,
        difficulty_n=key.difficulty()[at] if key is not None else None,
        tie_n=tie.difficulty()[at] if tie is not None else None,
        columns={name: values[at] for name, values in terms.items()},
        codes_n=codes_n,
        features=features,
        kept_n=rows.wishes.keep[at] if rows.wishes.keep.any() else None,
        probabilities=StreamedFeatures(rows.probabilities, np.arange(len(order_n)) if positions is None else positions)
        if rows.probabilities is not None
        else None,
    )
