"""``prune select``: score manifests and features in, one selection manifest a budget out."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError
from prune_cli.core.params import build_params, split_assignments
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import Runtime
from prune_cli.io.atomic import check_output
from prune_cli.io.columns import ID, canonical_order, locate
from prune_cli.io.curves import draw_curve
from prune_cli.io.features import FeatureFile, StreamedFeatures
from prune_cli.io.joined import Joined
from prune_cli.io.ledger import ErrorAllowance, Ledger, ledger_path, settle
from prune_cli.io.provenance import InputFile, Provenance, read_provenance
from prune_cli.io.selection import selected_ids
from prune_cli.io.tables import STDIN, ParquetSource, write_table
from prune_cli.methods.registry import Method, find_method, preset_params
from prune_cli.methods.selection.baselines import TopParams
from prune_cli.methods.selection.candidates import ArrayFeatures, Candidates, Curve, Features, Ranking
from prune_cli.methods.selection.choosing import choose
from prune_cli.stages.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.score_key import Key, parse_directions, read_key, read_tie, sub_terms

PROCESS_BYTES = 200 * 2**20
LIBRARY_BYTES = 500 * 2**20
ROW_BYTES = 400
"""Memory of Python with pyarrow, of torch and numba beside it, and of each row with string ids: measured upper bounds."""

_STATED_BY_STAGE = ("key", "tie")


@dataclass(frozen=True)
class SelectOptions:
    """The options of ``prune select``; see docs/commands.md. Exactly one of the three budgets is given."""

    scores: tuple[str, ...]
    method: str | None = None
    params: tuple[str, ...] = ()
    preset: str | None = None
    features: str | None = None
    fractions: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    threshold: float | None = None
    per_class: bool = False
    keep: str | None = None
    drop: str | None = None
    directions: tuple[str, ...] = ()
    selected_only: bool = False
    plot: bool = False
    id_column: str = ID
    label_column: str = "label"
    embedding_column: str = "embedding"
    max_errors: ErrorAllowance = dataclasses.field(default_factory=ErrorAllowance)
    runtime: Runtime = dataclasses.field(default_factory=Runtime)
    output: str | None = None
    force: bool = False
    plan: bool = False


@dataclass(frozen=True)
class _Budget:
    """One budget: how it was stated, how many rows it keeps, and where the answer goes."""

    stated: dict[str, object]
    count: int
    output: str

    def shown(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.stated.items())


@dataclass(frozen=True)
class _Rows:
    """The rows to choose from, by position: what is known of each, and what the user said of it."""

    scores: Joined
    key: Key | None
    tie: Key | None
    features: FeatureFile | None
    good: np.ndarray
    keep: np.ndarray
    drop: np.ndarray

    @property
    def eligible(self) -> np.ndarray:
        """(N,) bool, rows that can be kept."""
        rows: np.ndarray = self.good & ~self.drop
        return rows


def select(options: SelectOptions, progress: Progress = silent) -> Outcome:
    """Choose rows of a score manifest: every input row comes back once, kept or not, with the reason.

    Returns:
        Outcome with one selection manifest for each budget, and the curve of what a method tried.
    Raises:
        InputError: bad input or options; nothing is written.
        BadRowsError: more rows without a score or a vector than allowed; the ledger alone is written.
    """
    watch = Stopwatch()
    outcome = Outcome()
    name = options.method or ("top" if options.threshold is not None else "window")
    _check_budget(options, name)
    method = find_method("selection", name)
    params, wanted = _parameters(options, method)
    scores = Joined(options.scores, id_column=options.id_column, label_column=options.label_column)
    if scores.ids_made_up:
        outcome.warnings.append(f"no column '{options.id_column}': ids are the positions, row-00000000 and on")
    if options.per_class or "labels" in method.uses:
        scores.sources[0].require(options.label_column, "--label-column")
    directions = parse_directions(options.directions)
    key: Key | None = None
    tie: Key | None = None
    if "score" in method.uses or wanted["key"] is not None or options.threshold is not None:
        key = read_key(scores, wanted["key"], directions)
        tie = read_tie(scores, key, wanted["tie"], directions)
    features = _feature_file(options, method, scores, key)
    keep, drop = (_listed(file, scores) for file in (options.keep, options.drop))
    if (keep & drop).any():
        both = scores.ids.filter(pa.array(keep & drop))
        raise InputError(f"{len(both)} id(s) are in --keep and in --drop, such as {both[0]}", "take them out of one")
    budgets = _budgets(options, scores)
    curve_path = _beside(options, scores, ".curve.parquet")
    if options.plan:
        return plan_outcome("select", _plan(options, method, params, scores, features, len(budgets)))
    _check_outputs(options, method, budgets, curve_path)

    ledger = Ledger()
    for column in (key, tie):
        if column is not None:
            bad = np.flatnonzero(~np.isfinite(column.values_n))
            ledger.add_all(bad, f"no score: '{column.name}' is null, NaN or infinite")
    values_nd = _read_features(options, method, features, ledger, progress)
    if "labels" in method.uses and scores.labels is not None:
        ledger.add_all(np.flatnonzero(scores.labels.codes_n < 0), "missing label")
    rows = _Rows(scores, key, tie, features, ledger.good(len(scores.ids)), keep, drop)
    provenance = _provenance(options, method, params, rows, len(ledger))
    errors = ledger_path(budgets[0].output, f"{scores.stem}.selection")
    settle(ledger, scores.ids, options.max_errors, errors, provenance)
    if len(ledger):
        outcome.warnings.append(
            f"{len(ledger)} row(s) without a score or a vector are not selected, listed in {errors}"
        )
    if key is not None and tie is None and wanted["tie"] is None and key.share_tied() > 0.1:
        outcome.warnings.append(
            f"{key.share_tied():.0%} of the rows share their '{key.name}' with others, and ids break the ties: a second score "
            "would do better (-p tie=COLUMN)"
        )

    positions = np.flatnonzero(rows.eligible)
    candidates = _candidates(rows, positions, values_nd)
    _check_counts(options, budgets, len(positions), int(candidates.kept.sum()))
    kept_already = int(candidates.kept.sum())
    free = len(positions) - kept_already
    counts = [free if options.threshold is not None else b.count - kept_already for b in budgets]
    choice = choose(
        name, candidates, params, counts=counts, per_class=options.per_class, seed=options.runtime.seed,
        device=options.runtime.device, progress=progress,
    )  # fmt: skip

    outcome.tables["kept"] = [["budget", "rows kept", "of", "share", "file"]]
    files = []
    for budget, count, ranking in zip(budgets, counts, choice.rankings, strict=True):
        table, chosen = _selection_table(rows, positions, candidates, ranking, count if not method.nested else None)
        if options.threshold is not None:
            chosen = _beyond_threshold(options.threshold, params, rows, table) | (keep & rows.eligible)
        else:
            chosen &= table["rank"].fill_null(len(chosen) + 1).to_numpy() <= budget.count
        table = _with_choice(table, chosen)
        if options.selected_only:
            table = table.filter(pa.array(chosen))
        made = dataclasses.replace(
            provenance,
            parameters={**provenance.parameters, **budget.stated},
            rows={**provenance.rows, "rows_out": len(table)},
        )
        write_table(budget.output, table, made, scores.sources[0])
        kept = int(chosen.sum())
        files.append({"output": budget.output, **budget.stated, "rows_kept": kept})
        outcome.tables["kept"].append(
            [budget.shown(), f"{kept:,}", f"{len(chosen):,}", f"{kept / len(chosen):.1%}", budget.output]
        )
        if kept == 0:
            outcome.warnings.append(f"{budget.shown()}: no row is selected")
    outcome.outputs = [budget.output for budget in budgets]
    outcome.summary = {
        "command": "select",
        "method": name,
        "key": key.name if key else None,
        "tie": tie.name if tie else None,
        "outputs": files,
        **provenance.rows,
    }
    if choice.curve is not None:
        _tell_curve(options, choice.curve, budgets, curve_path, provenance, outcome)
    outcome.summary |= watch.figures()
    return outcome


def _parameters(options: SelectOptions, method: Method) -> tuple[Any, dict[str, str | None]]:
    """Return the method's parameters, and those that every method has: the key and what breaks its ties."""
    assignments = split_assignments(options.params, (method.name,))[method.name]
    wanted = {name: assignments.pop(name, None) for name in _STATED_BY_STAGE}
    preset = preset_params(options.preset, "selection", [method.name])[method.name]
    return build_params(method.params_class(), {**preset, **assignments}, method.name), wanted


