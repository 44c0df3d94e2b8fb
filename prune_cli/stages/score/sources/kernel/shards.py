"""A part of the blocks of kernel scores: written by itself, and all parts put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.engines.engine import Arrays
from prune_cli.io.ids.columns import Labels
from prune_cli.io.manifests.shards import BlockRows, ShardFile, write_shard
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.scores.kernel.params import KernelScoreParams
from prune_cli.methods.scores.kernel.pieces.kinds import Piece, SetPiece
from prune_cli.methods.scores.kernel.pieces.solving import piece_of
from prune_cli.methods.scores.kernel.solver.problem import Problem
from prune_cli.stages.score.contract import Scored
from prune_cli.stages.score.sources.kernel.scores import KernelBlocks, KernelPlan, finish_scores
from prune_cli.stages.score.sources.kernel.work import Computed, KernelWork, Shard


def write_kernel_shard(
    blocks: KernelBlocks, work: KernelWork, shard: Shard, labels: Labels, provenance: Provenance, output: str, source: ParquetSource
) -> None:
    """Write a part."""
    pieces = zip(blocks.plan.pieces, blocks.computed, strict=True)
    rows = [
        _rows_of(number, piece, block, arrays)
        for number, (piece, computed) in enumerate(pieces)
        for block, arrays in zip(computed.numbers, computed.arrays, strict=True)
    ]
    plan = _plan_values(blocks.plan, work.codes_n)
    write_shard(output, shard, plan, rows, work.ids, labels.values(), work.codes_n, provenance, source)


def finish_kernel_shards(parts: Sequence[ShardFile], table: pa.Table, found: Scored) -> None:
    """Add the scores of all parts to what was found.

    Args:
        table: position and code of each sample.
    Raises:
        InputError: parts that have not all blocks, or one twice.
    """
    told = parts[0].plan
    codes_n = table["code"].to_numpy().astype(np.int64)
    methods = {name: find_method("score", name).params_class()(**params) for name, params in told["methods"].items()}
    in_piece = {number: methods[name] for name, number in told["piece_of"].items()}
    pieces = [_piece_of(problem, in_piece[n], len(codes_n)) for n, (_, problem) in enumerate(told["pieces"])]
    plan = KernelPlan(methods, told["n_classes"], told["precision"], pieces, told["piece_of"])
    place = np.full(int(table["position"].to_numpy()[-1]) + 1, -1, np.int64)
    place[table["position"].to_numpy()] = np.arange(len(table))
    computed = []
    for number, piece in enumerate(plan.pieces):
        blocks = sorted((b for part in parts for b in part.blocks if b.piece == number), key=lambda b: b.block)
        if [b.block for b in blocks] != list(range(told["blocks"][number])):
            raise InputError("the parts have not all blocks, or one twice", "make them again with the same options")
        placed = [dataclasses.replace(b, positions=place[b.positions]) for b in blocks]
        computed.append(Computed([b.block for b in blocks], [_arrays_of(b, piece) for b in placed]))
    finish_scores(plan, computed, codes_n, found)


def _rows_of(number: int, piece: Piece, block: int, arrays: Arrays) -> BlockRows:
    values = [arrays[name][:, None] for name in piece.vectors]
    values += [arrays[piece.matrix]] if piece.matrix is not None else []
    facts = {name: array.item() for name, array in arrays.items() if array.ndim == 0}
    return BlockRows(number, block, arrays["positions"], np.concatenate(values, axis=1), facts)


def _arrays_of(block: BlockRows, piece: Piece) -> Arrays:
    vectors = {name: block.values_bk[:, k] for k, name in enumerate(piece.vectors)}
    matrix = {piece.matrix: block.values_bk[:, len(vectors) :]} if piece.matrix is not None else {}
    facts = {name: np.asarray(value) for name, value in block.facts.items()}
    return {**vectors, **matrix, "positions": block.positions, **facts}


def _plan_values(plan: KernelPlan, codes_n: np.ndarray) -> dict[str, Any]:
    return {
        "methods": {name: dataclasses.asdict(params) for name, params in plan.methods.items()},
        "n_classes": plan.n_classes,
        "precision": plan.precision,
        "pieces": [[list(p.kernel), list(p.problem) if isinstance(p, SetPiece) else None] for p in plan.pieces],
        "piece_of": dict(plan.piece_of),
        "blocks": [len(piece.block_names(codes_n)) for piece in plan.pieces],
    }


def _piece_of(problem: list[Any] | None, params: KernelScoreParams, n_samples: int) -> Piece:
    """Return the piece of a score, with the problem that its part states."""
    needs = params.needs(n_samples)
    piece = piece_of(params, needs, needs.ridge or 0.0)
    return dataclasses.replace(piece, problem=Problem(*problem)) if isinstance(piece, SetPiece) and problem else piece
