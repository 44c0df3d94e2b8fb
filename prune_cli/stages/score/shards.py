"""A part of the rows of a score, done by itself, anywhere; and the parts put together into the file that one run would have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import ID, some
from prune_cli.io.manifests.shards import BlockRows, ShardFile, read_shard, restored_provenance, write_shard
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.stores.atomic import check_output
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.score.contract import Job, Scored
from prune_cli.stages.score.output import write_scores
from prune_cli.stages.score.request import Request, ScoreOptions
from prune_cli.stages.score.sources.kernel.shards import finish_kernel_shards

ROWS = "rows"
"""The kind of part that holds the scores of its own rows."""

_UNIT = 8192


def require_divisible(options: ScoreOptions, request: Request) -> None:
    """Check that the work can be divided.

    Raises:
        InputError: a training, features, or a kernel that is kept.
    """
    if options.shard is None:
        return
    of_all = ("save_features", "save_dynamics", "save_kernel", "report_to")
    whole = [f"--{name.replace('_', '-')}" for name in of_all if getattr(options, name) is not None]
    if whole:
        raise InputError(f"{', '.join(whole)} is of all rows, and --shard does a part of the work", "leave one out")
    kernels, of_rows = list(request.kernels), list(request.records)
    if (of_rows and request.record not in {"model", "prob"}) or request.of("features") or (kernels and of_rows):
        raise InputError(
            f"{', '.join(request.methods)} cannot be done in parts",
            "--shard divides scores of kernels (cg, ntk_margin, ntk_residual), or scores of a network that exists (--model) or of the "
            "column 'prob'; the others run whole, and prune manifest merge joins their columns",
        )


def rows_of_shard(shard: tuple[int, int], rows: int, batch: int) -> np.ndarray:
    """Return (M,) int64, the rows of a part: stretches of whole batches, so that it computes what one run does.

    Args:
        shard: (I, N).
        batch: samples that go through a network together.
    """
    unit = batch * max(1, min(_UNIT, -(-rows // shard[1])) // batch)
    found: np.ndarray = np.flatnonzero(np.arange(rows) // unit % shard[1] == shard[0] - 1)
    return found


def write_row_shard(
    job: Job, shard: tuple[int, int], columns: Mapping[str, np.ndarray], positions: np.ndarray, provenance: Provenance
) -> None:
    """Write the scores of a part's own rows, which stand at ``positions`` (M,) in the data."""
    values = np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1)
    block = BlockRows(0, shard[0] - 1, positions, values, {})
    plan, data, labels = {"kind": ROWS, "columns": list(columns)}, job.dataset, job.dataset.labels
    write_shard(job.output, shard, plan, [block], data.ids, labels.values(), labels.codes_n, provenance, data.source)


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
    found = Scored()
    rows = {name: first.stated[name] for name in ("rows_in", "rows_out", "rows_bad")}
    if first.plan.get("kind") == ROWS:
        blocks = [block for part in parts for block in part.blocks]
        order = np.argsort(np.concatenate([b.positions for b in blocks]), kind="stable")
        values = np.concatenate([b.values_bk for b in blocks if len(b.positions)])[order]
        found.columns = {name: values[:, k] for k, name in enumerate(first.plan["columns"])}
        rows = {name: sum(part.stated[name] for part in parts) for name in rows}
    else:
        finish_kernel_shards(parts, table, found)
    parameters = found.told(first.stated["parameters"])
    provenance = restored_provenance(first.stated, parameters=parameters, rows=rows)
    ids, labels = (table[name].combine_chunks() if table[name].num_chunks != 1 else table[name].chunk(0) for name in (ID, "label"))
    write_scores(output, ids, labels, found.columns, provenance, first.source, outcome)
    outcome.warnings = found.warnings
    if rows["rows_bad"]:
        outcome.warnings.append(f"{rows['rows_bad']} bad row(s) were left out, listed beside the parts")
    outcome.outputs = [output]
    told = {"parts": len(parts), "method": provenance.method, **provenance.rows, **found.facts}
    outcome.summary = watch.summary("manifest merge", output=output, **told)
    return outcome


def _in_order(parts: Sequence[ShardFile]) -> list[ShardFile]:
    first = parts[0]
    for part in parts[1:]:
        differ = ["the number of parts"] if first.of != part.of else []
        differ += ["what is computed"] if first.plan != part.plan else []
        stated = ("inputs", "parameters", "seed", "device", "versions", "method")
        differ += [name for name in stated if first.stated.get(name) != part.stated.get(name)]
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
