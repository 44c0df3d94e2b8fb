"""A score in parts: each done by itself, anywhere, and put together to the same bytes as one run gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress
from prune_cli.engines.block import Arrays
from prune_cli.engines.engine import Engine
from prune_cli.io.ids.columns import ID, Labels, some
from prune_cli.io.manifests.shards import BlockRows, ShardFile, read_shard, restored_provenance, write_shard
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.stores.atomic import check_output
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.scores.kernel.problem import Problem
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.score.options import ScoreOptions, Sources
from prune_cli.stages.score.sources.files import write_scores
from prune_cli.stages.score.sources.kernel.scores import KernelPlan, KernelScores, compute_kernel_blocks, finish_scores
from prune_cli.stages.score.sources.kernel.work import Computed, KernelWork, Piece

ROWS = "rows"
"""The kind of part that holds the scores of its own rows."""

_TERMS = {True: ("a2_p", "ab_p", "b2_p"), False: ("diagonal_b", "given_b", "solution_bc")}
"""Fields of a block's result with a number, or more, of each sample: of classes scored one by one, of all at once."""

_UNIT = 8192


def require_divisible(options: ScoreOptions, sources: Sources) -> None:
    """Check that the work can be divided.

    Raises:
        InputError: a training, features, or a kernel that is kept.
    """
    if options.shard is None:
        return
    whole = [
        name
        for name, value in (
            ("--save-features", options.save_features),
            ("--save-dynamics", options.save_dynamics),
            ("--save-kernel", options.save_kernel),
            ("--report-to", options.report_to),
        )
        if value is not None
    ]
    if whole:
        raise InputError(f"{', '.join(whole)} is of all rows, and --shard does a part of the work", "leave one out")
    kernels, of_rows = list(sources.kernels), list(sources.of("record"))
    if (of_rows and sources.record not in {"model", "prob"}) or sources.of("features") or (kernels and of_rows):
        raise InputError(
            f"{', '.join(sources.methods)} cannot be done in parts",
            "--shard divides scores of kernels (cg, ntk_margin, ntk_residual), or scores of a network that exists (--model) or of the "
            "column 'prob'; the others run whole, and prune manifest merge joins their columns",
        )


def default_output(stem: str, shard: tuple[int, int]) -> str:
    """Return where a part goes where nobody says.

    >>> default_output("data", (3, 16))
    'data.scores.3-of-16.parquet'
    """
    return f"{stem}.scores.{shard[0]}-of-{shard[1]}.parquet"


