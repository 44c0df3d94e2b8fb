"""Scores of features, whichever source they come from, and the file that features are kept in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.io.ids.columns import ID, canonical_order
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import write_table
from prune_cli.methods.training.data.augment import choose_augmentation
from prune_cli.methods.training.data.inputs import Inputs
from prune_cli.methods.training.networks.predict import Look, Prediction, augmentation_draws, predict
from prune_cli.stages.score.contract import Job, Scored, Scoring


@dataclass(frozen=True, eq=False)
class Features:
    """What a network makes of the samples.

    Args:
        embeddings_nd: (N, D) float.
        probs_nc: (N, C) float, of the classes.
        classes: their stored values, None where nobody knows them.
    """

    embeddings_nd: np.ndarray
    probs_nc: np.ndarray
    classes: pa.Array | None


def score_features(job: Job, scoring: Scoring, features_nd: np.ndarray) -> Scored:
    """Return the scores that go by features."""
    scored, request, runtime = Scored(), job.request, job.options.runtime
    for name, params in request.of("features").items():
        scored.columns |= request.methods[name].load()(
            features_nd,
            scoring.labels.codes_n,
            params,
            order_n=canonical_order(scoring.ids),
            seed=runtime.seed,
            device=runtime.device,
            progress=scoring.progress,
        )
        scored.stated[name] = {"source": request.features}
    return scored


def keep_features(job: Job, scoring: Scoring, found: Features) -> Scored:
    """Return what writes the features where they are to be kept; nothing elsewhere."""
    output = job.options.save_features
    if output is None:
        return Scored()
    return Scored(files=[lambda provenance: _write(output, scoring.ids, found, provenance)])


def class_values(dataset: Dataset) -> pa.Array:
    """Return the stored values of the classes of a data set."""
    return pa.array(list(dataset.labels.classes), dataset.labels.type)


def features_of(found: Prediction, classes: pa.Array | None) -> Features:
    """Return the features of a prediction.

    Raises:
        ValueError: its embeddings were not asked for.
    """
    if found.embeddings_nd is None:
        raise ValueError("a prediction without embeddings")
    return Features(found.embeddings_nd, found.probs_nc(), classes)


def embed(
    tensors: Mapping[str, np.ndarray], model: Mapping[str, Any], inputs: Inputs, classes: pa.Array | None, job: Job, scoring: Scoring
) -> Features:
    """Return what a network makes of the samples, augmented where that was asked for."""
    runtime = job.options.runtime
    augmentation, draws_nk = None, None
    if is_augmented(job):
        dataset = job.dataset
        augmentation = choose_augmentation("strong", tuple(inputs.shape[1:]), None, 1.0, convolutional=True)
        rank_n = np.empty(len(dataset), np.int64)
        rank_n[dataset.order_n] = np.arange(len(dataset))
        draws_nk = augmentation_draws(augmentation, rank_n[scoring.rows], len(dataset), runtime.seed)
    found = predict(
        tensors,
        model,
        inputs,
        runtime=runtime,
        look=Look(embeddings=True, augmentation=augmentation, draws_nk=draws_nk),
        progress=scoring.progress,
        note=scoring.note,
    )
    return features_of(found, classes)


def is_augmented(job: Job) -> bool:
    """Return whether features are taken of augmented pictures."""
    return job.request.training.augment != "none"


def _write(output: str, ids: pa.Array, found: Features, provenance: Provenance) -> None:
    """Write ``id``, ``embedding``, ``prob`` and ``prediction``: a label, or the number of a class the data has no name for."""
    predicted_n = pa.array(found.probs_nc.argmax(axis=1))
    table = pa.table(
        {
            ID: ids,
            "embedding": _vectors(found.embeddings_nd),
            "prob": _vectors(found.probs_nc),
            "prediction": found.classes.take(predicted_n) if found.classes is not None else predicted_n,
        }
    )
    write_table(output, table, provenance, row_group_rows=8192)


def _vectors(values_nd: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values_nd, dtype=np.float32).ravel(), pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, values_nd.shape[1])
