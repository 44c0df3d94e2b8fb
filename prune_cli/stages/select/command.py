"""``prune select``: score manifests and features in, one selection manifest a budget out."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.params import build_params, split_assignments
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runs import position_type
from prune_cli.core.runtime import Runtime
from prune_cli.engines.handout import MapBlocks
from prune_cli.io.ids.columns import ID
from prune_cli.io.manifests.features import FeatureFile
from prune_cli.io.manifests.joined import Joined
from prune_cli.io.manifests.ledger import ErrorAllowance, Ledger, ledger_path, settle
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import write_batches
from prune_cli.io.runs.finished import BlockFolder
from prune_cli.io.stores.atomic import check_output
from prune_cli.io.stores.locations import STDIN, beside, work_folder
from prune_cli.methods.devices import device_name
from prune_cli.methods.registry.lookup import find_method, methods_of, preset_params
from prune_cli.methods.registry.method import Method
from prune_cli.methods.selection.baselines import TopParams
from prune_cli.methods.selection.choosing import choose
from prune_cli.stages.frame.engine import open_engine
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.select.budgets import Budget, budgets_of, check_counts, check_stated
from prune_cli.stages.select.files import (
    RankedRows,
    SelectionRows,
    ranked_rows,
    selection_batches,
    selection_schema,
    tell_curve,
    tell_extras,
)
from prune_cli.stages.select.key import Key, parse_directions, read_key, read_tie
from prune_cli.stages.select.plan import plan_of, row_memory
from prune_cli.stages.select.vectors import (
    candidates_of,
    engine_bytes,
    feature_file,
    memory_left,
    probability_file,
    read_features,
)
from prune_cli.stages.select.wishes import read_wishes

_STATED_BY_STAGE = ("key", "tie")


@dataclass(frozen=True)
class SelectOptions:
    """The options of ``prune select``; see docs/commands.md. Exactly one of the three budgets is given.

    ``before`` is the selection that ``prune manifest top-up`` adds to, in place of ``keep``.
    """

    scores: tuple[str, ...]
    method: str | None = None
    params: tuple[str, ...] = ()
    preset: str | None = None
    features: str | None = None
    probabilities: str | None = None
    fractions: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    threshold: float | None = None
    per_class: bool = False
    keep: str | None = None
    before: str | None = None
    drop: str | None = None
    directions: tuple[str, ...] = ()
    selected_only: bool = False
    plot: bool = False
    id_column: str = ID
    label_column: str = "label"
    embedding_column: str = "embedding"
    prob_column: str = "prob"
    max_errors: ErrorAllowance = dataclasses.field(default_factory=ErrorAllowance)
    runtime: Runtime = dataclasses.field(default_factory=Runtime)
    work_dir: Path | None = None
    output: str | None = None
    force: bool = False
    plan: bool = False

    @property
    def command(self) -> str:
        """The command that these are options of."""
        return "select" if self.before is None else "manifest top-up"


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
    method = find_method("selection", options.method or ("top" if options.threshold is not None else "window"))
    name = method.name
    check_stated(options.fractions, options.counts, options.threshold, name, options.per_class)
    params, wanted = _parameters(options, method)
    if options.runtime.engine != "local" and not method.in_blocks:
        raise InputError(
            f"--engine {options.runtime.engine} runs blocks of work, and {name} has none",
            f"leave out --engine, or use one of: {', '.join(n for n, m in methods_of('selection').items() if m.in_blocks)}",
        )
    scores = Joined(options.scores, id_column=options.id_column, label_column=options.label_column)
    memory = row_memory(options, method, len(scores.ids))
    if not options.plan:
        memory.check()
        scores.match(memory.for_sorting)
    if scores.ids.made_up:
        outcome.warnings.append(f"no column '{options.id_column}': ids are the positions, row-00000000 and on")
    if (options.per_class or "labels" in method.uses) and scores.labels is None:
        scores.sources[0].require(options.label_column, "--label-column")
    directions = parse_directions(options.directions)
    key: Key | None = None
    tie: Key | None = None
    if "score" in method.uses or wanted["key"] is not None or options.threshold is not None:
        key = read_key(scores, wanted["key"], directions)
        tie = read_tie(scores, key, wanted["tie"], directions)
    features = feature_file(options, method, scores, key)
    probabilities = probability_file(options, method, scores, features)
    wishes = read_wishes(options, scores)
    outcome.warnings += wishes.notes
    base = options.output or f"{scores.stem.removesuffix('.scores')}.selection.parquet"
    budgets = budgets_of(options.fractions, options.counts, options.threshold, len(scores.ids), base)
    curve = None if base == STDIN else beside(base, ".curve.parquet")
    if options.plan:
        return plan_outcome(options.command, plan_of(options, memory, method, params, features, scores, budgets))
    _check_outputs(options, method, budgets, curve)

    ledger = Ledger()
    for column in (key, tie):
        if column is not None:
            bad = np.flatnonzero(~np.isfinite(column.values_n))
            ledger.add_all(bad, f"no score: '{column.name}' is null, NaN or infinite")
    values_nd = read_features(options, method, params, features, ledger, progress)
    if probabilities is not None:
        probabilities.check(ledger, progress)
    if "labels" in method.uses and scores.labels is not None:
        ledger.add_all(np.flatnonzero(scores.labels.codes_n < 0), "missing label")
    wishes.check_kept(ledger, scores)
    rows = SelectionRows(scores, key, tie, features, probabilities, ledger.good(len(scores.ids)), wishes)
    provenance = _provenance(options, method, params, rows, len(ledger))
    errors = ledger_path(budgets[0].output, f"{scores.stem}.selection")
    settle(ledger, scores.ids, options.max_errors, errors, provenance)
    if len(ledger):
        outcome.warnings.append(
            f"{len(ledger)} row(s) without a score or a vector are not selected, listed in {errors}"
        )
    lost = np.flatnonzero(wishes.keep & ~rows.good)
    if len(lost):
        outcome.warnings.append(
            f"{len(lost)} of these are in --keep and cannot be kept, such as {scores.ids.take(lost[:1])[0]}"
        )
    if key is not None and tie is None and wanted["tie"] is None and key.share_tied > 0.1:
        outcome.warnings.append(
            f"{key.share_tied:.0%} of the rows share their '{key.name}' with others, and ids break the ties: a second score "
            "would do better (-p tie=COLUMN)"
        )

    eligible = rows.eligible
    positions = None if eligible.all() else np.flatnonzero(eligible).astype(position_type(len(eligible)))
    candidates = candidates_of(rows, positions, values_nd)
    kept_already = int(np.count_nonzero(candidates.kept))
    if options.threshold is None:
        check_counts(budgets, len(candidates), kept_already, wishes.keeper)
    free = len(candidates) - kept_already
    counts = [free if options.threshold is not None else b.count - kept_already for b in budgets]
    with _engine(options, method, params, features, provenance, base, progress) as map_blocks:
        choice = choose(
            name, candidates, params, counts=counts, per_class=options.per_class, seed=options.runtime.seed,
            device=options.runtime.device, progress=progress, memory=memory_left(options, method, params, features),
            map_blocks=map_blocks,
        )  # fmt: skip

    outcome.tables["kept"] = [["budget", "rows kept", "of", "share", "file"]]
    files = []
    for number, (budget, count) in enumerate(zip(budgets, counts, strict=True)):
        ranking, extra = choice.rankings[number], choice.extras[number] if choice.extras else None
        ranked = ranked_rows(rows, positions, candidates, ranking, count if not method.nested else None, extra)
        if options.threshold is not None:
            chosen = _beyond_threshold(options.threshold, params, rows, ranked) | (wishes.keep & eligible)
        else:
            chosen = (ranked.rank_n > 0) & (ranked.rank_n <= budget.count)
        kept = int(np.count_nonzero(chosen))
        made = dataclasses.replace(
            provenance,
            parameters={**provenance.parameters, **budget.stated},
            rows={**provenance.rows, "rows_out": kept if options.selected_only else len(chosen)},
        )
        batches = selection_batches(rows, ranked, chosen, options.selected_only)
        write_batches(budget.output, selection_schema(rows, ranked), batches, made, scores.sources[0].schema.metadata)
        figures = {"rows_kept_before": kept_already} if options.before is not None else {}
        files.append(
            {"output": budget.output, **budget.stated, "rows_kept": kept, **figures, **(extra.figures if extra else {})}
        )
        outcome.tables["kept"].append(
            [budget.shown(), f"{kept:,}", f"{len(chosen):,}", f"{kept / len(chosen):.1%}", budget.output]
        )
        if kept == 0:
            outcome.warnings.append(f"{budget.shown()}: no row is selected")
    outcome.outputs = [budget.output for budget in budgets]
    outcome.summary = {
        "command": options.command,
        "method": name,
        "key": key.name if key else None,
        "tie": tie.name if tie else None,
        "outputs": files,
        **provenance.rows,
    }
    if choice.extras:
        tell_extras(choice.extras, budgets, outcome)
    if choice.curve is not None:
        tell_curve(choice.curve, budgets, curve, options.plot, provenance, outcome)
    outcome.summary |= watch.figures()
    return outcome


@contextlib.contextmanager
def _engine(
    options: SelectOptions,
    method: Method,
    params: Any,
    features: FeatureFile | None,
    provenance: Provenance,
    base: str,
    progress: Progress,
) -> Iterator[MapBlocks | None]:
    """Yield what hands out the blocks of a method that has some, which are kept until the selection is whole; else None."""
    if not method.in_blocks or features is None:
        yield None
        return
    stated = provenance.to_dict()
    identity = {
        name: stated[name] for name in ("method", "parameters", "score_direction", "seed", "device", "versions")
    }
    read = {
        "inputs": [i["sha256"] for i in stated["inputs"]],
        "rows": [stated[name] for name in ("rows_in", "rows_bad")],
        "columns": [options.id_column, options.label_column, options.embedding_column, options.prob_column],
        "budget": [options.fractions, options.counts],
    }
    local = options.work_dir or work_folder(base)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if base == STDIN else local
        store = BlockFolder(folder, {**identity, **read})
        held = engine_bytes(options, method, params, features)
        with open_engine(options.runtime, held) as engine:
            yield MapBlocks(engine, store, progress, keep_all=options.work_dir is not None)
        if options.work_dir is None:
            store.remove()


def _parameters(options: SelectOptions, method: Method) -> tuple[Any, dict[str, str | None]]:
    """Return the method's parameters, and those that every method has: the key and what breaks its ties."""
    assignments = split_assignments(options.params, (method.name,))[method.name]
    wanted = {name: assignments.pop(name, None) for name in _STATED_BY_STAGE}
    preset = preset_params(options.preset, "selection", [method.name])[method.name]
    return build_params(method.params_class(), {**preset, **assignments}, method.name), wanted


