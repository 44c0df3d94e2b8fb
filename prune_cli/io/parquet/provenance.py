"""What every file we write says about how it was made: one JSON object under the schema-metadata key ``prune``."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from prune_cli import __version__
from prune_cli.io.stores.locations import name_of
from prune_cli.io.stores.reading import StoredFile, open_input

KEY = b"prune"
FORMAT_VERSION = 1
_KEPT_KEYS = (b"class_names", b"source", b"licence", b"license")


@dataclass(frozen=True)
class InputFile:
    """One input: its name without folder, and the SHA-256 of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """How a file was made. Times, places and memory are left out, so that the same run gives the same bytes.

    Args:
        command: ``score``, ``select``, ...
        method: the method or methods, comma-separated.
        parameters: every parameter with its value, defaults included.
        device: ``cpu`` or the CUDA device's name.
        packages: distributions whose version can change the numbers.
        score_direction: score column -> ``harder`` or ``easier`` when high.
        rows: ``rows_in``, ``rows_out``, ``rows_bad``.
    """

    command: str
    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    inputs: Sequence[InputFile] = ()
    device: str = "cpu"
    packages: Sequence[str] = ()
    score_direction: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the object as it is stored."""
        versions = {"prune": __version__, "python": ".".join(platform.python_version_tuple()[:2])}
        versions |= {name: importlib.metadata.version(name) for name in self.packages}
        return {
            "format_version": FORMAT_VERSION,
            "command": self.command,
            "method": self.method,
            "parameters": dict(self.parameters),
            "seed": self.seed,
            "score_direction": dict(self.score_direction),
            "inputs": [{"name": i.name, "sha256": i.sha256} for i in self.inputs],
            "device": self.device,
            "versions": versions,
            **{k: self.rows.get(k, 0) for k in ("rows_in", "rows_out", "rows_bad")},
        }

    def to_json(self) -> str:
        """Return the object as canonical JSON."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)


def row_counts(rows_in: int, rows_out: int) -> dict[str, int]:
    """Return how many rows came in and went out of a command that calls none bad."""
    return {"rows_in": rows_in, "rows_out": rows_out, "rows_bad": 0}


def with_provenance(schema: pa.Schema, provenance: Provenance, source: Mapping[bytes, bytes] | None) -> pa.Schema:
    """Return ``schema`` with our object, and with what the source file said of its classes.

    An existing ``huggingface`` key is kept for the columns that are still there.
    """
    metadata: dict[bytes, bytes] = {KEY: provenance.to_json().encode()}
    source = source or {}
    metadata |= {key: source[key] for key in _KEPT_KEYS if key in source}
    features = _huggingface_features(source)
    if features:
        kept = {name: features[name] for name in schema.names if name in features}
        metadata[b"huggingface"] = json.dumps({"info": {"features": kept}}, sort_keys=True).encode()
    return schema.with_metadata(metadata)


def read_provenance(schema: pa.Schema) -> dict[str, Any] | None:
    """Return the object of a file we wrote, or None."""
    try:
        found = json.loads((schema.metadata or {}).get(KEY, b"null"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def class_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """Return the class names a file's metadata gives for an integer label column, or None.

    Read from the ``huggingface`` metadata (ClassLabel), else from a ``class_names`` key: a JSON list, or names with
    commas between them. Names that stand twice get the code of their class, so that each names one: see `told_apart`.
    """
    names = _stated_names(schema, column)
    return told_apart(names) if names is not None else None


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of which each stands once: those that stand more often are followed by the code of their class.

    >>> told_apart(["crane", "owl", "crane"])
    ('crane [0]', 'owl', 'crane [2]')
    """
    often = Counter(names)
    found = tuple(name if often[name] == 1 else f"{name} [{code}]" for code, name in enumerate(names))
    return found if len(set(found)) == len(found) else tuple(f"{name} [{code}]" for code, name in enumerate(names))


def _stated_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    metadata = schema.metadata or {}
    feature = _huggingface_features(metadata).get(column)
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
        return tuple(str(name) for name in feature["names"])
    raw = metadata.get(b"class_names")
    if raw is None:
        return None
    text = raw.decode("utf-8", "replace")
    if text.lstrip().startswith("["):
        try:
            return tuple(str(name) for name in json.loads(text))
        except ValueError:
            return None
    return tuple(text.split(","))


def hash_stream(file: BinaryIO) -> str:
    """Return the SHA-256 of a file's bytes from its start; the file is left at its start."""
    if isinstance(file, StoredFile):
        return file.stored.sha256
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return digest


def hash_file(location: str | Path) -> InputFile:
    """Return the name of a file or object, without its folder, and the SHA-256 of its bytes."""
    with open_input(location) as file:
        return InputFile(name_of(location), hash_stream(file))


def _huggingface_features(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}
