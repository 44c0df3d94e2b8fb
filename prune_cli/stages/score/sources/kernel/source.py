"""Scores that go by a kernel between the samples as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from prune_cli.engines.pool import Pool
from prune_cli.io.parquet.provenance import InputFile, hash_stream
from prune_cli.io.stores.locations import STDIN, local_twin
from prune_cli.methods.scores.kernel.kernels import parse_kernel
from prune_cli.methods.scores.kernel.neural_tangents import require, user_file
from prune_cli.methods.scores.kernel.rows.contract import zero_rows
from prune_cli.methods.scores.kernel.rows.kinds import make_rows
from prune_cli.stages.frame.engine import open_engine
from prune_cli.stages.score.contract import Figures, Job, Scored, Scoring, Source, SourceFacts
from prune_cli.stages.score.output import work_path
from prune_cli.stages.score.reading import Column, Reading
from prune_cli.stages.score.sources.features import Features, class_values, keep_features
from prune_cli.stages.score.sources.kernel.plan import PROCESS_BYTES, kernel_estimate, kernel_workers, refuse_large_pictures, require_room
from prune_cli.stages.score.sources.kernel.scores import (
    compute_kernel_blocks,
    finish_scores,
    kernel_features,
    measure_float32,
    tell_contradictions,
)
from prune_cli.stages.score.sources.kernel.shards import write_kernel_shard
from prune_cli.stages.score.sources.kernel.work import KernelWork

NETWORK_PACKAGES = ("neural-tangents", "jax")


@dataclass(frozen=True)
class KernelSource(Source[Column[np.ndarray]]):
    """Kernels of pixels or embeddings."""

    @property
    def networked(self) -> bool:
        """Return whether a kernel is that of a network, and computed here."""
        names = {parse_kernel(params.kernel).network for params in self.job.request.kernels.values()}
        return self.job.options.load_kernel is None and names - {None} != set()

    def plan(self, figures: Figures) -> Figures:
        options = self.job.options
        shards = options.shard[1] if options.shard is not None else None
        keeps = options.save_kernel is not None
        return kernel_estimate(self.job.dataset, self.job.request.kernels, options.runtime, keeps, options.plan, shards)

    def require_room(self, figures: Figures) -> None:
        folder = self.job.options.work_dir or local_twin(self.job.output).parent
        require_room(figures, folder, self.job.options.runtime)

    def origin(self) -> SourceFacts:
        """Return the networks of the user's own that kernels are of, and the kernel that was given."""
        given, kernels = self.job.options.load_kernel, self.job.request.kernels.values()
        networks = {parse_kernel(params.kernel).network or "" for params in kernels}
        files = [path for name in sorted(networks) if (path := user_file(name)) is not None and path.is_file()]
        if given is not None and given.is_file():
            files.append(given)
        found = []
        for path in files:
            with path.open("rb") as file:
                found.append(InputFile(path.name, hash_stream(file)))
        stated = {"load_kernel": given.name} if given is not None else {}
        return SourceFacts(stated, tuple(found), NETWORK_PACKAGES if self.networked else ())

    def load(self, reading: Reading) -> Column[np.ndarray]:
        """Return the samples; one without a direction is bad."""
        column = reading.array()
        is_image = self.job.dataset.kind == "image"
        center = any(params.center for params in self.job.request.kernels.values())

        def without_direction() -> tuple[np.ndarray, str]:
            values = column.values
            channels = values.shape[-1] if is_image else None
            zero = zero_rows(make_rows(values.reshape(len(values), -1), channels, center))
            return zero, "zero vector after the mean is subtracted" if center or is_image else "zero vector"

        reading.check(without_direction)
        return column

    @contextmanager
    def workers_ahead(self, figures: Figures) -> Iterator[Pool | None]:
        """Yield processes that get ready now, unless blocks are given or some may be finished already."""
        options, output = self.job.options, self.job.output
        kept = options.work_dir is not None or output != STDIN
        if self.networked or options.load_kernel is not None or (kept and work_path(options, output).exists()):
            yield None
            return
        shards = options.shard[1] if options.shard is not None else 1
        with kernel_workers(figures, options.runtime, shards) as started:
            yield started

    def scores(self, loaded: Column[np.ndarray], scoring: Scoring) -> Scored:
        """Return the scores; of a part of the work what writes its blocks."""
        job, options, values, found = self.job, self.job.options, loaded.values, Scored()
        labels, kernels = scoring.labels, job.request.kernels
        work = KernelWork(values, labels.codes_n, scoring.ids, kernels, options, scoring.folder, scoring.provenance)
        with open_engine(options.runtime, PROCESS_BYTES + values.nbytes, scoring.started) as engine:
            blocks = compute_kernel_blocks(work, found, engine, scoring.progress)
            if (shard := options.shard) is not None:
                to = (job.output, job.dataset.source)
                part = partial(write_kernel_shard, blocks, work, shard, labels)
                found.files.append(lambda provenance: part(provenance, *to))
            else:
                solutions = finish_scores(blocks.plan, blocks.computed, work.codes_n, found)
                measure_float32(work, blocks, found)
                tell_contradictions(work, blocks, solutions, found)
                if job.request.features == "kernel":
                    features = Features(*kernel_features(blocks, solutions, found), class_values(job.dataset))
                    found.add(keep_features(job, scoring, features))
        return found


def kernel_source(job: Job) -> KernelSource:
    """Return the kernels that the scores of a job go by.

    Raises:
        InputError: pictures too large for it.
        UnavailableError: a kernel is a network's and the extra is missing.
    """
    source = KernelSource(job)
    if source.networked:
        require()
    refuse_large_pictures(job.dataset, job.options.force)
    return source
