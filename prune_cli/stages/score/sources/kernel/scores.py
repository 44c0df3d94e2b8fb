"""The scores of kernels, from blocks that were computed, and the kernel between all samples where one is given or kept."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.errors import InterruptedRun
from prune_cli.core.progress import Progress
from prune_cli.engines.engine import Engine
from prune_cli.engines.threads import one_thread
from prune_cli.io.ids.columns import canonical_order
from prune_cli.io.runs.kernel_matrix import KernelFile, is_kernel, read_kernel, write_kernel
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.scores.kernel.contradictions import contradictory_pairs
from prune_cli.methods.scores.kernel.kernels import Kernel, MatrixKernel, fill_matrix, parse_kernel
from prune_cli.methods.scores.kernel.ntk_margin import RIDGES, RidgeChoice, choose_ridge, fit_temperature, predictions_of, probabilities
from prune_cli.methods.scores.kernel.params import KernelScoreParams
from prune_cli.methods.scores.kernel.pieces.kinds import KernelName, Piece, SetPiece, SidesPiece
from prune_cli.methods.scores.kernel.pieces.solving import plan_pieces
from prune_cli.methods.scores.kernel.samples import Samples, make_samples
from prune_cli.methods.scores.kernel.solver.problem import Solution
from prune_cli.stages.score.contract import Scored
from prune_cli.stages.score.sources.kernel.work import Computed, KernelWork, compute_pieces

TILE_ROWS = 512
"""Rows of a kernel that are written at once."""


def ready_samples(
    work: KernelWork, params: KernelScoreParams, state: dict[str, dict[str, Any]], warn: Callable[[str], None], progress: Progress
) -> Samples:
    """Return the samples with their kernel: the one given, the one that was asked to be kept, or one computed as it is needed.

    Args:
        params: of a score; others may share the kernel.
        state: score -> what provenance says of it beside its parameters; added to.
    """
    order_n = canonical_order(work.ids)
    kernel: Kernel | None = None
    if work.options.load_kernel is not None:
        file = read_kernel(work.options.load_kernel)
        kernel = MatrixKernel(file.matrix_mm, file.places(work.ids, str(work.options.load_kernel)))
        _note_other_data(work, file, warn)
        made_as = file.provenance.get("parameters", {}).get("kernel")
        for name, theirs in work.methods.items():
            if (theirs.kernel, theirs.center) == (params.kernel, params.center):
                state.setdefault(name, {})["kernel"] = made_as
    samples = make_samples(work.values, work.codes_n, params, order_n=order_n, channels=None, kernel=kernel)
    whole = params.needs(len(order_n)).mode in {None, "exact"}
    networked = whole and parse_kernel(params.kernel).network is not None
    if kernel is not None or not (work.options.save_kernel or networked):
        return samples
    stem = hashlib.sha256(f"{params.kernel} {params.center}".encode()).hexdigest()[:16]
    path = work.options.save_kernel or work.folder / f"kernel-{stem}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    dtype = work.settings.dtype

    def fill(matrix: np.ndarray, first: int, last: int) -> None:
        fill_matrix(samples.kernel, order_n, matrix, first, last, work.runtime.device)
        progress("kernel", round(1000 * (last / len(order_n)) ** 2), 1000, None)

    provenance = dataclasses.replace(
        work.provenance,
        method="kernel",
        parameters={"kernel": params.kernel, "center": params.center, "precision": dtype, "data": work.provenance.parameters.get("data")},
        score_direction={},
    )
    ids = work.ids.take(pa.array(order_n))
    if work.options.save_kernel is not None or not is_kernel(path, ids, provenance):
        write_kernel(path, ids, dtype, provenance, fill, TILE_ROWS)
    file = read_kernel(path)
    return dataclasses.replace(samples, kernel=MatrixKernel(file.matrix_mm, file.places(work.ids, str(path))))


def _note_other_data(work: KernelWork, file: KernelFile, warn: Callable[[str], None]) -> None:
    theirs = {entry.get("sha256") for entry in file.provenance.get("inputs", [])}
    if not theirs & {entry.sha256 for entry in work.provenance.inputs}:
        warn(f"{work.options.load_kernel} was made from another file; its rows are taken by their ids")


_PAIRS_TOLD, _PAIRS_IN_WORDS = 100, 5  # in JSON, and in a warning


@dataclass(frozen=True)
class KernelPlan:
    """Which pieces the scores of a run are made of.

    Args:
        methods: name of the score -> its parameters.
        n_classes: C.
        piece_of: name of the score -> the number of its piece.
    """

    methods: Mapping[str, KernelScoreParams]
    n_classes: int
    precision: str
    pieces: Sequence[Piece]
    piece_of: Mapping[str, int]


@dataclass(frozen=True)
class KernelBlocks:
    """The blocks of the scores of a run."""

    plan: KernelPlan
    computed: Sequence[Computed]
    samples: Mapping[KernelName, Samples]


def compute_kernel_blocks(work: KernelWork, found: Scored, engine: Engine, progress: Progress) -> KernelBlocks:
    """Return the blocks of all kernel scores; each kernel is factored once for all that want the same of it.

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
            f"; what is finished is kept in {work.folder}, the same command goes on from there" if finished or work.folder.is_dir() else ""
        )
        raise InterruptedRun(f"interrupted after {finished} block(s){kept}") from None
    found.facts |= {"blocks": sum(len(blocks.numbers) for blocks in computed), "blocks_computed": finished}
    for path in work.folder.glob("kernel-*.safetensors"):
        path.unlink()
    return KernelBlocks(plan, computed, samples)


