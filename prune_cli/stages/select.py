"""``prune select``: a score manifest in, one selection manifest a budget out."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.core.params import build_params, split_assignments
from prune_cli.io.atomic import check_output
from prune_cli.io.columns import ID, Labels, canonical_order, locate, read_ids, read_labels
from prune_cli.io.ledger import ErrorAllowance, Ledger, ledger_path, settle
from prune_cli.io.provenance import InputFile, Provenance, read_provenance
from prune_cli.io.selection import selected_ids
from prune_cli.io.tables import STDIN, ParquetSource, write_table
from prune_cli.methods.registry import Direction, find_method, preset_params, published_direction
from prune_cli.methods.selection.baselines import TopParams
from prune_cli.methods.selection.ranking import Candidates, proportional_order
from prune_cli.stages.outcome import Outcome, Stopwatch, plan_outcome

PROCESS_BYTES = 200 * 2**20
ROW_BYTES = 250
"""Memory of Python with pyarrow, and of each row with string ids on the way through: measured upper bounds."""

_NOT_SCORES = {ID, "label", "true_label", "split", "rank", "weight", "gain", "fold"}


@dataclass(frozen=True)
class SelectOptions:
    """The options of ``prune select``; see docs/commands.md. Exactly one of the three budgets is given."""

    scores: str
    method: str = "top"
    params: tuple[str, ...] = ()
    preset: str | None = None
    fractions: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    threshold: float | None = None
    per_class: bool = False
    keep: str | None = None
    drop: str | None = None
    directions: tuple[str, ...] = ()
    selected_only: bool = False
    id_column: str = ID
    label_column: str = "label"
    max_errors: ErrorAllowance = dataclasses.field(default_factory=ErrorAllowance)
    seed: int = 0
    output: str | None = None
    force: bool = False
    plan: bool = False


@dataclass(frozen=True)
class _Key:
    """The score column a selection goes by."""

    name: str
    direction: Direction
    values_n: np.ndarray

    def difficulty(self) -> np.ndarray:
        """Return (N,) float64, high = hard."""
        return self.values_n if self.direction == "harder" else -self.values_n


@dataclass(frozen=True)
class _Rows:
    """The rows to choose from, by position: what is known of each, and what the user said of it."""

    ids: pa.Array
    labels: Labels | None
    key: _Key | None
    scored: np.ndarray
    keep: np.ndarray
    drop: np.ndarray


def select(options: SelectOptions) -> Outcome:
    """Choose rows of a score manifest: every input row comes back once, kept or not, with the reason.

    Returns:
        Outcome with one selection manifest for each budget.
    Raises:
        InputError: bad input or options; nothing is written.
        BadRowsError: more rows without a score than allowed; the ledger alone is written.
    """
    watch = Stopwatch()
    outcome = Outcome()
    _check_budget(options)
    method = find_method("selection", options.method)
    assignments = split_assignments(options.params, (options.method,))[options.method]
    wanted_key = assignments.pop("key", None)
    params: Any = build_params(
        method.params_class(),
        {**preset_params(options.preset, [options.method])[options.method], **assignments},
        options.method,
    )

    source = ParquetSource(options.scores)
    budgets: list[float | int] = [*options.fractions, *options.counts] or [0]
    outputs = _outputs(options, source.stem, budgets)
    ids, made_up = read_ids(source, options.id_column)
    if not len(ids):
        raise InputError(f"{options.scores} has no rows", "check the file")
    if made_up:
        outcome.warnings.append(f"no column '{options.id_column}': ids are the positions, row-00000000 and on")
    has_labels = options.label_column in source.schema.names
    labels = read_labels(source, options.label_column) if has_labels or options.per_class else None
    needs_key = options.method != "random" or wanted_key is not None or options.threshold is not None
    key = _read_key(source, wanted_key, options.directions) if needs_key else None
    keep = _listed(options.keep, ids, options.scores)
    drop = _listed(options.drop, ids, options.scores)
    if (keep & drop).any():
        both = ids.filter(pa.array(keep & drop))
        raise InputError(f"{len(both)} id(s) are in --keep and in --drop, such as {both[0]}", "take them out of one")
    if options.plan:
        return plan_outcome(
            "select",
            {
                "rows": len(ids),
                "passes_over_data": 1,
                "algorithm": f"{method.name}: {method.cost}",
                "peak_memory_bytes": PROCESS_BYTES + ROW_BYTES * len(ids),
                "disk_bytes": 48 * len(ids) * len(budgets),
            },
        )

    ledger = Ledger()
    if key is not None:
        ledger.add_all(np.flatnonzero(~np.isfinite(key.values_n)), f"no score: '{key.name}' is null, NaN or infinite")
    scored = ledger.good(len(ids))
    provenance = Provenance(
        command="select",
        method=options.method,
        parameters={
            **dataclasses.asdict(params),
            "key": key.name if key else None,
            "per_class": options.per_class,
            "keep": bool(options.keep),
            "drop": bool(options.drop),
            "selected_only": options.selected_only,
        },
        seed=options.seed,
        inputs=[*source.inputs, *_list_inputs(options)],
        packages=("numpy", "pyarrow"),
        score_direction={key.name: key.direction} if key else {},
        rows={"rows_in": len(ids), "rows_out": len(ids), "rows_bad": len(ledger)},
    )
    errors = ledger_path(outputs[0], f"{source.stem}.selection")
    settle(ledger, ids, options.max_errors, errors, provenance)
    if len(ledger):
        outcome.warnings.append(f"{len(ledger)} row(s) without a score are not selected, listed in {errors}")

    rows = _Rows(ids, labels, key, scored, keep, drop)
    order_n, skipped_n = _order(options, params, rows)
    rank = np.zeros(len(ids), np.int64)
    rank[order_n] = np.arange(1, len(order_n) + 1)
    outcome.tables["kept"] = [["budget", "rows kept", "of", "share", "file"]]
    files = []
    for budget, output in zip(budgets, outputs, strict=True):
        if options.threshold is not None:
            stated: dict[str, object] = {"threshold": options.threshold}
            chosen = (_beyond_threshold(options.threshold, params, rows) & (rank > 0) & ~skipped_n) | keep
        else:
            count = row_count(budget, len(ids)) if options.fractions else int(budget)
            _check_count(count, len(order_n), int(keep.sum()), options)
            stated = {"fraction" if options.fractions else "count": budget}
            chosen = (rank > 0) & (rank <= count)
        table = _selection_table(rows, rank, chosen, skipped_n)
        if options.selected_only:
            table = table.filter(pa.array(chosen))
        made = dataclasses.replace(
            provenance,
            parameters={**provenance.parameters, **stated},
            rows={**provenance.rows, "rows_out": len(table)},
        )
        write_table(output, table, made, source)
        kept, shown = int(chosen.sum()), ", ".join(f"{k} {v}" for k, v in stated.items())
        files.append({"output": output, **stated, "rows_kept": kept})
        outcome.tables["kept"].append([shown, f"{kept:,}", f"{len(ids):,}", f"{kept / len(ids):.1%}", output])
        if kept == 0:
            outcome.warnings.append(f"{shown}: no row is selected")
    outcome.outputs = outputs
    outcome.summary = {
        "command": "select",
        "method": options.method,
        "outputs": files,
        **provenance.rows,
        **watch.figures(),
    }
    return outcome


def _order(options: SelectOptions, params: object, rows: _Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return the eligible positions, kept first to kept last, and (N,) bool of those the method skips."""
    eligible = rows.scored & ~rows.drop
    by_id = canonical_order(rows.ids)
    by_id = by_id[eligible[by_id]]
    # Methods see the eligible rows alone, numbered from 0.
    positions = np.flatnonzero(eligible)
    number = np.full(len(eligible), -1, np.int64)
    number[positions] = np.arange(len(positions))
    difficulty = rows.key.difficulty()[positions] if rows.key is not None else None
    ranking = find_method("selection", options.method).load()(
        Candidates(number[by_id], difficulty), params, seed=options.seed
    )
    order_n: np.ndarray = positions[ranking.order_n]
    end = len(order_n) - ranking.skipped
    front, back = order_n[:end], order_n[end:]
    if options.per_class:
        assert rows.labels is not None
        front = proportional_order(
            np.concatenate([front[rows.keep[front]], front[~rows.keep[front]]]), rows.labels.codes_n
        )
    order_n = np.concatenate([front, back])
    first = rows.keep[order_n]
    skipped_n = np.zeros(len(eligible), bool)
    skipped_n[back] = True
    return np.concatenate([order_n[first], order_n[~first]]), skipped_n & ~rows.keep


