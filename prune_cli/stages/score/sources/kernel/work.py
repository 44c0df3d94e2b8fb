"""What the kernel scores of a run have to compute: pieces, each of independent blocks, finished once and kept."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.progress import Progress
from prune_cli.core.runtime import Runtime
from prune_cli.engines.block import Arrays, Block
from prune_cli.engines.engine import Engine
from prune_cli.engines.handout import MapBlocks
from prune_cli.io.ids.columns import canonical_order
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.runs.finished import BlockFolder
from prune_cli.io.runs.kernel_matrix import KernelFile, is_kernel, read_kernel, write_kernel
from prune_cli.methods.scores.kernel import complexity_gap
from prune_cli.methods.scores.kernel.blocks import pack_set, pack_sides, to_arrays
from prune_cli.methods.scores.kernel.complexity_gap import ComplexityGapParams
from prune_cli.methods.scores.kernel.cost import problem_cost
from prune_cli.methods.scores.kernel.kernels import Kernel, MatrixKernel, ReluKernel, fill_matrix, parse_kernel
from prune_cli.methods.scores.kernel.params import KernelParams, resolve_mode
from prune_cli.methods.scores.kernel.problem import Problem, plan_sets, set_members
from prune_cli.methods.scores.kernel.samples import Samples, make_samples
from prune_cli.methods.scores.kernel.solver import solve_set
from prune_cli.stages.score.sources.kernel.plan import BLOCK_PROCESS_BYTES

TILE_ROWS = 512
"""Rows of a kernel that are written at once."""

Source = tuple[str, bool]
"""A kernel: its name, and whether the mean is subtracted."""

Shard = tuple[int, int]
"""The I-th of N parts."""


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
        shard: the part of the work that is done, or None for all of it.
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
    shard: Shard | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Return how the methods compute."""
        return {"seed": self.runtime.seed, "device": self.runtime.device, "precision": self.runtime.precision}

    def store(self, **more: Any) -> BlockFolder:
        """Return where blocks are kept, named by everything that their content depends on."""
        stated = self.provenance.to_dict()
        identity = {name: stated[name] for name in ("versions", "device", "seed")}
        read = [i["sha256"] for i in stated["inputs"]]
        how = {name: stated["parameters"].get(name) for name in ("data", "precision")}
        return BlockFolder(self.folder, {**identity, **how, "inputs": read, "rows": len(self.codes_n), **more})


@dataclass(frozen=True)
class Piece:
    """Blocks of one kernel and one problem.

    Args:
        source: the kernel.
        problem: what is solved for all classes at once; None: each class is scored against a draw of the others.
    """

    source: Source
    problem: Problem | None

    def block_names(self, work: KernelWork) -> list[str]:
        """Return the names of the blocks, in their order."""
        if self.problem is None:
            return [
                f"{b.class_code}/{b.repeat}" for b in complexity_gap.plan_blocks(work.codes_n, sampled_params(work))
            ]
        return [f"part {p.repeat}/{p.number}" for p in plan_sets(self.problem, len(work.codes_n))]


@dataclass
class Computed:
    """The blocks of a piece that are done.

    Args:
        numbers: of the blocks.
        arrays: of each.
    """

    numbers: list[int] = field(default_factory=list)
    arrays: list[Arrays] = field(default_factory=list)


def sampled_params(work: KernelWork) -> ComplexityGapParams:
    """Return the parameters of the one score whose classes are scored one by one."""
    params = work.methods["cg"]
    assert isinstance(params, ComplexityGapParams)
    return params


def compute_pieces(
    work: KernelWork,
    pieces: Sequence[Piece],
    samples: Mapping[Source, Samples],
    engine: Engine,
    count: Callable[[int], None],
    progress: Progress,
) -> list[Computed]:
    """Return the finished blocks of each piece; those in the folder are taken from there.

    Args:
        work: of the run; with a shard, its blocks alone.
        pieces: what is to be computed.
        samples: with the kernel of each source.
        engine: where blocks run whose kernel is of the samples alone; others, and those that all samples are in, run here.
        count: told of blocks that were computed.
        progress: told of blocks, and how far one is.
    """
    names = [piece.block_names(work) for piece in pieces]
    first, found = 0, []
    for piece, of_piece in zip(pieces, names, strict=True):
        mine = [
            n for n in range(len(of_piece)) if work.shard is None or (first + n) % work.shard[1] == work.shard[0] - 1
        ]
        first += len(of_piece)
        found.append(Computed(mine, _compute(work, piece, mine, samples[piece.source], engine, count, progress)))
    return found


