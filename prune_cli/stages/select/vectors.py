"""The vectors and probabilities a selection goes by: which file has them, and reading them."""

from __future__ import annotations

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress
from prune_cli.io.ids.columns import ID
from prune_cli.io.manifests.features import FeatureFile, ProbabilityFile, StreamedFeatures
from prune_cli.io.manifests.joined import Joined
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.parquet.provenance import read_provenance
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.stages.select.key import Key
from prune_cli.stages.select.memory import VectorMemory
from prune_cli.stages.select.request import Request


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
            data = next(
                (i["name"] for s in scores.sources for i in (read_provenance(s.schema) or {}).get("inputs", [])), "DATA"
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
    return ProbabilityFile(
        source,
        scores.ids,
        id_column=options.id_column if options.id_column in source.schema.names else ID,
        embedding_column=options.prob_column,
        option="--prob-column",
    )


def read_features(memory: VectorMemory, ledger: Ledger, progress: Progress) -> np.ndarray | None:
    """Return the vectors in memory; None where there are none or they stay in the file, once all were looked at."""
    features = memory.features
    if features is None:
        return None
    if memory.streamed:
        features.check(ledger, progress)
        return None
    if not memory.fits:
        StreamedFeatures(features, np.arange(features.rows)).array()
    return features.load(ledger, progress)