def _selection_table(rows: _Rows, rank: np.ndarray, chosen: np.ndarray, skipped_n: np.ndarray) -> pa.Table:
    reason = np.full(len(rank), "beyond the budget", object)
    reason[skipped_n] = "skipped by the offset"
    reason[~rows.scored] = "no score"
    reason[rows.drop] = "dropped by --drop"
    columns: dict[str, pa.Array] = {ID: rows.ids}
    if rows.labels is not None:
        columns["label"] = rows.labels.values()
    columns["selected"] = pa.array(chosen)
    columns["rank"] = pa.array(rank, pa.int64(), mask=rank == 0)
    if rows.key is not None:
        columns["score"] = pa.array(rows.key.values_n, pa.float64(), mask=~rows.scored)
    columns["reason"] = pa.array(reason, pa.string(), mask=chosen)
    return pa.table(columns)


def row_count(fraction: float, rows: int) -> int:
    """Return how many rows a fraction keeps: rounded to the nearest, halves up, at least one.

    >>> row_count(0.3, 10), row_count(0.25, 10), row_count(0.01, 10), row_count(0.29, 100)
    (3, 3, 1, 29)
    """
    return max(1, math.floor(fraction * rows + 0.5 + 1e-9))


def _beyond_threshold(threshold: float, params: object, rows: _Rows) -> np.ndarray:
    assert isinstance(params, TopParams)
    assert rows.key is not None
    bound = threshold if rows.key.direction == "harder" else -threshold
    with np.errstate(invalid="ignore"):
        difficulty = rows.key.difficulty()
        return difficulty <= bound if params.order == "easiest" else difficulty >= bound