def _provenance(options: SelectOptions, method: Method, params: Any, rows: _Rows, bad: int) -> Provenance:
    n_rows = len(rows.scores.ids)
    packages = ("numpy", "pyarrow", *(("torch", "numba") if "features" in method.uses else ()))
    inputs = [*rows.scores.inputs, *_list_inputs(options)]
    if rows.features is not None and rows.features.source not in rows.scores.sources:
        inputs += rows.features.source.inputs
    return Provenance(
        command="select",
        method=method.name,
        parameters={
            **dataclasses.asdict(params),
            "key": rows.key.name if rows.key else None,
            "tie": rows.tie.name if rows.tie else None,
            "nested": method.nested,
            "per_class": options.per_class,
            "keep": bool(options.keep),
            "drop": bool(options.drop),
            "selected_only": options.selected_only,
        },
        seed=options.runtime.seed,
        inputs=inputs,
        packages=packages,
        score_direction={k.name: k.direction for k in (rows.key, rows.tie) if k is not None},
        rows={"rows_in": n_rows, "rows_out": n_rows, "rows_bad": bad},
    )


def _feature_file(options: SelectOptions, method: Method, scores: Joined, key: Key | None) -> FeatureFile | None:
    """Return where the vectors are, for a method that needs them: the file named, or the scores' own column."""
    if "features" not in method.uses:
        if options.features is not None:
            raise InputError(f"{method.name} goes by no features, and --features is given", "leave it out")
        return None
    if options.features is not None:
        source = ParquetSource(options.features)
    else:
        own = [s for s in scores.sources if options.embedding_column in s.schema.names]
        if not own:
            data = next(
                (i["name"] for s in scores.sources for i in (read_provenance(s.schema) or {}).get("inputs", [])),
                "DATA",
            )
            raise InputError(
                f"{method.name} needs features, and {scores.location} has no column '{options.embedding_column}'",
                f"make them: prune score {data} --method {key.name if key and key.name != 'cg' else 'loss'} --preset fast "
                "--save-features features.parquet -o fast.scores.parquet\n  and add: --features features.parquet (a file with the "
                "column of your own works too); or choose by the score alone: --method top, --method stratified",
            )
        source = own[0]
    return FeatureFile(
        source,
        scores.ids,
        scores.sources[0].location,
        id_column=options.id_column if options.id_column in source.schema.names else ID,
        embedding_column=options.embedding_column,
    )


