"""What a network that exists says of the samples, in blocks of rows: pictures travel as the files they are, and are decoded where they
are looked at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import Runtime
from prune_cli.engines.engine import Arrays, Block, Engine
from prune_cli.engines.handout import MapBlocks
from prune_cli.io.images.column import decode_images
from prune_cli.io.images.decoding import BadImage, ImageSettings, encoded_bytes
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.runs.finished import BlockFolder
from prune_cli.methods.scores.record.grand import gradients_of
from prune_cli.methods.scores.record.needs import Variant
from prune_cli.methods.training.networks.predict import BATCH_SIZE, Look, Prediction, predict, ready_network
from prune_cli.stages.score.sources.model.networks import Model

_BLOCK_ROWS = 1024
_WEIGHT = "weight:"
_READY: dict[str, Any] = {}
"""The network of the last block that this process looked at, by what it is and where: the next block mostly wants the same."""


def look_on_engine(
    dataset: Dataset,
    model: Model,
    codes_n: np.ndarray | None,
    within: np.ndarray,
    ledger: Ledger,
    engine: Engine,
    store: BlockFolder,
    runtime: Runtime,
    *,
    embeddings: bool,
    gradients: Variant | None,
    progress: Progress = silent,
) -> tuple[np.ndarray, Prediction]:
    """Return the rows that are good, and what the network says of these; the others go to the ledger.

    Args:
        codes_n: (N,) classes of all rows as the network counts them, or None.
        within: (M,) int64, the rows that are meant, ascending.
        ledger: receives bad rows; those it has already are not looked at.
        runtime: batch size, precision, device.
        gradients: the variant of `grand` whose norms are wanted, or None.
    """
    size = runtime.batch_size or BATCH_SIZE
    unit = size * max(1, _BLOCK_ROWS // size)
    wanted = within[ledger.good(len(dataset))[within]]
    starts = np.flatnonzero(np.diff(wanted // unit, prepend=-1))
    weights = {f"{_WEIGHT}{name}": tensor for name, tensor in model.tensors.items()}
    values: dict[str, Any] = {
        "model": dict(model.model),
        "weights": _digest(weights),
        "kind": dataset.kind,
        "size": dataset.options.image_size,
        "max_pixels": dataset.options.max_pixels,
        "embeddings": embeddings,
        "gradients": gradients,
        "batch_size": runtime.batch_size,
        "precision": runtime.precision,
        "device": "cuda" if runtime.device.startswith("cuda") else runtime.device,
    }
    blocks = [
        Block(f"rows {rows[0]}-{rows[-1]} of {unit}", values, _gatherer(dataset, rows, codes_n))
        for rows in (np.split(wanted, starts[1:]) if len(wanted) else [])
    ]
    found = [*MapBlocks(engine, store, progress)("predict", f"{__name__}:look_at_block", blocks, shared=weights)]
    for arrays in found:
        for row, path, reason in json.loads(arrays["bad"].tobytes()):
            ledger.add(row, reason, path)
    joined = {name: np.concatenate([arrays[name] for arrays in found]) for name in (found[0] if found else ()) if name not in {"bad"}}
    n_classes = int(model.model["n_classes"])
    prediction = Prediction(joined.get("logits", np.zeros((0, n_classes), np.float32)), joined.get("embeddings"), joined.get("norms"))
    return wanted[ledger.good(len(dataset))[wanted]], prediction


def look_at_block(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, np.ndarray]:
    """Return ``logits``, and as wanted ``embeddings`` and ``norms``, of the good rows of a block, and as JSON its ``bad`` ones.

    Args:
        values: the model, and how it looks.
        arrays: its weights; ``places`` and ``labels`` (B,) of the rows; their vectors ``rows`` (B, D), or their pictures as files:
            ``data`` (bytes one behind another), ``offsets`` (B + 1,), and ``unread``, JSON of the rows without.
    """
    tensors = {name.removeprefix(_WEIGHT): array for name, array in arrays.items() if name.startswith(_WEIGHT)}
    places, labels, bad = arrays["places"], arrays.get("labels"), list[tuple[int, str | None, str]]()
    if values["kind"] == "image":
        inputs, bad = _decoded(values, arrays)
        good = ~np.isin(places, [row for row, _, _ in bad])
        inputs, places = inputs[good], places[good]
        labels = labels[good] if labels is not None else None
    else:
        inputs = arrays["rows"]
    made: dict[str, np.ndarray] = {"bad": np.frombuffer(json.dumps(bad).encode(), np.uint8)}
    if not len(places):
        return made | {"logits": np.zeros((0, int(values["model"]["n_classes"])), np.float32)}
    gradients = values["gradients"]
    found = predict(
        tensors,
        values["model"],
        inputs,
        runtime=Runtime(device=values["device"], precision=values["precision"], batch_size=values["batch_size"], workers=1),
        look=Look(
            embeddings=values["embeddings"],
            gradient_norms=None if gradients is None else gradients_of(gradients),
            labels_n=labels,
            places_n=places,
        ),
        network=_network(tensors, values),
        progress=progress,
    )
    named = {"logits": found.logits_nc, "embeddings": found.embeddings_nd, "norms": found.gradient_norms_n}
    return made | {name: array for name, array in named.items() if array is not None}


def _network(tensors: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> Any:
    key = json.dumps([values["weights"], values["model"], values["device"]], sort_keys=True)
    if key not in _READY:
        _READY.clear()
        _READY[key] = ready_network(tensors, values["model"], values["device"])
    return _READY[key]


def _digest(tensors: Arrays) -> str:
    """Return a name of some tensors by their content."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(f"{name} {tensor.dtype} {tensor.shape} ".encode())
        found.update(np.ascontiguousarray(tensor).data)
    return found.hexdigest()


