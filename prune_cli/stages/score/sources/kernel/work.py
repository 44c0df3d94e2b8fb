"""The blocks of the pieces that kernel scores of a run are made of: computed once, and kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli.core.progress import Progress
from prune_cli.core.runtime import Runtime
from prune_cli.engines.engine import Arrays, Engine
from prune_cli.engines.handout import MapBlocks
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.runs.finished import BlockFolder
from prune_cli.methods.scores.kernel.kernels import ReluKernel
from prune_cli.methods.scores.kernel.params import KernelScoreParams
from prune_cli.methods.scores.kernel.pieces.kinds import KernelName, Piece, Settings
from prune_cli.methods.scores.kernel.samples import Samples
from prune_cli.stages.score.request import ScoreOptions
from prune_cli.stages.score.sources.kernel.plan import BLOCK_PROCESS_BYTES

Shard = tuple[int, int]
"""The I-th of N parts."""


@dataclass(frozen=True)
class KernelWork:
    """What the kernel scores of one run share.

    Args:
        values: (N, H, W, C) pixels or (N, D) embeddings of the good rows.
        codes_n: (N,) their classes.
        methods: name of the score -> its parameters.
        folder: finished blocks are kept there.
    """

    values: np.ndarray
    codes_n: np.ndarray
    ids: pa.Array
    methods: Mapping[str, KernelScoreParams]
    options: ScoreOptions
    folder: Path
    provenance: Provenance

    @property
    def runtime(self) -> Runtime:
        """Return seed, device and precision."""
        return self.options.runtime

    @property
    def settings(self) -> Settings:
        """Return how the methods compute."""
        return Settings(self.runtime.seed, self.runtime.device, self.runtime.precision)

    def store(self, **more: Any) -> BlockFolder:
        """Return where blocks are kept, named by everything that their content depends on."""
        stated = self.provenance.to_dict()
        identity = {name: stated[name] for name in ("versions", "device", "seed")}
        read = [i["sha256"] for i in stated["inputs"]]
        how = {name: stated["parameters"].get(name) for name in ("data", "precision")}
        return BlockFolder(self.folder, {**identity, **how, "inputs": read, "rows": len(self.codes_n), **more})


@dataclass
class Computed:
    """The blocks of a piece that are done."""

    numbers: list[int] = field(default_factory=list)
    arrays: list[Arrays] = field(default_factory=list)


def compute_pieces(
    work: KernelWork,
    pieces: Sequence[Piece],
    samples: Mapping[KernelName, Samples],
    engine: Engine,
    count: Callable[[int], None],
    progress: Progress,
) -> list[Computed]:
    """Return the finished blocks of each piece; those in the folder are taken from there.

    Args:
        work: of the run; with a shard, its blocks alone.
        engine: where blocks run whose kernel is of the samples alone; others, and those that all samples are in, run here.
        count: told of blocks that were computed.
    """
    names = [piece.block_names(work.codes_n) for piece in pieces]
    first, found = 0, []
    for piece, of_piece in zip(pieces, names, strict=True):
        mine = [
            n
            for n in range(len(of_piece))
            if work.options.shard is None or (first + n) % work.options.shard[1] == work.options.shard[0] - 1
        ]
        first += len(of_piece)
        found.append(Computed(mine, _compute(work, piece, mine, samples[piece.kernel], engine, count, progress)))
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

    store, kernel = work.store(**piece.identity), samples.kernel
    if isinstance(kernel, ReluKernel) and piece.apart:
        function, blocks = piece.pack(samples, kernel, numbers, work.settings, progress)
        blocks = [dataclasses.replace(block, nbytes=block.nbytes + BLOCK_PROCESS_BYTES) for block in blocks]
        return [*MapBlocks(engine, store, counted)("scoring", function, blocks, within=within)]
    names, results = piece.block_names(work.codes_n), list[Arrays]()
    compute = piece.compute(samples, work.settings, store, within)
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