def _plan(work: KernelWork, found: Scored, progress: Progress) -> tuple[KernelPlan, dict[KernelName, Samples]]:
    samples: dict[KernelName, Samples] = {}
    for params in work.methods.values():
        if (kernel := (params.kernel, params.center)) not in samples:
            samples[kernel] = ready_samples(work, params, found.stated, found.warnings.append, progress)

    def ridge_of(name: str, params: KernelScoreParams) -> float:
        return _chosen_ridge(work, samples[params.kernel, params.center], name, params, found, progress)

    pieces, piece_of = plan_pieces(work.methods, len(work.codes_n), ridge_of)
    n_classes = next(iter(samples.values())).n_classes
    return KernelPlan(work.methods, n_classes, work.runtime.precision, pieces, piece_of), samples


def _chosen_ridge(work: KernelWork, samples: Samples, name: str, params: KernelScoreParams, found: Scored, progress: Progress) -> float:
    store = work.store()
    block = f"ridge of {params.kernel} {params.center}"
    kept = store.get(block)
    if kept is None:
        progress("choosing the ridge", 0, 1, None)
        with one_thread():
            choice = choose_ridge(samples, work.runtime.device)
        kept = {"ridge": np.array(choice.ridge), "accuracies": np.array(choice.accuracies), "rows": np.array(choice.rows)}
        store.put(block, kept)
    choice = RidgeChoice(float(kept["ridge"]), tuple(kept["accuracies"].tolist()), int(kept["rows"]))
    grid = {f"{r:g}": round(a, 6) for r, a in zip(RIDGES, choice.accuracies, strict=True)}
    told = {"rows": choice.rows, "leave_one_out_accuracy": grid}
    found.stated.setdefault(name, {})["ridge_choice"] = told
    found.facts["ridge"] = choice.ridge
    return choice.ridge