def rows_of_shard(shard: tuple[int, int], rows: int, batch: int) -> np.ndarray:
    """Return (M,) int64, the rows of a part: stretches of whole batches, so that it computes what one run does.

    Args:
        shard: (I, N).
        rows: of the data.
        batch: samples that go through a network together.
    """
    unit = batch * max(1, min(_UNIT, -(-rows // shard[1])) // batch)
    found: np.ndarray = np.flatnonzero(np.arange(rows) // unit % shard[1] == shard[0] - 1)
    return found


@dataclass(frozen=True)
class KernelShard:
    """A part that was computed: what is to be told of it, what all parts are made of, and its blocks."""

    found: KernelScores
    plan: dict[str, Any]
    blocks: list[BlockRows]


def compute_kernel_shard(work: KernelWork, engine: Engine, progress: Progress) -> KernelShard:
    """Return the blocks of the part that the work names."""
    found = KernelScores()
    plan, computed, _ = compute_kernel_blocks(work, found, engine, progress)
    blocks = [
        _rows_of(number, block, arrays, piece.problem is None)
        for number, (piece, of_piece) in enumerate(zip(plan.pieces, computed, strict=True))
        for block, arrays in zip(of_piece.numbers, of_piece.arrays, strict=True)
    ]
    return KernelShard(found, _plan_values(plan, work), blocks)


def write_kernel_shard(made: KernelShard, work: KernelWork, labels: Labels, output: str, source: ParquetSource) -> None:
    """Write a part.

    Args:
        made: its blocks.
        work: as they were computed.
        labels: of the good rows.
        output: where it goes.
        source: the data.
    """
    assert work.shard is not None
    parameters = dict(work.provenance.parameters)
    for name, more in made.found.stated.items():
        parameters[name] = {**parameters[name], **more}
    provenance = dataclasses.replace(work.provenance, parameters=parameters)
    write_shard(output, work.shard, made.plan, made.blocks, work.ids, labels.values(), work.codes_n, provenance, source)


def write_row_shard(
    shard: tuple[int, int],
    columns: Mapping[str, np.ndarray],
    positions: np.ndarray,
    ids: pa.Array,
    labels: Labels,
    provenance: Provenance,
    output: str,
    source: ParquetSource,
) -> None:
    """Write the scores of a part's own rows.

    Args:
        positions: (M,) theirs in the data.
        ids, labels: (N,) of all rows.
    """
    values = np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1)
    block = BlockRows(0, shard[0] - 1, positions, values, {})
    plan = {"kind": ROWS, "columns": list(columns)}
    write_shard(output, shard, plan, [block], ids, labels.values(), labels.codes_n, provenance, source)


def merge_shards(sources: Sequence[ParquetSource], output: str | None, *, force: bool, plan: bool) -> Outcome:
    """Put the parts of a score together: the file that one run would have written.

    Raises:
        InputError: parts of other runs, one that is missing or there twice; nothing is written.
    """
    watch, outcome = Stopwatch(), Outcome()
    parts = _in_order([read_shard(source) for source in sources])
    first = parts[0]
    stem = first.stated["inputs"][0]["name"].removesuffix(".parquet")
    output = output or f"{stem}.scores.parquet"
    table = pa.concat_tables([part.rows for part in parts])
    positions = table["position"].to_numpy()
    _, once = np.unique(positions, return_index=True)
    table = table.take(pa.array(once)).combine_chunks()
    if plan:
        figures = {"rows": len(table), "parts": len(parts), "passes_over_data": 1, "algorithm": "parts of one score"}
        return plan_outcome("manifest merge", figures)
    check_output(output, force)
    found = KernelScores()
    rows = {name: first.stated[name] for name in ("rows_in", "rows_out", "rows_bad")}
    if first.plan.get("kind") == ROWS:
        blocks = [block for part in parts for block in part.blocks]
        order = np.argsort(np.concatenate([b.positions for b in blocks]), kind="stable")
        values = np.concatenate([b.values_bk for b in blocks if len(b.positions)])[order]
        found.columns = {name: values[:, k] for k, name in enumerate(first.plan["columns"])}
        rows = {name: sum(part.stated[name] for part in parts) for name in rows}
    else:
        _finish(parts, table, found)
    parameters = dict(first.stated["parameters"])
    for name, more in found.stated.items():
        parameters[name] = {**parameters[name], **more}
    provenance = restored_provenance(first.stated, parameters=parameters, rows=rows)
    ids, labels = (_one_array(table[name]) for name in (ID, "label"))
    write_scores(output, ids, labels, found.columns, provenance, first.source, outcome)
    outcome.warnings = found.warnings
    if rows["rows_bad"]:
        outcome.warnings.append(f"{rows['rows_bad']} bad row(s) were left out, listed beside the parts")
    outcome.outputs = [output]
    outcome.summary = {
        "command": "manifest merge",
        "output": output,
        "parts": len(parts),
        "method": provenance.method,
        **provenance.rows,
        **found.facts,
        **watch.figures(),
    }
    return outcome


def _in_order(parts: Sequence[ShardFile]) -> list[ShardFile]:
    first = parts[0]
    for part in parts[1:]:
        differ = [
            name
            for name, ours, theirs in (
                ("the number of parts", first.of, part.of),
                ("what is computed", first.plan, part.plan),
                *(
                    (name, first.stated.get(name), part.stated.get(name))
                    for name in ("inputs", "parameters", "seed", "device", "versions", "method")
                ),
            )
            if ours != theirs
        ]
        if differ:
            raise InputError(
                f"{part.source.location} is of another run than {first.source.location}: {', '.join(differ)} differ",
                "join the parts of one prune score command, all with the same options but for --shard",
            )
    numbers = [part.number for part in parts]
    twice = sorted({n for n in numbers if numbers.count(n) > 1})
    if twice:
        raise InputError(f"part {some(twice)} of {first.of} is given twice", "give each part once")
    missing = sorted(set(range(1, first.of + 1)) - set(numbers))
    if missing:
        raise InputError(
            f"{len(missing)} of {first.of} parts are missing: {some(missing)}",
            f"make them: prune score ... --shard {missing[0]}/{first.of}",
        )
    return sorted(parts, key=lambda part: part.number)


def _rows_of(piece: int, block: int, arrays: Arrays, sampled: bool) -> BlockRows:
    values = [np.atleast_2d(arrays[name].T).T for name in _TERMS[sampled]]
    facts = {name: array.item() for name, array in arrays.items() if array.ndim == 0}
    return BlockRows(piece, block, arrays["positions"], np.concatenate(values, axis=1), facts)


def _arrays_of(block: BlockRows, sampled: bool) -> Arrays:
    names, values = _TERMS[sampled], block.values_bk
    columns = [values[:, 0], values[:, 1], values[:, 2] if sampled else values[:, 2:]]
    facts = {name: np.asarray(value) for name, value in block.facts.items()}
    return {**dict(zip(names, columns, strict=True)), "positions": block.positions, **facts}


def _plan_values(plan: KernelPlan, work: KernelWork) -> dict[str, Any]:
    return {
        "methods": {name: dataclasses.asdict(params) for name, params in plan.methods.items()},
        "n_classes": plan.n_classes,
        "precision": plan.precision,
        "pieces": [[list(p.source), None if p.problem is None else list(p.problem)] for p in plan.pieces],
        "piece_of": dict(plan.piece_of),
        "blocks": [len(piece.block_names(work)) for piece in plan.pieces],
    }


def _finish(parts: Sequence[ShardFile], table: pa.Table, found: KernelScores) -> None:
    """Add the columns of the scores of kernels."""
    told = parts[0].plan
    plan = KernelPlan(
        {name: find_method("score", name).params_class()(**params) for name, params in told["methods"].items()},
        told["n_classes"],
        told["precision"],
        [Piece((s[0], s[1]), None if problem is None else Problem(*problem)) for s, problem in told["pieces"]],
        told["piece_of"],
    )
    place = np.full(int(table["position"].to_numpy()[-1]) + 1, -1, np.int64)
    place[table["position"].to_numpy()] = np.arange(len(table))
    computed = []
    for number, piece in enumerate(plan.pieces):
        blocks = sorted((b for part in parts for b in part.blocks if b.piece == number), key=lambda b: b.block)
        if [b.block for b in blocks] != list(range(told["blocks"][number])):
            raise InputError("the parts have not all blocks, or one twice", "make them again with the same options")
        placed = [dataclasses.replace(b, positions=place[b.positions]) for b in blocks]
        arrays = [_arrays_of(b, piece.problem is None) for b in placed]
        computed.append(Computed([b.block for b in blocks], arrays))
    finish_scores(plan, computed, table["code"].to_numpy().astype(np.int64), found)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