def _compute(
    work: KernelWork,
    piece: Piece,
    numbers: Sequence[int],
    samples: Samples,
    engine: Engine,
    count: Callable[[int], None],
    progress: Progress,
) -> list[Arrays]:
    finished: list[int] = []  # how many there were results of, each time that one came

    def counted(task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
        if finished:
            count(done - finished[-1])
        finished.append(done)
        progress(task, done, total)

    def within(task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
        if len(numbers) == 1:
            progress(task, done, total, facts)
        else:
            progress("scoring", finished[-1], len(numbers), {"% of the block": 100 * done / max(total, 1)})

    if piece.problem is not None:
        store = work.store(problem=[*piece.source, *piece.problem])
    else:
        store = work.store(sampled=[*piece.source, dataclasses.asdict(sampled_params(work))])
    whole = piece.problem is not None and piece.problem.mode != "partition"
    kernel = samples.kernel
    if isinstance(kernel, ReluKernel) and not whole:
        function, blocks = _packed(work, piece, numbers, samples, kernel, progress)
        return [*MapBlocks(engine, store, counted)("scoring", function, blocks, within=within)]
    names, results = piece.block_names(work), list[Arrays]()
    compute = _computed_here(work, piece, samples, store, within)
    for number in numbers:
        finished.append(len(results))
        kept: Arrays | None = store.get(names[number])
        results.append(kept if kept is not None else compute(number))
        if kept is None:
            store.put(names[number], results[-1])
            count(1)
        progress("scoring", len(results), len(numbers))
    store.remove_panels()
    return results


def _packed(
    work: KernelWork, piece: Piece, numbers: Sequence[int], samples: Samples, kernel: ReluKernel, progress: Progress
) -> tuple[str, list[Block]]:
    """Return the function and the blocks that an engine is handed."""
    codes_n, order_n, width = work.codes_n, samples.order_n, samples.rows.n_features
    names, itemsize = piece.block_names(work), samples.rows.values_nd.dtype.itemsize
    dtype = "float32" if work.runtime.precision == "float32" else "float64"
    values: dict[str, Any] = {"depth": kernel.depth, **work.settings}
    if piece.problem is None:
        params = sampled_params(work)
        planned = complexity_gap.plan_blocks(codes_n, params)
        values["ridge"] = params.ridge

        def sides(block: complexity_gap.Block) -> Arrays:
            return pack_sides(kernel, *complexity_gap.draw_block(codes_n, order_n, block, params, work.runtime.seed))

        blocks = []
        for number in numbers:
            n_pos, n_neg = complexity_gap.block_size(codes_n, planned[number], params)
            nbytes = complexity_gap.block_memory(n_pos, n_neg, width, dtype, itemsize)
            flops = (n_pos + n_neg) ** 3 / 3 + n_pos**3 / 3 + (n_pos + n_neg) ** 2 * width
            gather = _later(sides, planned[number])
            blocks.append(Block(names[number], values, gather, _with_process(nbytes), flops))
        return "prune_cli.methods.scores.kernel.blocks:score_packed_sides", blocks
    problem = piece.problem
    parts = plan_sets(problem, len(codes_n))
    sets = set_members(samples, problem, work.runtime.seed, progress)
    size = min(problem.block_size, len(codes_n))
    cost = problem_cost(problem._replace(repeats=1), size, width, samples.n_classes, dtype, itemsize)
    nbytes = _with_process(round(cost["memory"]))
    return "prune_cli.methods.scores.kernel.blocks:solve_packed_set", [
        Block(
            names[number],
            {**values, "n_classes": samples.n_classes, "problem": list(problem), "part": list(parts[number])},
            _later(lambda part: pack_set(kernel, codes_n, sets(part)), parts[number]),
            nbytes,
            cost["flops"],
        )
        for number in numbers
    ]


def _later(gather: Callable[[Any], Arrays], of: Any) -> Callable[[], Arrays]:
    return lambda: gather(of)


def _with_process(nbytes: int) -> int:
    """Return the memory of a block with that of the process it runs in."""
    return nbytes + BLOCK_PROCESS_BYTES


def _computed_here(
    work: KernelWork, piece: Piece, samples: Samples, store: BlockFolder, within: Progress
) -> Callable[[int], Arrays]:
    """Return what computes a block, by its number, in this process and with all its threads."""
    if piece.problem is None:
        params = sampled_params(work)
        planned = complexity_gap.plan_blocks(work.codes_n, params)
        return lambda number: to_arrays(
            complexity_gap.score_block(
                samples.kernel, work.codes_n, samples.order_n, planned[number], params, progress=within, **work.settings
            )
        )
    problem = piece.problem
    parts = plan_sets(problem, len(work.codes_n))
    sets = set_members(samples, problem, work.runtime.seed, within)
    return lambda number: to_arrays(
        solve_set(
            samples,
            sets(parts[number]),
            problem,
            parts[number],
            store=store,
            progress=within,
            **work.settings,
        )
    )


def ready_samples(
    work: KernelWork,
    params: KernelParams,
    state: dict[str, dict[str, Any]],
    warn: Callable[[str], None],
    progress: Progress,
) -> Samples:
    """Return the samples with their kernel: the one given, the one that was asked to be kept, or one computed as it is needed.

    Args:
        params: of a score; others may share the kernel.
        state: score -> what provenance says of it beside its parameters; added to.
        warn: told what the user should know.
    """
    order_n = canonical_order(work.ids)
    kernel: Kernel | None = None
    if work.load_kernel is not None:
        file = read_kernel(work.load_kernel)
        kernel = MatrixKernel(file.matrix_mm, file.places(work.ids, str(work.load_kernel)))
        _note_other_data(work, file, warn)
        made_as = file.provenance.get("parameters", {}).get("kernel")
        for name, theirs in work.methods.items():
            if (theirs.kernel, theirs.center) == (params.kernel, params.center):
                state.setdefault(name, {})["kernel"] = made_as
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


def _note_other_data(work: KernelWork, file: KernelFile, warn: Callable[[str], None]) -> None:
    theirs = {entry.get("sha256") for entry in file.provenance.get("inputs", [])}
    if not theirs & {entry.sha256 for entry in work.provenance.inputs}:
        warn(f"{work.load_kernel} was made from another file; its rows are taken by their ids")