def finish_scores(plan: KernelPlan, computed: Sequence[Computed], codes_n: np.ndarray, found: Scored) -> list[Solution]:
    """Add the columns of all scores to what was found, once all blocks of all pieces are there; return what each piece comes to.

    Args:
        computed: the blocks of each piece, in their order.
        codes_n: (N,) class of each sample.
    """
    solutions = []
    for piece, blocks in zip(plan.pieces, computed, strict=True):
        _tell_pivots(found, piece.results(blocks.arrays))
        if isinstance(piece, SetPiece) and plan.precision == "float32":
            _tell_residual(found, max(part.residual for part in piece.results(blocks.arrays)))
        solutions.append(piece.combine(blocks.arrays, codes_n, plan.n_classes))
    for name, params in plan.methods.items():
        piece, solution = plan.pieces[plan.piece_of[name]], solutions[plan.piece_of[name]]
        found.columns |= find_method("score", name).load()(solution, codes_n, params)
        stated = found.stated.setdefault(name, {})
        if isinstance(piece, SetPiece):
            stated["mode"] = piece.problem.mode
            if params.needs(len(codes_n)).predictions:
                right = float((predictions_of(solution).argmax(axis=1) == codes_n).mean())
                stated |= {"ridge": piece.problem.ridge, "leave_one_out_accuracy": round(right, 6)}
                found.facts["leave_one_out_accuracy"] = right
    return solutions


def kernel_features(blocks: KernelBlocks, solutions: Sequence[Solution], found: Scored) -> tuple[np.ndarray, np.ndarray]:
    """Return what a kernel is of as features: (N, D) float32 unit rows, and (N, C) probabilities, each sample's without itself.

    They are of the first score that goes by predictions, and provenance says their temperature there.
    """
    plan, codes_n = blocks.plan, next(iter(blocks.samples.values())).codes_n
    name = next(name for name, params in plan.methods.items() if params.needs(len(codes_n)).predictions)
    number = plan.piece_of[name]
    predictions_nc = predictions_of(solutions[number])
    temperature = fit_temperature(predictions_nc, codes_n)
    found.stated[name]["temperature"] = temperature
    return blocks.samples[plan.pieces[number].kernel].unit_rows(), probabilities(predictions_nc, temperature)


def tell_contradictions(work: KernelWork, blocks: KernelBlocks, solutions: Sequence[Solution], found: Scored) -> None:
    """Name the rows that are copies of each other and have different labels, by id: at least one label of each pair is wrong."""
    piece, solution = blocks.plan.pieces[0], solutions[0]
    pairs = contradictory_pairs(blocks.samples[piece.kernel], solution.gap_n, work.runtime.device)
    if not pairs:
        return
    shown = work.ids.take(pa.array([position for pair in pairs[:_PAIRS_TOLD] for position in pair])).to_pylist()
    named = [shown[start : start + 2] for start in range(0, len(shown), 2)]
    found.facts |= {"contradictory_copies": len(pairs), "contradictory_pairs": named}
    words = ", ".join(f"{one} = {other}" for one, other in named[:_PAIRS_IN_WORDS])
    found.warnings.append(
        f"{len(pairs)} pair(s) of rows are copies or nearly so and have different labels: {words}"
        + (", ..." if len(pairs) > _PAIRS_IN_WORDS else "")
        + "; their complexity gaps are far beyond all others (correct or drop them: prune select --drop FILE)"
    )


def measure_float32(work: KernelWork, blocks: KernelBlocks, found: Scored) -> None:
    """Add how far float32 is from float64 on a part of the first block, where classes are scored one by one."""
    drawn = next((piece for piece in blocks.plan.pieces if isinstance(piece, SidesPiece)), None)
    if work.runtime.precision != "float32" or drawn is None:
        return
    with one_thread():
        error = drawn.float32_error(blocks.samples[drawn.kernel], work.settings)
    found.facts["float32_relative_error"] = error
    found.warnings.append(f"float32: largest relative error {error:.1e}, measured against float64 on one block of at most 2,000 rows")


def _tell_residual(found: Scored, residual: float) -> None:
    if residual:
        found.facts["float32_residual"] = residual
    found.warnings.append(
        "float32: scores differ from those of float64 in the fourth digit or so"
        + (f"; predictions were refined to a relative residual of {residual:.1e}" if residual else "")
    )


def _tell_pivots(found: Scored, results: Sequence[Any]) -> None:
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