def _read_features(
    options: SelectOptions, method: Method, features: FeatureFile | None, ledger: Ledger, progress: Progress
) -> np.ndarray | None:
    """Return the vectors in memory; None where there are none or they stay in the file, once all were looked at."""
    if features is None:
        return None
    if method.reads_blocks and not _fits(options, features):
        features.check(ledger, progress)
        return None
    if not _fits(options, features):
        StreamedFeatures(features, np.arange(features.rows)).array()
    return features.load(ledger, progress)


def _fits(options: SelectOptions, features: FeatureFile) -> bool:
    return 2 * features.nbytes <= options.runtime.memory_budget()


def _candidates(rows: _Rows, positions: np.ndarray, values_nd: np.ndarray | None) -> Candidates:
    """Return the rows that can be kept as the methods see them, numbered from 0."""
    by_id = canonical_order(rows.scores.ids)
    number = np.full(len(by_id), -1, np.int64)
    number[positions] = np.arange(len(positions))
    order_n = number[by_id]
    features: Features | None = None
    if values_nd is not None:
        whole = len(positions) == len(values_nd)
        features = ArrayFeatures(values_nd if whole else values_nd[positions])
    elif rows.features is not None:
        features = StreamedFeatures(rows.features, positions)
    labels, key, tie = rows.scores.labels, rows.key, rows.tie
    terms = sub_terms(rows.scores, key.name) if key is not None else {}
    return Candidates(
        order_n[order_n >= 0],
        difficulty_n=key.difficulty()[positions] if key is not None else None,
        tie_n=tie.difficulty()[positions] if tie is not None else None,
        columns={name: values[positions] for name, values in terms.items()},
        codes_n=labels.codes_n[positions] if labels is not None else None,
        features=features,
        kept_n=rows.keep[positions] if rows.keep.any() else None,
    )


