"""``prune manifest merge``: scores of the same rows put together by their columns, and with ``--how`` several selections made into one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.runtime import Runtime
from prune_cli.io.ids.columns import ID, Labels, some
from prune_cli.io.manifests.joined import Joined, JoinedSelections
from prune_cli.io.manifests.selection import RANK, SELECTED, WEIGHT
from prune_cli.io.manifests.shards import is_shard
from prune_cli.io.parquet.provenance import Provenance, row_counts
from prune_cli.io.parquet.tables import ParquetSource, write_batches, write_table
from prune_cli.io.stores.atomic import check_output
from prune_cli.io.stores.locations import STDIN
from prune_cli.methods.selection.combining import Combination, fill_quotas, intersect, subtract, unite
from prune_cli.stages.frame.memory import RowMemory
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.manifest.tables import HOWS, JOIN, SET_OPERATIONS
from prune_cli.stages.score.shards import merge_shards
from prune_cli.stages.select.request import row_count

_SHARE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)%")


@dataclass(frozen=True)
class MergeOptions:
    """The options of ``prune manifest merge``; see docs/commands.md."""

    files: tuple[str, ...]
    how: str = JOIN
    quotas: tuple[str, ...] = ()
    selected_only: bool = False
    id_column: str = "id"
    label_column: str = "label"
    runtime: Runtime = field(default_factory=Runtime)
    output: str | None = None
    force: bool = False
    plan: bool = False


@dataclass(frozen=True)
class Quota:
    """Most rows of a class: a number, or a share of its rows.

    Args:
        count: rows, or None.
        share: above 0 and at most 1 where ``count`` is None.
    """

    count: int | None
    share: float = 0.0

    def rows(self, size: int) -> int:
        """Return how many rows of a class of this size."""
        return self.count if self.count is not None else min(size, row_count(self.share, size))


def parse_quota(text: str) -> tuple[str | None, Quota]:
    """Return the class that a quota is for, None for the rest, and the quota.

    The class goes up to the last ``=``.

    >>> parse_quota("100"), parse_quota("a=b=50%")
    ((None, Quota(count=100, share=0.0)), ('a=b', Quota(count=None, share=0.5)))
    """
    name, equals, amount = text.rpartition("=")
    if amount.isascii() and amount.isdigit():
        return (name if equals else None), Quota(int(amount))
    share = _SHARE.fullmatch(amount)
    if share is not None and 0 < float(share[1]) <= 100:
        return (name if equals else None), Quota(None, float(share[1]) / 100)
    raise InputError(
        f"--quota {text!r} is not a number of rows, nor a share above 0% and up to 100%", "write 500, 10%, CLASS=500 or CLASS=10%"
    )


def quotas_of(texts: Sequence[str], labels: Labels) -> np.ndarray:
    """Return (C,) int64, most rows of each class.

    Args:
        labels: of all rows; a share is of the rows of the class. Classes go by their names, and by their values.
    Raises:
        InputError: no quota, one twice, a class that is not there, or one that has none.
    """
    names = labels.display_names()
    code_of = {str(value): code for code, value in enumerate(labels.classes)} | {n: c for c, n in enumerate(names)}
    rest: Quota | None = None
    wanted: dict[int, Quota] = {}
    for text in texts:
        name, quota = parse_quota(text)
        if name is None:
            if rest is not None:
                raise InputError("--quota is given twice for the classes that are not named", "give it once")
            rest = quota
        elif name not in code_of:
            raise InputError(f"--quota {text!r}: no class '{name}'; there are {some(names, 20)}", "name one of them")
        elif code_of[name] in wanted:
            raise InputError(f"--quota names the class '{name}' twice", "name it once")
        else:
            wanted[code_of[name]] = quota
    if not texts:
        raise InputError("--how quota needs a quota", "give the rows of a class: --quota 500, or --quota 10%")
    without = [name for code, name in enumerate(names) if code not in wanted]
    if rest is None:
        if without:
            raise InputError(f"no quota for the class {some(without)}", "give one for the rest: --quota 500, or --quota 0")
        rest = Quota(0)
    sizes = np.bincount(labels.codes_n[labels.codes_n >= 0], minlength=len(names))
    return np.array([wanted.get(code, rest).rows(int(size)) for code, size in enumerate(sizes)], np.int64)


PROCESS_BYTES = 200 * 2**20
ROW_BYTES, FILE_ROW_BYTES = 250, 150
"""Memory of Python with pyarrow, of each row with a string id, and of each row of each file: measured upper bounds."""


def combine(options: MergeOptions) -> Outcome:
    """Make one selection of several: every row once, kept or not, with the reason.

    Raises:
        InputError: selections of other rows, labels that differ, quotas that do not fit the classes; nothing is written.
    """
    watch = Stopwatch()
    _check_options(options)
    joined = JoinedSelections(options.files, id_column=options.id_column, label_column=options.label_column)
    output = options.output or f"{joined.selections[0].source.stem.removesuffix('.selection')}.{options.how}.parquet"
    quotas_c = quotas_of(options.quotas, _labels(joined, options)) if options.how == "quota" else None
    if options.plan:
        n_rows = len(joined.ids)
        figures = {
            "rows": n_rows,
            "passes_over_data": 1,
            "algorithm": f"{options.how} of {len(options.files)} selection(s), by id",
            "peak_memory_bytes": PROCESS_BYTES + (ROW_BYTES + FILE_ROW_BYTES * len(options.files)) * n_rows,
            "disk_bytes": 40 * n_rows,
        }
        return plan_outcome("manifest merge", figures)
    check_output(output, options.force)
    outcome = Outcome(outputs=[output])
    found = _combination(joined, options, quotas_c)
    weight_n, differ = joined.weights(found.selected_n)
    weighed = any(selection.weight_n is not None for selection in joined.selections)
    if weight_n is None and weighed and found.selected_n.any():
        why = f"{differ:,} row(s) have weights that differ" if differ else "a file has none"
        outcome.warnings.append(f"the column '{WEIGHT}' is left out: {why}")
    if not joined.whole:
        outcome.warnings.append("every file holds kept rows alone, so that no other rows are known")
    if not found.selected_n.any():
        outcome.warnings.append("no row is selected")
    table = _table(joined, found, weight_n)
    if options.selected_only:
        table = table.filter(pa.array(found.selected_n))
    provenance = Provenance(
        "manifest merge",
        options.how,
        {"quota": list(options.quotas), "selected_only": options.selected_only, "nested": False},
        inputs=joined.inputs,
        packages=("numpy", "pyarrow"),
        rows=row_counts(len(joined.ids), len(table)),
    )
    write_table(output, table, provenance, joined.source)
    _tell(joined, found, quotas_c, outcome)
    kept = int(found.selected_n.sum())
    outcome.summary = watch.summary(provenance.command, how=options.how, output=output, rows_kept=kept, **provenance.rows)
    return outcome


def _check_options(options: MergeOptions) -> None:
    if options.how not in SET_OPERATIONS:
        raise InputError(f"unknown --how '{options.how}'", f"use one of: {', '.join(HOWS)}")
    if len(options.files) < 2 and options.how != "quota":
        raise InputError(f"--how {options.how} is of several selections, and one is given", "name two or more")
    if options.quotas and options.how != "quota":
        raise InputError(f"--quota has no meaning with --how {options.how}", "use --how quota, or leave it out")


def _labels(joined: JoinedSelections, options: MergeOptions) -> Labels:
    if joined.labels is None:
        raise joined.source.lacking(options.label_column, "--label-column")
    return joined.labels


def _combination(joined: JoinedSelections, options: MergeOptions, quotas_c: np.ndarray | None) -> Combination:
    selections = joined.selected_fn, joined.rank_fn, joined.place_n
    if quotas_c is not None:
        return fill_quotas(*selections, _labels(joined, options).codes_n, quotas_c)
    ways: dict[str, Callable[[], Combination]] = {
        "union": lambda: unite(*selections),
        "intersect": lambda: intersect(*selections, joined.names),
        "difference": lambda: subtract(*selections, joined.names),
    }
    return ways[options.how]()


def _table(joined: JoinedSelections, found: Combination, weight_n: np.ndarray | None) -> pa.Table:
    columns: dict[str, pa.Array] = {ID: joined.ids}
    if joined.labels is not None:
        columns["label"] = joined.labels.values()
    columns[SELECTED] = pa.array(found.selected_n)
    columns[RANK] = pa.array(found.rank_n, pa.int64(), mask=found.rank_n == 0)
    if weight_n is not None:
        columns[WEIGHT] = pa.array(weight_n, pa.float64(), mask=np.isnan(weight_n))
    out = found.reason_n >= 0
    columns["reason"] = pa.array(found.reasons, pa.string()).take(pa.array(found.reason_n, mask=~out))
    return pa.table(columns)


def _tell(joined: JoinedSelections, found: Combination, quotas_c: np.ndarray | None, outcome: Outcome) -> None:
    """Say how many rows each file keeps, how many the result does, and which quotas are not filled."""
    n_rows, kept = len(joined.ids), int(found.selected_n.sum())
    outcome.tables["kept"] = [
        ["selection", "rows kept", "of"],
        *([n, f"{int(s.sum()):,}", f"{n_rows:,}"] for n, s in zip(joined.names, joined.selected_fn, strict=True)),
        ["result", f"{kept:,}", f"{n_rows:,}"],
    ]
    if quotas_c is None or joined.labels is None:
        return
    codes = joined.labels.codes_n
    taken_c = np.bincount(codes[found.selected_n], minlength=len(quotas_c))
    names = joined.labels.display_names()
    outcome.tables["classes"] = [
        ["class", "quota", "rows kept"],
        *([names[c], f"{quotas_c[c]:,}", f"{taken_c[c]:,}"] for c in range(min(50, len(names)))),
    ]
    short = [names[c] for c in np.flatnonzero(taken_c < quotas_c)]
    if short:
        shown = ", ".join(short[:5]) + (", ..." if len(short) > 5 else "")
        outcome.warnings.append(f"{len(short)} class(es) have fewer selected rows than their quota: {shown}")


def merge(options: MergeOptions) -> Outcome:
    """Put manifests of the same rows together, as ``--how`` says.

    Raises:
        InputError: see `join` and `combine`; nothing is written.
    """
    if options.how != JOIN:
        return combine(options)
    if options.quotas or options.selected_only:
        raise InputError(f"{'--quota' if options.quotas else '--selected-only'} is of selections", "say --how they are combined")
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
            f"{parts[0].location} is a part of a score, and not all files are parts", "join the parts first: prune manifest merge PART..."
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
        figures = {
            "rows": rows,
            "columns": len(joined.fields),
            "passes_over_data": 1,
            "algorithm": "columns of all, by id",
            "ids": memory.sorting(),
            "peak_memory_bytes": memory.peak,
            "disk_bytes": sum(source.nbytes for source in joined.sources),
        }
        return plan_outcome("manifest merge", figures)
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
    outcome.tables["columns"] = [["column", "direction"], *([name, joined.directions.get(name, "")] for name in joined.fields)]
    outcome.summary = watch.summary(provenance.command, output=output, columns=list(joined.fields), **provenance.rows)
    return outcome
