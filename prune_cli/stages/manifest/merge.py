"""``prune manifest merge``: manifests of the same rows put together, scores by their columns."""

from __future__ import annotations

from prune_cli.core.errors import InputError
from prune_cli.io.manifests.joined import Joined
from prune_cli.io.manifests.selection import SELECTED
from prune_cli.io.manifests.shards import is_shard
from prune_cli.io.parquet.provenance import Provenance, row_counts
from prune_cli.io.parquet.tables import ParquetSource, write_batches
from prune_cli.io.stores.atomic import check_output
from prune_cli.io.stores.locations import STDIN
from prune_cli.stages.frame.memory import RowMemory
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.manifest.combinations import JOIN, SET_OPERATIONS
from prune_cli.stages.manifest.combine import combine
from prune_cli.stages.manifest.options import MergeOptions
from prune_cli.stages.score.merge import merge_shards


def merge(options: MergeOptions) -> Outcome:
    """Put manifests of the same rows together, as ``--how`` says.

    Raises:
        InputError: see `join` and `combine`; nothing is written.
    """
    if options.how != JOIN:
        return combine(options)
    if options.quotas or options.selected_only:
        raise InputError(
            f"{'--quota' if options.quotas else '--selected-only'} is of selections", "say --how they are combined"
        )
    return join(options)


def join(options: MergeOptions) -> Outcome:
    """Join score manifests of the same rows by id: the rows of the first, in its order, with the columns of all.

    Raises:
        InputError: ids, columns or labels that do not go together; nothing is written.
    """
    watch = Stopwatch()
    sources = [ParquetSource(f) for f in options.files if f != STDIN]
    parts = [source for source in sources if is_shard(source)]
    if parts and len(parts) == len(options.files):
        return merge_shards(parts, options.output, force=options.force, plan=options.plan)
    if parts:
        raise InputError(
            f"{parts[0].location} is a part of a score, and not all files are parts",
            "join the parts first: prune manifest merge PART...",
        )
    if len(options.files) < 2:
        raise InputError("merge joins files, and one is given", "name two or more")
    selections = [source.location for source in sources if SELECTED in source.schema.names]
    if len(selections) > 1:
        raise InputError(
            f"{' and '.join(selections)} are selections, and --how {JOIN} joins scores",
            f"say what is kept: --how {', '.join(SET_OPERATIONS)}",
        )
    joined = Joined(options.files, id_column=options.id_column, label_column=options.label_column)
    output = options.output or f"{joined.stem}.merged.parquet"
    rows = len(joined.ids)
    # Labels, the order of the first file, its rows in the others, and their columns, for a moment twice.
    row_bytes = 9 + 5 * (len(joined.sources) - 1) + 2 * joined.other_bytes()
    memory = RowMemory(rows, row_bytes, options.runtime.memory_budget())
    if options.plan:
        size = sum(source.nbytes for source in joined.sources)
        return plan_outcome(
            "manifest merge",
            {
                "rows": rows,
                "columns": len(joined.fields),
                "passes_over_data": 1,
                "algorithm": "columns of all, by id",
                "ids": memory.sorting(),
                "peak_memory_bytes": memory.peak,
                "disk_bytes": size,
            },
        )
    memory.check()
    joined.match(memory.for_sorting)
    _ = joined.labels
    check_output(output, options.force)
    provenance = Provenance(
        "manifest merge",
        "join by id",
        inputs=joined.inputs,
        packages=("pyarrow",),
        score_direction=joined.directions,
        rows=row_counts(rows, rows),
    )
    write_batches(output, joined.schema(), joined.batches(), provenance, joined.sources[0].schema.metadata)
    outcome = Outcome(outputs=[output])
    outcome.tables["columns"] = [
        ["column", "direction"],
        *([name, joined.directions.get(name, "")] for name in joined.fields),
    ]
    outcome.summary = watch.summary(provenance.command, output=output, columns=list(joined.fields), **provenance.rows)
    return outcome
