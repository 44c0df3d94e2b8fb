"""``prune score``: a data manifest in, a score manifest out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InputError, InterruptedRun
from prune_cli.core.params import build_params, split_assignments
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import Runtime, format_size
from prune_cli.engines.local import map_blocks
from prune_cli.io.atomic import check_output
from prune_cli.io.blocks import BlockFolder
from prune_cli.io.columns import ID, canonical_order
from prune_cli.io.ledger import Ledger, ledger_path, settle
from prune_cli.io.manifest import DataOptions, Dataset, drop_rows
from prune_cli.io.provenance import Provenance
from prune_cli.io.tables import STDIN, write_table
from prune_cli.methods.devices import device_name, resolve_device
from prune_cli.methods.registry import find_method, preset_params
from prune_cli.methods.scores import complexity_gap
from prune_cli.stages.outcome import Outcome, Stopwatch, plan_outcome

PACKAGES = ("numpy", "torch", "pyarrow", "pillow")
PROCESS_BYTES = 900 * 2**20
"""Resident size of Python with torch, pyarrow and Pillow loaded and a few buffers, measured; stated by ``--plan``."""


@dataclass(frozen=True)
class ScoreOptions:
    """The options of ``prune score``; see docs/commands.md."""

    data: DataOptions
    methods: tuple[str, ...]
    params: tuple[str, ...] = ()
    preset: str | None = None
    output: str | None = None
    work_dir: Path | None = None
    force: bool = False
    plan: bool = False
    runtime: Runtime = dataclasses.field(default_factory=Runtime)


def score(options: ScoreOptions, progress: Progress = silent) -> Outcome:
    """Score every row of a data manifest.

    Returns:
        Outcome whose output is a score manifest: ``id``, ``label``, one float64 column per score.
    Raises:
        InputError: bad input or options; nothing is written.
        BadRowsError: more bad rows than allowed; the ledger alone is written.
    """
    watch = Stopwatch()
    outcome = Outcome()
    parameters = _parameters(options)
    params = parameters["cg"]
    dataset = Dataset(options.data)
    output = options.output or f"{dataset.source.stem}.scores.parquet"
    if output != STDIN and not options.plan:
        check_output(Path(output), options.force)
    if dataset.ids_made_up:
        outcome.warnings.append(f"no column '{options.data.id_column}': ids are the positions, row-00000000 and on")
    labels = dataset.labels
    if not options.plan:
        resolve_device(options.runtime.device)
    estimate = _estimate(dataset, params, options.runtime)
    if options.plan:
        return plan_outcome("score", estimate)
    _require_memory(estimate, options.runtime)

    ledger = Ledger()
    ledger.add_all(np.flatnonzero(labels.codes_n < 0), "missing label")
    values = dataset.load_inputs(ledger, workers=options.runtime.worker_count(), progress=progress)
    kept = np.arange(len(dataset))
    channels = values.shape[-1] if dataset.kind == "image" else None
    values = values.reshape(len(values), -1)
    good = ledger.good(len(dataset))
    values, kept = drop_rows(values, good), kept[good]
    center = params.center
    if len(kept):
        zero = complexity_gap.zero_rows(complexity_gap.make_rows(values, channels, center))
        if zero.any():
            ledger.add_all(
                kept[zero], "zero vector after the mean is subtracted" if center or channels else "zero vector"
            )
            values, kept = drop_rows(values, ~zero), kept[~zero]

    provenance = Provenance(
        command="score",
        method=",".join(options.methods),
        parameters={
            "cg": dataclasses.asdict(params),
            "data": options.data.identity(),
            "precision": _precision(options.runtime),
        },
        seed=options.runtime.seed,
        inputs=dataset.source.inputs,
        device=device_name(options.runtime.device),
        packages=PACKAGES,
        score_direction=_directions(options.methods, params),
        rows={"rows_in": len(dataset), "rows_out": len(kept), "rows_bad": len(ledger)},
    )
    errors = ledger_path(output, f"{dataset.source.stem}.scores")
    settle(ledger, dataset.ids, options.data.max_errors, errors, provenance)
    if len(ledger):
        outcome.warnings.append(f"{len(ledger)} bad row(s) left out, listed in {errors}")

    ids = dataset.ids.take(pa.array(kept))
    kept_labels = labels.take(kept)
    columns, facts = _complexity_gap(
        values, channels, kept_labels.codes_n, ids, params, options, output, provenance, progress
    )
    outcome.warnings.extend(facts.pop("warnings"))

    table = pa.table(
        {
            ID: ids,
            "label": kept_labels.values(),
            **{name: pa.array(column, pa.float64()) for name, column in columns.items()},
        }
    )
    write_table(output, table, provenance, dataset.source)
    outcome.outputs = [output]
    outcome.summary = {
        "command": "score",
        "output": output,
        "method": provenance.method,
        **provenance.rows,
        **facts,
        "device": provenance.device,
        **watch.figures(),
    }
    rows = [["score", "direction", "lowest", "median", "highest"]]
    for name, column in columns.items():
        rows.append(
            [
                name,
                f"{provenance.score_direction[name]} when high",
                *(f"{v:.6g}" for v in np.quantile(column, [0, 0.5, 1])),
            ]
        )
    outcome.tables["scores"] = rows
    return outcome


def _parameters(options: ScoreOptions) -> dict[str, Any]:
    for name in options.methods:
        find_method("score", name)
    given = split_assignments(options.params, options.methods)
    return {
        name: build_params(
            find_method("score", name).params_class(), {**preset_params(options.preset, name), **given[name]}, name
        )
        for name in options.methods
    }


def _complexity_gap(
    values: np.ndarray,
    channels: int | None,
    codes_n: np.ndarray,
    ids: pa.Array,
    params: complexity_gap.ComplexityGapParams,
    options: ScoreOptions,
    output: str,
    provenance: Provenance,
    progress: Progress,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    runtime = options.runtime
    rows = complexity_gap.make_rows(values, channels, params.center)
    order_n = canonical_order(ids)
    blocks = complexity_gap.plan_blocks(codes_n, params)
    settings: dict[str, Any] = {"seed": runtime.seed, "device": runtime.device, "precision": runtime.precision}
    finished = 0

    def within(task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
        progress("scoring", finished, len(blocks), {"% of the block": 100 * done / max(total, 1)})

    def compute(block: complexity_gap.Block) -> Mapping[str, np.ndarray]:
        nonlocal finished
        result = complexity_gap.score_block(rows, codes_n, order_n, block, params, **settings, progress=within)
        finished += 1
        progress("scoring", finished, len(blocks), {"class": block.class_code})
        return _to_arrays(result)

    folder = options.work_dir or (None if output == STDIN else Path(f"{output}.work"))
    store = BlockFolder(folder, {**provenance.to_dict(), "rows": len(codes_n)}) if folder is not None else None
    progress("scoring", 0, len(blocks))
    try:
        found = map_blocks(blocks, lambda b: f"{b.class_code}/{b.repeat}", compute, store)
    except KeyboardInterrupt:
        kept = (
            f"; finished blocks are kept in {folder}, the same command goes on from there"
            if store is not None and finished
            else ""
        )
        raise InterruptedRun(f"interrupted after {finished} of {len(blocks)} blocks{kept}") from None
    results = [_from_arrays(arrays) for arrays in found]
    columns = complexity_gap.combine_blocks(results, len(codes_n), params)
    facts: dict[str, Any] = {
        "blocks": len(blocks),
        "smallest_pivot": min(r.smallest_pivot for r in results),
        "jitter": max(r.jitter for r in results),
        "duplicates": sum(r.duplicates for r in results),
        "warnings": [],
    }
    if facts["jitter"] > 0:
        facts["warnings"].append(
            f"{facts['duplicates']} exact duplicate row(s) make the kernel singular; {facts['jitter']:.2g} was added to its diagonal "
            "there (state your own with -p ridge=1e-6)"
        )
    if runtime.precision == "float32":
        error = complexity_gap.float32_error(
            rows, codes_n, order_n, blocks[0], params, seed=runtime.seed, device=runtime.device
        )
        facts["float32_relative_error"] = error
        facts["warnings"].append(
            f"float32: largest relative error {error:.1e}, measured against float64 on one block of at most 2,000 rows"
        )
    if store is not None and options.work_dir is None:
        store.remove()
    return columns, facts


def _to_arrays(result: complexity_gap.BlockResult) -> dict[str, np.ndarray]:
    return {f.name: np.asarray(getattr(result, f.name)) for f in dataclasses.fields(result)}


def _from_arrays(arrays: Mapping[str, np.ndarray]) -> complexity_gap.BlockResult:
    return complexity_gap.BlockResult(**{k: v if v.ndim else v.item() for k, v in arrays.items()})  # type: ignore[arg-type]


def _directions(methods: tuple[str, ...], params: complexity_gap.ComplexityGapParams) -> dict[str, str]:
    columns = find_method("score", "cg").columns
    return {name: columns[name] for name in columns if name in methods or params.terms}


def _precision(runtime: Runtime) -> str:
    return "float64" if runtime.precision == "auto" else runtime.precision


def _estimate(dataset: Dataset, params: complexity_gap.ComplexityGapParams, runtime: Runtime) -> dict[str, Any]:
    width = dataset.input_width()
    stored = 1 if dataset.kind == "image" else 4
    codes_n = dataset.labels.codes_n
    dtype = _precision(runtime)
    sizes = {
        b.class_code: complexity_gap.block_size(codes_n, b, params) for b in complexity_gap.plan_blocks(codes_n, params)
    }
    largest = max(sizes.values(), key=sum)
    block_bytes = max(complexity_gap.block_memory(p, n, width, dtype) for p, n in sizes.values())
    input_bytes = len(dataset) * width * stored
    flops = params.repeats * sum((p + n) ** 3 / 3 + p**3 / 3 + (p + n) ** 2 * width for p, n in sizes.values())
    return {
        "rows": len(dataset),
        "numbers_per_row": width,
        "classes": len(sizes),
        "passes_over_data": 1,
        "algorithm": f"closed form, one blocked in-place Cholesky per class and repeat, {dtype}",
        "blocks": len(sizes) * params.repeats,
        "largest_block_rows": sum(largest),
        "flops": flops,
        "input_bytes": input_bytes,
        "block_bytes": block_bytes,
        "peak_memory_bytes": PROCESS_BYTES + input_bytes + block_bytes,
        "disk_bytes": len(dataset) * (32 + 8 * (4 if params.terms else 1)),
    }


def _require_memory(estimate: Mapping[str, Any], runtime: Runtime) -> None:
    budget = runtime.memory_budget()
    if estimate["peak_memory_bytes"] > budget:
        raise InputError(
            f"the largest class block has {estimate['largest_block_rows']:,} rows; the run would need "
            f"{format_size(estimate['peak_memory_bytes'])} of memory and may use {format_size(budget)}",
            "use --precision float32 (half of it), a smaller -p ratio, fewer rows, or a larger --memory-limit",
        )
