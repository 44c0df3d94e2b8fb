"""The kernel part of ``prune score``: the complexity gap and leave-one-out predictions, from blocks that were computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prune_cli.core.errors import InterruptedRun
from prune_cli.core.progress import Progress
from prune_cli.engines.engine import Engine
from prune_cli.engines.threads import one_thread
from prune_cli.methods.scores.kernel import complexity_gap, ntk_margin
from prune_cli.methods.scores.kernel.blocks import block_result, part_result
from prune_cli.methods.scores.kernel.complexity_gap import ComplexityGapParams
from prune_cli.methods.scores.kernel.ntk_margin import NtkParams, RidgeChoice
from prune_cli.methods.scores.kernel.params import KernelParams, resolve_mode
from prune_cli.methods.scores.kernel.problem import problem_of
from prune_cli.methods.scores.kernel.samples import Samples
from prune_cli.methods.scores.kernel.solution import Solution, combine
from prune_cli.stages.score.sources.kernel.work import (
    Computed,
    KernelWork,
    Piece,
    Source,
    compute_pieces,
    ready_samples,
    sampled_params,
)


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


@dataclass(frozen=True)
class KernelPlan:
    """Which pieces the scores of a run are made of.

    Args:
        methods: name of the score -> its parameters.
        n_classes: C.
        precision: of the run.
        pieces: what is computed.
        piece_of: name of the score -> the number of its piece.
    """

    methods: Mapping[str, KernelParams]
    n_classes: int
    precision: str
    pieces: Sequence[Piece]
    piece_of: Mapping[str, int]


def kernel_scores(work: KernelWork, engine: Engine, progress: Progress) -> KernelScores:
    """Return the columns of all kernel scores; each kernel is factored once for all that want the same of it.

    Raises:
        InterruptedRun: stopped by the user; finished blocks are kept in the folder.
    """
    found = KernelScores()
    plan, computed, samples = compute_kernel_blocks(work, found, engine, progress)
    finish_scores(plan, computed, work.codes_n, found, predictions=work.predictions)
    if work.runtime.precision == "float32" and any(piece.problem is None for piece in plan.pieces):
        _measure_float32(work, samples[next(p.source for p in plan.pieces if p.problem is None)], found)
    if found.probs_nc is not None:
        name = next(name for name in plan.methods if isinstance(plan.methods[name], NtkParams))
        found.embeddings_nd = samples[plan.pieces[plan.piece_of[name]].source].unit_rows()
    return found


def _measure_float32(work: KernelWork, samples: Samples, found: KernelScores) -> None:
    """Add how far float32 is from float64 on a part of the first block."""
    params = sampled_params(work)
    with one_thread():
        error = complexity_gap.float32_error(
            samples.kernel,
            work.codes_n,
            samples.order_n,
            complexity_gap.plan_blocks(work.codes_n, params)[0],
            params,
            seed=work.runtime.seed,
            device=work.runtime.device,
        )
    found.facts["float32_relative_error"] = error
    found.warnings.append(
        f"float32: largest relative error {error:.1e}, measured against float64 on one block of at most 2,000 rows"
    )


def compute_kernel_blocks(
    work: KernelWork, found: KernelScores, engine: Engine, progress: Progress
) -> tuple[KernelPlan, list[Computed], dict[Source, Samples]]:
    """Return what the scores are made of, the blocks of each piece, and the samples of each kernel.

    Args:
        work: of the run; with a shard its blocks alone.
        found: told what provenance and the user should know.
    Raises:
        InterruptedRun: stopped by the user; finished blocks are kept in the folder.
    """
    finished = 0

    def count(blocks: int) -> None:
        nonlocal finished
        finished += blocks

    try:
        plan, samples = _plan(work, found, progress)
        computed = compute_pieces(work, plan.pieces, samples, engine, count, progress)
    except KeyboardInterrupt:
        kept = (
            f"; what is finished is kept in {work.folder}, the same command goes on from there"
            if finished or work.folder.is_dir()
            else ""
        )
        raise InterruptedRun(f"interrupted after {finished} block(s){kept}") from None
    found.facts |= {"blocks": sum(len(blocks.numbers) for blocks in computed), "blocks_computed": finished}
    for path in work.folder.glob("kernel-*.safetensors"):
        path.unlink()
    return plan, computed, samples


def _plan(work: KernelWork, found: KernelScores, progress: Progress) -> tuple[KernelPlan, dict[Source, Samples]]:
    samples: dict[Source, Samples] = {}
    keys: dict[str, Piece] = {}
    predicted: set[Piece] = set()
    for name, params in work.methods.items():
        source = (params.kernel, params.center)
        if source not in samples:
            samples[source] = ready_samples(work, params, found.stated, found.warnings.append, progress)
        mode = resolve_mode(params, len(work.codes_n))
        if mode is None:
            keys[name] = Piece(source, None)
            continue
        ridge = _ridge(work, samples[source], name, params, found, progress)
        keys[name] = Piece(source, problem_of(params, mode, ridge, False))
        if isinstance(params, NtkParams):
            predicted.add(keys[name])
    order = list(dict.fromkeys(keys.values()))
    pieces = [
        piece if piece.problem is None else Piece(piece.source, piece.problem._replace(predictions=piece in predicted))
        for piece in order
    ]
    n_classes = next(iter(samples.values())).n_classes
    piece_of = {name: order.index(key) for name, key in keys.items()}
    return KernelPlan(work.methods, n_classes, work.runtime.precision, pieces, piece_of), samples


def _ridge(
    work: KernelWork, samples: Samples, name: str, params: KernelParams, found: KernelScores, progress: Progress
) -> float:
    if isinstance(params, ComplexityGapParams):
        return params.ridge
    assert isinstance(params, NtkParams)
    if params.ridge is not None:
        return params.ridge
    store = work.store()
    block = f"ridge of {params.kernel} {params.center}"
    kept = store.get(block)
    if kept is None:
        progress("choosing the ridge", 0, 1, None)
        with one_thread():
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


def finish_scores(
    plan: KernelPlan,
    computed: Sequence[Computed],
    codes_n: np.ndarray,
    found: KernelScores,
    *,
    predictions: bool = False,
) -> None:
    """Add the columns of all scores to what was found, once all blocks of all pieces are there.

    Args:
        plan: of the run.
        computed: the blocks of each piece, in their order.
        codes_n: (N,) class of each sample.
        found: added to.
        predictions: whether the probabilities of the classes are wanted, too.
    """
    solutions: dict[int, Solution] = {}
    for number, (piece, blocks) in enumerate(zip(plan.pieces, computed, strict=True)):
        if piece.problem is None:
            _tell(found, [block_result(a) for a in blocks.arrays])
            continue
        parts = [part_result(a) for a in blocks.arrays]
        _tell(found, parts)
        residual = max(part.residual for part in parts)
        if plan.precision == "float32":
            if residual:
                found.facts["float32_residual"] = residual
            found.warnings.append(
                "float32: scores differ from those of float64 in the fourth digit or so"
                + (f"; predictions were refined to a relative residual of {residual:.1e}" if residual else "")
            )
        solutions[number] = combine(parts, codes_n, plan.n_classes, piece.problem)
    for name, params in plan.methods.items():
        number = plan.piece_of[name]
        problem = plan.pieces[number].problem
        if problem is None:
            assert isinstance(params, ComplexityGapParams)
            results = [block_result(arrays) for arrays in computed[number].arrays]
            found.columns |= complexity_gap.combine_blocks(results, len(codes_n), params)
            continue
        solution = solutions[number]
        found.stated.setdefault(name, {})["mode"] = problem.mode
        if isinstance(params, ComplexityGapParams):
            found.columns |= complexity_gap.columns_of(solution, params)
            continue
        assert solution.loo_nc is not None
        of_classes = {"ntk_margin": ntk_margin.margins, "ntk_residual": ntk_margin.residuals}[name]
        found.columns[name] = of_classes(solution.loo_nc, codes_n)
        right = float((solution.loo_nc.argmax(axis=1) == codes_n).mean())
        found.stated[name] |= {"ridge": problem.ridge, "leave_one_out_accuracy": round(right, 6)}
        found.facts["leave_one_out_accuracy"] = right
        if predictions and found.probs_nc is None:
            temperature = ntk_margin.fit_temperature(solution.loo_nc, codes_n)
            found.probs_nc = ntk_margin.probabilities(solution.loo_nc, temperature)
            found.stated[name]["temperature"] = temperature


def _tell(found: KernelScores, results: Sequence[Any]) -> None:
    """Add what the blocks say of their kernels to the facts, and warn where one was singular."""
    facts = found.facts
    smallest = min(r.smallest_pivot for r in results)
    jitter = max(r.jitter for r in results)
    duplicates = sum(r.duplicates for r in results)
    facts["smallest_pivot"] = min(smallest, facts.get("smallest_pivot", smallest))
    facts["jitter"] = max(jitter, facts.get("jitter", 0.0))
    facts["duplicates"] = max(duplicates, facts.get("duplicates", 0))
    if jitter > 0:
        why = f"{duplicates} exact duplicate row(s) make" if duplicates else "rows that are nearly alike make"
        found.warnings.append(
            f"{why} the kernel singular; {jitter:.2g} was added to its diagonal there (state your own with -p ridge=1e-6)"
        )