def _selection_table(
    rows: _Rows, positions: np.ndarray, candidates: Candidates, ranking: Ranking, limit: int | None
) -> tuple[pa.Table, np.ndarray]:
    """Return the manifest but for what is selected, and (N,) bool of the rows that have a rank."""
    n_rows = len(rows.scores.ids)
    kept = candidates.order_n[candidates.kept[candidates.order_n]]
    order_n = positions[np.concatenate([kept, ranking.order_n[:limit]])]
    rank = np.zeros(n_rows, np.int64)
    rank[order_n] = np.arange(1, len(order_n) + 1)
    reason = np.full(n_rows, ranking.reason, object)
    reason[positions[ranking.order_n[len(ranking.order_n) - ranking.skipped :]]] = ranking.skipped_reason
    reason[~rows.good] = "no score or vector" if rows.features is not None else "no score"
    reason[rows.drop] = "dropped by --drop"
    columns: dict[str, pa.Array] = {ID: rows.scores.ids}
    if rows.scores.labels is not None:
        columns["label"] = rows.scores.labels.values()
    columns["rank"] = pa.array(rank, pa.int64(), mask=rank == 0)
    if rows.key is not None:
        columns["score"] = pa.array(rows.key.values_n, pa.float64(), mask=~np.isfinite(rows.key.values_n))
    if ranking.gain_n is not None:
        gains = np.zeros(n_rows)
        gains[positions[ranking.order_n]] = ranking.gain_n
        ranked = np.zeros(n_rows, bool)
        ranked[positions[ranking.order_n]] = True
        columns["gain"] = pa.array(gains, pa.float64(), mask=~ranked)
    columns["reason"] = pa.array(reason, pa.string())
    return pa.table(columns), rank > 0


def _with_choice(table: pa.Table, chosen: np.ndarray) -> pa.Table:
    reasons = pa.array(table["reason"].to_numpy(), pa.string(), mask=chosen)
    at = table.schema.get_field_index("rank")
    table = table.set_column(table.schema.get_field_index("reason"), "reason", reasons)
    return table.add_column(at, "selected", pa.array(chosen))


def row_count(fraction: float, rows: int) -> int:
    """Return how many rows a fraction keeps: rounded to the nearest, halves up, at least one.

    >>> row_count(0.3, 10), row_count(0.25, 10), row_count(0.01, 10), row_count(0.29, 100)
    (3, 3, 1, 29)
    """
    return max(1, math.floor(fraction * rows + 0.5 + 1e-9))


def _beyond_threshold(threshold: float, params: object, rows: _Rows, table: pa.Table) -> np.ndarray:
    assert isinstance(params, TopParams)
    assert rows.key is not None
    bound = threshold if rows.key.direction == "harder" else -threshold
    with np.errstate(invalid="ignore"):
        difficulty = rows.key.difficulty()
        beyond = difficulty <= bound if params.order == "easiest" else difficulty >= bound
    skipped = np.array([reason == "skipped by the offset" for reason in table["reason"].to_pylist()])
    chosen: np.ndarray = beyond & rows.eligible & ~skipped
    return chosen


def _tell_curve(
    options: SelectOptions,
    curve: Curve,
    budgets: list[_Budget],
    path: Path | None,
    provenance: Provenance,
    outcome: Outcome,
) -> None:
    """Write the curve beside the selections, draw it where that is wanted, and print the best of each budget."""
    n_rows = provenance.rows["rows_in"]
    counts = np.array([budget.count for budget in budgets])[curve.budget]
    unknown = np.isnan(curve.start)
    table = pa.table(
        {
            "fraction": pa.array(counts / n_rows, pa.float64()),
            "count": pa.array(counts, pa.int64()),
            "method": pa.array(list(curve.name), pa.string()),
            "start": pa.array(curve.start, pa.float64(), mask=unknown),
            "window_start": pa.array(curve.window_start, pa.int64(), mask=curve.window_start < 0),
            "proxy_accuracy": pa.array(curve.proxy_accuracy, pa.float64()),
            "best": pa.array(curve.best),
        }
    )
    rows = [["budget", "best start" if not unknown.any() else "best method", "proxy accuracy", "worst", "trials"]]
    best_starts = []
    for number, budget in enumerate(budgets):
        mine = np.flatnonzero(curve.budget == number)
        best = int(mine[curve.best[mine]][0])
        start = curve.name[best] if unknown[best] else f"{curve.start[best]:.3g}"
        accuracy = curve.proxy_accuracy
        rows.append([budget.shown(), start, f"{accuracy[best]:.4f}", f"{accuracy[mine].min():.4f}", str(len(mine))])
        best_starts.append(
            {**budget.stated, "method": curve.name[best], "proxy_accuracy": float(accuracy[best])}
            | ({} if unknown[best] else {"start": float(curve.start[best])})
        )
    outcome.tables["best"] = rows
    outcome.summary["best"] = best_starts
    if path is None:
        outcome.warnings.append("standard output is one file: the curve is not written (name a file with -o)")
        return
    write_table(str(path), table, dataclasses.replace(provenance, rows={**provenance.rows, "rows_out": len(table)}))
    outcome.summary["curve"] = str(path)
    if options.plot:
        picture = path.with_suffix(".png")
        draw_curve(picture, table)
        outcome.summary["plot"] = str(picture)


