"""``prune select``: score manifests and features in, one selection manifest a budget out. ``prune manifest top-up`` adds to one."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.engines.handout import MapBlocks
from prune_cli.io.manifests.ledger import Ledger, ledger_path, settle
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.runs.finished import BlockFolder
from prune_cli.io.stores.locations import STDIN, stem_of, work_folder
from prune_cli.methods.devices import device_name
from prune_cli.methods.registry.selections import DEFAULT_BY_SCORE
from prune_cli.methods.selection.capabilities import Explained, HoldsMemory, InBlocks, MayNest, ProblemSize
from prune_cli.methods.selection.choosing import block_work, choose
from prune_cli.methods.selection.contract import Run
from prune_cli.stages.frame.engine import machine_figures, open_engine
from prune_cli.stages.frame.outcome import Outcome, Stopwatch, plan_outcome
from prune_cli.stages.select.eligible import EligibleRows, eligible_rows
from prune_cli.stages.select.inputs import Inputs, SelectionRows, open_inputs, read_rows
from prune_cli.stages.select.memory import LIBRARY_BYTES, VectorMemory
from prune_cli.stages.select.outputs import Outputs, outputs_of
from prune_cli.stages.select.request import Budget, Request, SelectOptions, check_counts, read_request
from prune_cli.stages.select.results import write_results


def plan_of(request: Request, inputs: Inputs, budgets: Sequence[Budget]) -> dict[str, Any]:
    """Return the figures of ``--plan``; of blocks those of one budget inside each class as if there were no classes."""
    rows, memory, passes = inputs.memory.rows, inputs.memory.peak, 1
    more: dict[str, Any] = {}
    if inputs.features is not None:
        vectors, params = inputs.vectors, request.params
        division, streamed = vectors.division, vectors.streamed
        memory += LIBRARY_BYTES + (0 if streamed else 2 * inputs.features.nbytes)
        if streamed:
            passes = 7 if division is None else 3 * division.count
        if division is not None:
            more["partitions"] = division.words(rows)
        n_classes = len(inputs.scores.labels.classes) if inputs.scores.labels is not None else 1
        counts = [budget.count for budget in budgets]
        problem = ProblemSize(rows, inputs.features.width, max(1, n_classes), counts, vectors.held, vectors.left)
        if isinstance(params, HoldsMemory):
            memory += params.extra_bytes(problem)
        if isinstance(params, Explained):
            more |= params.plan(problem)
        work = block_work(params, problem)
        if work is not None:
            figures = machine_figures(work.count, work.nbytes, vectors.engine_bytes, work.flops, "float32", request.options.runtime, None)
            del figures["peak_memory_bytes"]
            more |= {"blocks": work.count, "flops": work.flops, "block_bytes": work.nbytes, **figures}
    return {
        "rows": rows,
        "passes_over_data": passes,
        "algorithm": f"{request.method.name}: {request.method.cost}",
        "ids": inputs.memory.sorting(),
        **more,
        "peak_memory_bytes": memory,
        "disk_bytes": 48 * rows * len(budgets),
    }


def select(options: SelectOptions, progress: Progress = silent) -> Outcome:
    """Choose rows of a score manifest: every input row comes back once, kept or not, with the reason.

    Returns:
        Outcome with one selection manifest for each budget, and the curve of what a method tried.
    Raises:
        InputError: bad input or options; nothing is written.
        BadRowsError: more rows without a score or a vector than allowed; the ledger alone is written.
    """
    watch = Stopwatch()
    request = read_request(options)
    inputs = open_inputs(request)
    outputs = outputs_of(request, inputs)
    if options.plan:
        return plan_outcome(options.command, plan_of(request, inputs, outputs.budgets))
    outputs.check(request)
    ledger = Ledger()
    rows = read_rows(inputs, ledger, progress)
    provenance = _provenance(request, rows, len(ledger))
    errors = ledger_path(outputs.budgets[0].output, f"{rows.scores.stem}.selection")
    settle(ledger, rows.scores.ids, options.max_errors, errors, provenance)
    outcome = Outcome(warnings=_warnings(request, rows, len(ledger), errors))
    eligible = eligible_rows(rows)
    counts = _counts(rows, eligible, outputs)
    runtime = options.runtime
    with _engine(request, rows.vectors, provenance, outputs.base, progress) as map_blocks:
        memory = rows.vectors.left
        run = Run(counts, runtime.seed, runtime.device, progress, rows.per_class, memory, map_blocks)
        choice = choose(request.method.name, eligible.candidates, request.params, run)
    write_results(request, rows, eligible, choice, outputs, provenance, outcome)
    outcome.summary |= watch.figures()
    return outcome


def _counts(rows: SelectionRows, eligible: EligibleRows, outputs: Outputs) -> list[int]:
    """Return how many each budget adds to what is kept already; raise where that is fewer than none or more than there are."""
    n_rows, kept = len(eligible.candidates), eligible.kept
    if rows.threshold is not None:
        return [n_rows - kept]
    check_counts(outputs.budgets, n_rows, kept, rows.wishes.keeper)
    return [budget.count - kept for budget in outputs.budgets]


def _warnings(request: Request, rows: SelectionRows, bad: int, errors: str) -> list[str]:
    """Return what the user should know of the rows."""
    ids, key, found = rows.scores.ids, rows.key, []
    if ids.made_up:
        found.append(f"no column '{request.options.id_column}': ids are the positions, row-00000000 and on")
    found += rows.wishes.notes
    if bad:
        found.append(f"{bad} row(s) without a score or a vector are not selected, listed in {errors}")
    lost = np.flatnonzero(rows.wishes.keep & ~rows.good)
    if len(lost):
        found.append(f"{len(lost)} of these are in --keep and cannot be kept, such as {ids.take(lost[:1])[0]}")
    if key is not None and rows.tie is None and request.keys.tie is None and key.share_tied > 0.1:
        found.append(
            f"{key.share_tied:.0%} of the rows share their '{key.name}' with others, and ids break the ties: a second score "
            "would do better (-p tie=COLUMN)"
        )
    return found


@contextlib.contextmanager
def _engine(request: Request, vectors: VectorMemory, provenance: Provenance, base: str, progress: Progress) -> Iterator[MapBlocks | None]:
    """Yield what hands out the blocks of a method that has some, which are kept until the selection is whole; else None."""
    options = request.options
    if not isinstance(request.params, InBlocks) or vectors.features is None:
        yield None
        return
    stated = provenance.to_dict()
    identity = {name: stated[name] for name in ("method", "parameters", "score_direction", "seed", "device", "versions")}
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
        with open_engine(options.runtime, vectors.engine_bytes) as engine:
            yield MapBlocks(engine, store, progress, keep_all=options.work_dir is not None)
        if options.work_dir is None:
            store.remove()


def _provenance(request: Request, rows: SelectionRows, bad: int) -> Provenance:
    options, method = request.options, request.method
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
            **dataclasses.asdict(request.params),
            "key": rows.key.name if rows.key else None,
            "tie": rows.tie.name if rows.tie else None,
            "nested": method.nested and (not isinstance(request.params, MayNest) or request.params.nests()),
            "per_class": rows.per_class,
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


def top_up(before: str, options: SelectOptions, progress: Progress = silent) -> Outcome:
    """Select so many rows that those an older selection keeps are among them, first and in their order.

    The method sees the rows that are kept already, as with ``prune select --keep``, and chooses the others by the new scores: among
    rows that the older selection left out and rows that it did not know.

    Args:
        before: the older selection.
        options: of ``prune select``, with a budget of rows kept in all.
        progress: told how far it is.
    Raises:
        InputError: a row that was kept and has no score, must be dropped, or is beyond the budget; see `select`.
        BadRowsError: see `select`.
    """
    if not options.fractions and not options.counts:
        raise InputError(
            "top-up needs a budget", "give --count 1200 or --fraction 0.3: the rows kept in all, those that were kept before among them"
        )
    output = options.output or f"{stem_of(before).removesuffix('.selection')}.top-up.parquet"
    adding = dataclasses.replace(options, before=before, method=options.method or DEFAULT_BY_SCORE, output=output)
    outcome = select(adding, progress)
    if "kept" in outcome.tables:
        column = ["kept before", *(f"{made['rows_kept_before']:,}" for made in outcome.summary["outputs"])]
        outcome.tables["kept"] = [[*row, cell] for row, cell in zip(outcome.tables["kept"], column, strict=True)]
    return outcome
