"""The kernel part of ``prune score``: the complexity gap and leave-one-out predictions, block by block."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InterruptedRun
from prune_cli.core.progress import Progress
from prune_cli.core.runtime import Runtime
from prune_cli.engines.local import map_blocks
from prune_cli.io.blocks import BlockFolder
from prune_cli.io.columns import canonical_order
from prune_cli.io.kernel_file import KernelFile, is_kernel, read_kernel, write_kernel
from prune_cli.io.provenance import Provenance
from prune_cli.methods.scores import complexity_gap, ntk_margin
from prune_cli.methods.scores.complexity_gap import ComplexityGapParams
from prune_cli.methods.scores.kernels import Kernel, MatrixKernel, fill_matrix, parse_kernel
from prune_cli.methods.scores.ntk_margin import NtkParams, RidgeChoice
from prune_cli.methods.scores.samples import Samples, make_samples
from prune_cli.methods.scores.whole_set import (
    KernelParams,
    PartResult,
    Problem,
    Solution,
    combine,
    part_sets,
    plan_parts,
    problem_of,
    resolve_mode,
    solve_part,
)

TILE_ROWS = 512
"""Rows of a kernel that are written at once."""


@dataclass(frozen=True)
class KernelWork:
    """What the kernel scores of one run share.

    Args:
        values: (N, H, W, C) pixels or (N, D) embeddings of the good rows.
        codes_n: (N,) their classes.
        ids: theirs.
        methods: name of the score -> its parameters.
        runtime: seed, device, precision.
        folder: finished blocks are kept there.
        provenance: of the run.
        save_kernel: where the kernel goes, None not to keep it.
        load_kernel: a kernel that is there.
        predictions: whether leave-one-out predictions are wanted beside the scores.
    """

    values: np.ndarray
    codes_n: np.ndarray
    ids: pa.Array
    methods: Mapping[str, KernelParams]
    runtime: Runtime
    folder: Path
    provenance: Provenance
    save_kernel: Path | None = None
    load_kernel: Path | None = None
    predictions: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """Return how the methods compute."""
        return {"seed": self.runtime.seed, "device": self.runtime.device, "precision": self.runtime.precision}


@dataclass
class KernelScores:
    """What came of it.

    Args:
        columns: score columns.
        facts: for the summary.
        stated: method -> what provenance says beside its parameters.
        warnings: sentences.
        probs_nc: (N, C) probabilities of the classes, each sample's without itself; None where they were not wanted.
        embeddings_nd: (N, D) float32, the unit rows that the kernel is of; with the probabilities.
    """

    columns: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    stated: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    probs_nc: np.ndarray | None = None
    embeddings_nd: np.ndarray | None = None


def kernel_scores(work: KernelWork, progress: Progress) -> KernelScores:
    """Return the columns of all kernel scores; each kernel is factored once for all that want the same of it.

    Raises:
        InterruptedRun: stopped by the user; finished blocks are kept in the folder.
    """
    found = KernelScores()
    finished = [0]
    try:
        _score(work, found, finished, progress)
    except KeyboardInterrupt:
        kept = (
            f"; what is finished is kept in {work.folder}, the same command goes on from there"
            if finished[0] or work.folder.is_dir()
            else ""
        )
        raise InterruptedRun(f"interrupted after {finished[0]} block(s){kept}") from None
    for path in work.folder.glob("kernel-*.safetensors"):
        path.unlink()
    return found


def _score(work: KernelWork, found: KernelScores, finished: list[int], progress: Progress) -> None:
    solved: dict[Any, tuple[Samples, Solution]] = {}
    wanted: dict[Any, bool] = {}
    keys: dict[str, tuple[tuple[str, bool], Problem]] = {}
    ready: dict[tuple[str, bool], Samples] = {}
    for name, params in work.methods.items():
        source = (params.kernel, params.center)
        if source not in ready:
            ready[source] = _samples(work, params, found, progress)
        mode = resolve_mode(params, len(work.codes_n))
        if mode is None:
            continue
        ridge = _ridge(work, ready[source], name, params, found, progress)
        problem = problem_of(params, mode, ridge, False)
        keys[name] = (source, problem)
        wanted[keys[name]] = wanted.get(keys[name], False) or isinstance(params, NtkParams)
    for key, predictions in wanted.items():
        source, problem = key
        problem = problem._replace(predictions=predictions)
        solved[key] = (ready[source], _solve(work, ready[source], source, problem, found, finished, progress))
    for name, params in work.methods.items():
        if name not in keys:
            assert isinstance(params, ComplexityGapParams)
            found.columns |= _sampled(work, ready[(params.kernel, params.center)], params, found, finished, progress)
            continue
        samples, solution = solved[keys[name]]
        problem = keys[name][1]
        found.stated.setdefault(name, {})["mode"] = problem.mode
        if isinstance(params, ComplexityGapParams):
            found.columns |= complexity_gap.columns_of(solution, params)
            continue
        assert solution.loo_nc is not None
        of_classes = {"ntk_margin": ntk_margin.margins, "ntk_residual": ntk_margin.residuals}[name]
        found.columns[name] = of_classes(solution.loo_nc, work.codes_n)
        right = float((solution.loo_nc.argmax(axis=1) == work.codes_n).mean())
        found.stated[name] |= {"ridge": problem.ridge, "leave_one_out_accuracy": round(right, 6)}
        found.facts["leave_one_out_accuracy"] = right
        if work.predictions and found.probs_nc is None:
            temperature = ntk_margin.fit_temperature(solution.loo_nc, work.codes_n)
            found.probs_nc = ntk_margin.probabilities(solution.loo_nc, temperature)
            found.embeddings_nd = samples.unit_rows()
            found.stated[name]["temperature"] = temperature


def _samples(work: KernelWork, params: KernelParams, found: KernelScores, progress: Progress) -> Samples:
    """Return the samples with their kernel: the one given, the one that was asked to be kept, or one computed as it is needed."""
    order_n = canonical_order(work.ids)
    kernel: Kernel | None = None
    if work.load_kernel is not None:
        file = read_kernel(work.load_kernel)
        kernel = MatrixKernel(file.matrix_mm, file.places(work.ids, str(work.load_kernel)))
        _note_other_data(work, file, found)
        made_as = file.provenance.get("parameters", {}).get("kernel")
        for name, theirs in work.methods.items():
            if (theirs.kernel, theirs.center) == (params.kernel, params.center):
                found.stated.setdefault(name, {})["kernel"] = made_as
    samples = make_samples(work.values, work.codes_n, params, order_n=order_n, channels=None, kernel=kernel)
    networked = parse_kernel(params.kernel).network is not None and resolve_mode(params, len(order_n)) in {
        None,
        "exact",
    }
    if kernel is not None or not (work.save_kernel or networked):
        return samples
    stem = hashlib.sha256(f"{params.kernel} {params.center}".encode()).hexdigest()[:16]
    path = work.save_kernel or work.folder / f"kernel-{stem}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    dtype = "float32" if work.runtime.precision == "float32" else "float64"

    def fill(matrix: np.ndarray, first: int, last: int) -> None:
        fill_matrix(samples.kernel, order_n, matrix, first, last, work.runtime.device)
        progress("kernel", round(1000 * (last / len(order_n)) ** 2), 1000, None)

    provenance = dataclasses.replace(
        work.provenance,
        method="kernel",
        parameters={
            "kernel": params.kernel,
            "center": params.center,
            "precision": dtype,
            "data": work.provenance.parameters.get("data"),
        },
        score_direction={},
    )
    ids = work.ids.take(pa.array(order_n))
    if work.save_kernel is not None or not is_kernel(path, ids, provenance):
        write_kernel(path, ids, dtype, provenance, fill, TILE_ROWS)
    file = read_kernel(path)
    return dataclasses.replace(samples, kernel=MatrixKernel(file.matrix_mm, file.places(work.ids, str(path))))


def _note_other_data(work: KernelWork, file: KernelFile, found: KernelScores) -> None:
    theirs = {entry.get("sha256") for entry in file.provenance.get("inputs", [])}
    if not theirs & {entry.sha256 for entry in work.provenance.inputs}:
        found.warnings.append(f"{work.load_kernel} was made from another file; its rows are taken by their ids")


def _ridge(
    work: KernelWork, samples: Samples, name: str, params: KernelParams, found: KernelScores, progress: Progress
) -> float:
    if isinstance(params, ComplexityGapParams):
        return params.ridge
    assert isinstance(params, NtkParams)
    if params.ridge is not None:
        return params.ridge
    store = BlockFolder(work.folder, {**work.provenance.to_dict(), "rows": len(work.codes_n)})
    block = f"ridge of {params.kernel} {params.center}"
    kept = store.get(block)
    if kept is None:
        progress("choosing the ridge", 0, 1, None)
        choice = ntk_margin.choose_ridge(
            samples.kernel, work.codes_n, samples.n_classes, samples.order_n, work.runtime.device
        )
        kept = {
            "ridge": np.array(choice.ridge),
            "accuracies": np.array(choice.accuracies),
            "rows": np.array(choice.rows),
        }
        store.put(block, kept)
    choice = RidgeChoice(float(kept["ridge"]), tuple(kept["accuracies"].tolist()), int(kept["rows"]))
    grid = {f"{r:g}": round(a, 6) for r, a in zip(ntk_margin.RIDGES, choice.accuracies, strict=True)}
    told = {"rows": choice.rows, "leave_one_out_accuracy": grid}
    found.stated.setdefault(name, {})["ridge_choice"] = told
    found.facts["ridge"] = choice.ridge
    return choice.ridge


def _solve(
    work: KernelWork,
    samples: Samples,
    source: tuple[str, bool],
    problem: Problem,
    found: KernelScores,
    finished: list[int],
    progress: Progress,
) -> Solution:
    """Return the solution of a problem, part by part; parts that are finished are taken from the folder."""
    identity = {**work.provenance.to_dict(), "rows": len(work.codes_n), "problem": [*source, *problem]}
    store = BlockFolder(work.folder, identity)
    parts = plan_parts(problem, len(work.codes_n))
    sets = part_sets(samples.rows, samples.order_n, problem, work.runtime.seed, progress)
    computed = 0

    def within(task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
        if len(parts) == 1:
            progress(task, done, total, facts)
        else:
            progress("scoring", computed, len(parts), {"% of the block": 100 * done / max(total, 1)})

    def compute(part: Any) -> Mapping[str, np.ndarray]:
        nonlocal computed
        result = solve_part(
            samples.kernel,
            work.codes_n,
            samples.n_classes,
            sets(part),
            problem,
            part,
            store=store,
            progress=within,
            **work.settings,
        )
        computed, finished[0] = computed + 1, finished[0] + 1
        progress("scoring", computed, len(parts))
        return _to_arrays(result)

    arrays = map_blocks(parts, lambda p: f"part {p.repeat}/{p.number}", compute, store)
    store.remove_panels()
    results = [PartResult(**_scalars(a)) for a in arrays]
    _tell(found, results, len(parts))
    residual = max(r.residual for r in results)
    if work.runtime.precision == "float32":
        if residual:
            found.facts["float32_residual"] = residual
        found.warnings.append(
            "float32: scores differ from those of float64 in the fourth digit or so"
            + (f"; predictions were refined to a relative residual of {residual:.1e}" if residual else "")
        )
    repeats = 1 if problem.mode == "exact" else problem.repeats
    return combine(results, work.codes_n, samples.n_classes, repeats, problem.predictions)


def _sampled(
    work: KernelWork,
    samples: Samples,
    params: ComplexityGapParams,
    found: KernelScores,
    finished: list[int],
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Return the columns of ``cg`` as published: a class against a draw of the others."""
    store = BlockFolder(work.folder, {**work.provenance.to_dict(), "rows": len(work.codes_n)})
    blocks = complexity_gap.plan_blocks(work.codes_n, params)
    computed = 0

    def within(task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
        progress("scoring", computed, len(blocks), {"% of the block": 100 * done / max(total, 1)})

    def compute(block: complexity_gap.Block) -> Mapping[str, np.ndarray]:
        nonlocal computed
        result = complexity_gap.score_block(
            samples.kernel, work.codes_n, samples.order_n, block, params, progress=within, **work.settings
        )
        computed, finished[0] = computed + 1, finished[0] + 1
        progress("scoring", computed, len(blocks), {"class": block.class_code})
        return _to_arrays(result)

    progress("scoring", 0, len(blocks))
    arrays = map_blocks(blocks, lambda b: f"{b.class_code}/{b.repeat}", compute, store)
    results = [complexity_gap.BlockResult(**_scalars(a)) for a in arrays]
    _tell(found, results, len(blocks))
    if work.runtime.precision == "float32":
        error = complexity_gap.float32_error(
            samples.kernel,
            work.codes_n,
            samples.order_n,
            blocks[0],
            params,
            seed=work.runtime.seed,
            device=work.runtime.device,
        )
        found.facts["float32_relative_error"] = error
        found.warnings.append(
            f"float32: largest relative error {error:.1e}, measured against float64 on one block of at most 2,000 rows"
        )
    return complexity_gap.combine_blocks(results, len(work.codes_n), params)


def _tell(found: KernelScores, results: list[Any], blocks: int) -> None:
    """Add what the blocks say of their kernels to the facts, and warn where one was singular."""
    facts = found.facts
    smallest = min(r.smallest_pivot for r in results)
    jitter = max(r.jitter for r in results)
    duplicates = sum(r.duplicates for r in results)
    facts["blocks"] = facts.get("blocks", 0) + blocks
    facts["smallest_pivot"] = min(smallest, facts.get("smallest_pivot", smallest))
    facts["jitter"] = max(jitter, facts.get("jitter", 0.0))
    facts["duplicates"] = max(duplicates, facts.get("duplicates", 0))
    if jitter > 0:
        why = f"{duplicates} exact duplicate row(s) make" if duplicates else "rows that are nearly alike make"
        found.warnings.append(
            f"{why} the kernel singular; {jitter:.2g} was added to its diagonal there (state your own with -p ridge=1e-6)"
        )


def _to_arrays(result: Any) -> dict[str, np.ndarray]:
    return {f.name: np.asarray(getattr(result, f.name)) for f in dataclasses.fields(result)}


def _scalars(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {k: v if v.ndim else v.item() for k, v in arrays.items()}