def _plan(
    options: SelectOptions, method: Method, params: Any, scores: Joined, features: FeatureFile | None, budgets: int
) -> dict[str, Any]:
    rows = len(scores.ids)
    memory, passes = PROCESS_BYTES + ROW_BYTES * rows, 1
    if features is not None:
        streamed = method.reads_blocks and not _fits(options, features)
        memory += LIBRARY_BYTES + (0 if streamed else 2 * features.nbytes)
        passes = 4 if streamed else 1
        if method.name == "window":
            memory += int((1 / params.step + 1) * budgets**0.5) * 8 * features.width**2
        if hasattr(params, "neighbors"):
            memory += 24 * rows * params.neighbors
    return {
        "rows": rows,
        "passes_over_data": passes,
        "algorithm": f"{method.name}: {method.cost}",
        "peak_memory_bytes": memory,
        "disk_bytes": 48 * rows * budgets,
    }


def _check_budget(options: SelectOptions, method: str) -> None:
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
        if method != "top":
            raise InputError(f"--threshold has no meaning for {method}", "use --fraction or --count, or --method top")
        if options.per_class:
            raise InputError("--per-class has no meaning with --threshold", "use --fraction or --count")


def _check_counts(options: SelectOptions, budgets: list[_Budget], eligible: int, kept: int) -> None:
    if options.threshold is not None:
        return
    for budget in budgets:
        if budget.count > eligible:
            raise InputError(
                f"the budget is {budget.count:,} rows and {eligible:,} can be selected",
                "give a smaller budget or drop less",
            )
        if budget.count < kept:
            raise InputError(
                f"the budget is {budget.count:,} rows and --keep {options.keep} names {kept:,}",
                "give a larger budget or keep less",
            )


def _budgets(options: SelectOptions, scores: Joined) -> list[_Budget]:
    base = options.output or f"{scores.stem.removesuffix('.scores')}.selection.parquet"
    if options.threshold is not None:
        return [_Budget({"threshold": options.threshold}, 0, base)]
    stated: list[dict[str, object]] = [{"fraction": fraction} for fraction in options.fractions]
    stated += [{"count": count} for count in options.counts]
    counts = [*(row_count(f, len(scores.ids)) for f in options.fractions), *options.counts]
    if len(stated) == 1:
        outputs = [base]
    elif base == STDIN:
        raise InputError(
            "several budgets make several files, and standard output is one", "name a file with -o, or one budget"
        )
    else:
        path = Path(base)
        name = path.name.removesuffix(".parquet")
        values = [*options.fractions, *options.counts]
        outputs = [str(path.with_name(f"{name}-{value:.10g}.parquet")) for value in values]
    return [_Budget(s, c, o) for s, c, o in zip(stated, counts, outputs, strict=True)]


def _beside(options: SelectOptions, scores: Joined, suffix: str) -> Path | None:
    base = options.output or f"{scores.stem.removesuffix('.scores')}.selection.parquet"
    return None if base == STDIN else Path(base).with_name(Path(base).name.removesuffix(".parquet") + suffix)


def _check_outputs(options: SelectOptions, method: Method, budgets: list[_Budget], curve: Path | None) -> None:
    paths = [Path(budget.output) for budget in budgets if budget.output != STDIN]
    tries = method.name in {"window", "best"}
    if options.plot and (not tries or curve is None):
        raise InputError(
            "--plot draws the curve of what a method tried, and there is none here",
            "use --method window or --method best, and a file for -o",
        )
    if tries and curve is not None:
        paths += [curve, *([curve.with_suffix(".png")] if options.plot else [])]
    for path in paths:
        check_output(path, options.force)


def _listed(file: str | None, scores: Joined) -> np.ndarray:
    listed = np.zeros(len(scores.ids), bool)
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
        listed[locate(wanted, scores.ids, file, scores.location)] = True
    return listed


def _list_inputs(options: SelectOptions) -> list[InputFile]:
    found = []
    for name in (options.keep, options.drop):
        if name is not None:
            found.append(InputFile(Path(name).name, hashlib.sha256(Path(name).read_bytes()).hexdigest()))
    return found