def _provenance(options: SelectOptions, method: Method, params: Any, rows: SelectionRows, bad: int) -> Provenance:
    n_rows = len(rows.scores.ids)
    packages = ("numpy", "pyarrow", *(("torch", "numba") if "features" in method.uses else ()))
    inputs = [*rows.scores.inputs, *rows.wishes.inputs]
    for source in {file.source.location: file.source for file in (rows.features, rows.probabilities) if file}.values():
        if source.location not in {s.location for s in rows.scores.sources}:
            inputs += source.inputs
    return Provenance(
        command=options.command,
        method=method.name,
        parameters={
            **dataclasses.asdict(params),
            "key": rows.key.name if rows.key else None,
            "tie": rows.tie.name if rows.tie else None,
            "nested": method.nested,
            "per_class": options.per_class,
            "keep": bool(options.keep or options.before),
            "drop": bool(options.drop),
            "selected_only": options.selected_only,
        },
        seed=options.runtime.seed,
        inputs=inputs,
        device=device_name(options.runtime.device) if "features" in method.uses else "cpu",
        packages=packages,
        score_direction={k.name: k.direction for k in (rows.key, rows.tie) if k is not None},
        rows={"rows_in": n_rows, "rows_out": n_rows, "rows_bad": bad},
    )


def _beyond_threshold(threshold: float, params: object, rows: SelectionRows, ranked: RankedRows) -> np.ndarray:
    assert isinstance(params, TopParams)
    assert rows.key is not None
    bound = threshold if rows.key.direction == "harder" else -threshold
    with np.errstate(invalid="ignore"):
        difficulty = rows.key.difficulty()
        beyond = difficulty <= bound if params.order == "easiest" else difficulty >= bound
    chosen: np.ndarray = beyond & rows.eligible & ~ranked.skipped_n
    return chosen


def _check_outputs(options: SelectOptions, method: Method, budgets: list[Budget], curve: str | None) -> None:
    outputs = [budget.output for budget in budgets]
    tries = method.name in {"window", "best"}
    if options.plot and (not tries or curve is None):
        raise InputError(
            "--plot draws the curve of what a method tried, and there is none here",
            "use --method window or --method best, and a file for -o",
        )
    if tries and curve is not None:
        outputs += [curve, *([beside(curve, ".png")] if options.plot else [])]
    for output in outputs:
        check_output(output, options.force)