def _check_budget(options: SelectOptions) -> None:
    given = [bool(options.fractions), bool(options.counts), options.threshold is not None]
    if sum(given) != 1:
        raise InputError(
            f"select takes exactly one budget, {sum(given)} given" if sum(given) else "select needs a budget",
            "give one of --fraction 0.3, --count 1000, --threshold 0.5",
        )
    for fraction in options.fractions:
        if not 0 < fraction <= 1:
            raise InputError(
                f"--fraction {fraction:g} is out of range", "give the share to KEEP, above 0 and at most 1"
            )
    for count in options.counts:
        if count < 1:
            raise InputError(f"--count {count} is out of range", "give the number of rows to keep, at least 1")
    for name, values in (("--fraction", options.fractions), ("--count", options.counts)):
        if len(set(values)) != len(values):
            raise InputError(f"{name} names a budget twice", "name each once")
    if options.threshold is not None:
        if options.method != "top":
            raise InputError(
                f"--threshold has no meaning for {options.method}", "use --fraction or --count, or --method top"
            )
        if options.per_class:
            raise InputError("--per-class has no meaning with --threshold", "use --fraction or --count")


def _check_count(count: int, eligible: int, kept: int, options: SelectOptions) -> None:
    if count > eligible:
        raise InputError(
            f"the budget is {count:,} rows and {eligible:,} can be selected", "give a smaller budget or drop less"
        )
    if count < kept:
        raise InputError(
            f"the budget is {count:,} rows and --keep {options.keep} names {kept:,}",
            "give a larger budget or keep less",
        )


