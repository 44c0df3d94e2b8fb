"""A part of the work of a score, as a Parquet file: what was computed of each sample in each block, before it is put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import ID
from prune_cli.io.parquet.provenance import InputFile, Provenance, read_provenance
from prune_cli.io.parquet.tables import ParquetSource, write_table

SHARD = "shard"
"""Where a file's provenance, among its parameters, says that it is a part, and of what."""

_COLUMNS = ("position", "code", "piece", "block", "values")


@dataclass(frozen=True)
class BlockRows:
    """What one block found of its samples.

    Args:
        positions: (B,) int64, its samples.
        values_bk: (B, K) float64.
        facts: what it says of itself, JSON values.
    """

    piece: int
    block: int
    positions: np.ndarray
    values_bk: np.ndarray
    facts: dict[str, Any]


@dataclass(frozen=True)
class ShardFile:
    """A part that was read.

    Args:
        number, of: it is the number-th of so many.
        plan: what all parts are made of, JSON values.
        stated: its provenance, without the above.
        blocks: what it holds.
        rows: id, label, ``position`` and ``code`` of its samples, each once.
    """

    source: ParquetSource
    number: int
    of: int
    plan: dict[str, Any]
    stated: dict[str, Any]
    blocks: tuple[BlockRows, ...]
    rows: pa.Table


def is_shard(source: ParquetSource) -> bool:
    """Return whether a file is a part of the work of a score."""
    return SHARD in (read_provenance(source.schema) or {}).get("parameters", {})


def write_shard(
    output: str,
    shard: tuple[int, int],
    plan: dict[str, Any],
    blocks: Sequence[BlockRows],
    ids: pa.Array,
    labels: pa.Array,
    codes_n: np.ndarray,
    provenance: Provenance,
    source: ParquetSource,
) -> None:
    """Write a part: a row for each sample of each block.

    Args:
        output: a path, or ``-``.
        shard: (I, N).
        plan: what all parts are made of.
        blocks: of this part; may be none.
        ids, labels, codes_n: of all samples, by position.
    """
    positions = np.concatenate([b.positions for b in blocks]) if blocks else np.zeros(0, np.int64)
    sizes = np.array([b.values_bk.shape[1] for b in blocks], np.int64)
    counts = np.array([len(b.positions) for b in blocks], np.int64)
    offsets = np.concatenate([[0], np.cumsum(np.repeat(sizes, counts))]).astype(np.int64)
    flat = np.concatenate([b.values_bk.ravel() for b in blocks]) if blocks else np.zeros(0)
    taken = pa.array(positions)
    table = pa.table(
        {
            ID: ids.take(taken),
            "label": labels.take(taken),
            "position": taken,
            "code": pa.array(codes_n[positions], pa.int32()),
            "piece": pa.array(np.repeat([b.piece for b in blocks], counts), pa.int32()),
            "block": pa.array(np.repeat([b.block for b in blocks], counts), pa.int32()),
            "values": pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat, pa.float64())),
        }
    )
    told = {"number": shard[0], "of": shard[1], "plan": plan, "blocks": [[b.piece, b.block, len(b.positions), b.facts] for b in blocks]}
    provenance = dataclasses.replace(provenance, parameters={**provenance.parameters, SHARD: told})
    write_table(output, table, provenance, source)


def read_shard(source: ParquetSource) -> ShardFile:
    """Return a part.

    Raises:
        InputError: its rows are not those that it says it has.
    """
    stated = dict(read_provenance(source.schema) or {})
    told = stated["parameters"][SHARD]
    stated["parameters"] = {name: value for name, value in stated["parameters"].items() if name != SHARD}
    for name in _COLUMNS:
        source.require(name)
    table = source.read([ID, "label", *_COLUMNS]).combine_chunks()
    if sum(entry[2] for entry in told["blocks"]) != len(table):
        raise InputError(f"{source.location} has not the rows that it says it has", "make it again")
    positions = table["position"].to_numpy()
    values = table["values"].combine_chunks()
    values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
    flat, offsets = values.values.to_numpy(), values.offsets.to_numpy()
    blocks, start = [], 0
    for piece, block, count, facts in told["blocks"]:
        end = start + count
        part = flat[offsets[start] : offsets[end]].reshape(count, -1) if count else np.zeros((0, 0))
        blocks.append(BlockRows(piece, block, positions[start:end], part, facts))
        start = end
    _, first = np.unique(positions, return_index=True)
    rows = table.select([ID, "label", "position", "code"]).take(pa.array(first))
    return ShardFile(source, told["number"], told["of"], told["plan"], stated, tuple(blocks), rows)


def restored_provenance(stated: dict[str, Any], **changes: Any) -> Provenance:
    """Return the provenance that a file's was made from."""
    as_it_is = {name: stated[name] for name in ("command", "method", "parameters", "seed", "device", "score_direction")}
    made_anew = {
        "inputs": tuple(InputFile(i["name"], i["sha256"]) for i in stated["inputs"]),
        "packages": tuple(name for name in stated["versions"] if name not in {"prune", "python"}),
        "rows": {name: stated[name] for name in ("rows_in", "rows_out", "rows_bad")},
    }
    return Provenance(**as_it_is | made_anew | changes)