def _gatherer(dataset: Dataset, rows: np.ndarray, codes_n: np.ndarray | None) -> Any:
    def gather() -> Arrays:
        labels = {} if codes_n is None else {"labels": codes_n[rows]}
        common = {"places": rows, **labels}
        if dataset.kind == "embedding":
            return {**common, "rows": dataset.load_inputs(Ledger(), rows=rows, as_float32=True)}
        return {**common, **_encoded(dataset, rows)}

    return gather


def _encoded(dataset: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the pictures' files one behind another, those that are named by a path read here."""
    settings = dataset.image_settings()
    files: list[bytes] = []
    unread: list[tuple[int, str | None, str]] = []
    column = pa.concat_arrays(list(dataset.image_batches(rows)))
    for row, value in zip(rows.tolist(), column.to_pylist(), strict=True):
        content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        path = content if isinstance(content, str) else path
        try:
            files.append(encoded_bytes(content if content is not None else path, settings.root, settings.max_pixels))
        except BadImage as reason:
            files.append(b"")
            unread.append((row, path, str(reason)))
    return {
        "data": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "unread": np.frombuffer(json.dumps(unread).encode(), np.uint8),
    }


def _decoded(values: Mapping[str, Any], arrays: Arrays) -> tuple[np.ndarray, list[tuple[int, str | None, str]]]:
    places, offsets, data = arrays["places"], arrays["offsets"], arrays["data"]
    unread = [(row, path, reason) for row, path, reason in json.loads(arrays["unread"].tobytes())]
    skipped = {row for row, _, _ in unread}
    files = pa.array(
        [None if row in skipped else data[offsets[k] : offsets[k + 1]].tobytes() for k, row in enumerate(places.tolist())], pa.binary()
    )
    channels: Literal[1, 3] = 1 if values["model"]["input_size"][2] == 1 else 3
    size = tuple(values["size"]) if values["size"] is not None else None
    settings = ImageSettings(max_pixels=values["max_pixels"], size=size, channels=channels)
    decoded = decode_images(lambda: [files], len(files), settings)
    bad = [(int(places[row]), path, reason) for row, path, reason in decoded.bad if int(places[row]) not in skipped]
    return decoded.images_nhwc, [*unread, *bad]