def _outputs(options: SelectOptions, stem: str, budgets: list[float | int]) -> list[str]:
    base = options.output or f"{stem.removesuffix('.scores')}.selection.parquet"
    if len(budgets) == 1:
        outputs = [base]
    elif base == STDIN:
        raise InputError(
            "several budgets make several files, and standard output is one", "name a file with -o, or one budget"
        )
    else:
        path = Path(base)
        outputs = [str(path.with_name(f"{path.name.removesuffix('.parquet')}-{b:.10g}.parquet")) for b in budgets]
    if not options.plan:
        for output in outputs:
            if output != STDIN:
                check_output(Path(output), options.force)
    return outputs


def _read_key(source: ParquetSource, wanted: str | None, given: tuple[str, ...]) -> _Key:
    directions: dict[str, str] = {}
    for text in given:
        name, _, direction = text.partition("=")
        if direction not in {"harder", "easier"}:
            raise InputError(
                f"--direction {text!r} is not NAME=harder or NAME=easier", "write --direction margin=easier"
            )
        directions[name] = direction
    recorded = (read_provenance(source.schema) or {}).get("score_direction", {})
    numeric = [
        f.name
        for f in source.schema
        if f.name not in _NOT_SCORES and (pa.types.is_floating(f.type) or pa.types.is_integer(f.type))
    ]
    if wanted is None:
        known = [n for n in numeric if n in directions or n in recorded or published_direction(n)]
        candidates = known or numeric
        # The sub-terms of a score stand beside it; the score itself comes first and is meant.
        main = [n for n in candidates if not any(n.startswith(f"{other}_") for other in candidates)]
        if not main:
            raise InputError(
                f"{source.location} has no score column; it has {', '.join(source.schema.names)}",
                "make one with prune score, or use --method random",
            )
        if len(main) > 1:
            raise InputError(
                f"{source.location} has several score columns: {', '.join(main)}", f"name one: -p key={main[0]}"
            )
        wanted = main[0]
    field = source.require(wanted, "-p key=NAME")
    if not (pa.types.is_floating(field.type) or pa.types.is_integer(field.type)):
        raise InputError(
            f"{source.location}: column '{wanted}' is {field.type}, not numbers",
            f"name one of {', '.join(numeric) or 'none there'}",
        )
    stated: str | None = directions.get(wanted) or recorded.get(wanted) or published_direction(wanted)
    if stated not in {"harder", "easier"}:
        raise InputError(
            f"whether a high '{wanted}' is hard or easy is not known",
            f"say it: --direction {wanted}=harder (or easier)",
        )
    column = source.read([wanted]).column(0).cast(pa.float64())
    values = pc.fill_null(column, math.nan).to_numpy()
    return _Key(wanted, "harder" if stated == "harder" else "easier", values)


def _listed(file: str | None, ids: pa.Array, ids_in: str) -> np.ndarray:
    listed = np.zeros(len(ids), bool)
    if file is None:
        return listed
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{file} does not exist", "check the path")
    with path.open("rb") as handle:
        is_parquet = handle.read(4) == b"PAR1"
    if is_parquet:
        wanted = selected_ids(ParquetSource(file))
    else:
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except UnicodeDecodeError:
            raise InputError(
                f"{file} is neither Parquet nor text", "give a Parquet file with ids, or one id a line"
            ) from None
        wanted = pa.array([line for line in lines if line], pa.string())
    if len(wanted):
        listed[locate(wanted, ids, file, ids_in)] = True
    return listed


def _list_inputs(options: SelectOptions) -> list[InputFile]:
    import hashlib

    found = []
    for name in (options.keep, options.drop):
        if name is not None:
            found.append(InputFile(Path(name).name, hashlib.sha256(Path(name).read_bytes()).hexdigest()))
    return found
