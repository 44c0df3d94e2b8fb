"""Facility location: the samples that stand best for all, over nearest neighbors; at once, or by partitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prune_cli.core.params import param
from prune_cli.engines.block import BlockWork
from prune_cli.methods.selection.capabilities import ProblemSize
from prune_cli.methods.selection.contract import Candidates, Choice, Extra, Run
from prune_cli.methods.selection.coverage.covers import covered_by, covers_of, pick_covering
from prune_cli.methods.selection.coverage.partitions import partition_bytes, pick_over_partitions
from prune_cli.methods.selection.coverage.rows import choice_of, kept_and_free, rows_by_id
from prune_cli.methods.selection.greedy.division import Partitioned, overlap_param, oversample_param, parts_param
from prune_cli.methods.selection.neighbors.nearest import (
    EXACT_ROWS,
    answer_bytes,
    nearest_neighbors,
    search_bytes,
    search_work,
)


@dataclass(frozen=True)
class FacilityLocationParams(Partitioned):
    """Parameters of ``facility_location``."""

    neighbors: int = param(64, "nearest samples that can stand for a sample, N - 1 at most", low=1)
    parts: int | None = parts_param()
    overlap: float = overlap_param()
    oversample: float = oversample_param()

    def extra_bytes(self, problem: ProblemSize) -> int:
        """Return the bytes of the graph of neighbors, and of the search for them."""
        rows, width, division = problem.rows, problem.width, self.division
        if division is None:
            return answer_bytes(rows, self.neighbors) + search_bytes(rows, width)
        inside = sum(division.sizes(rows))
        to_picks = 16 * inside * division.count * self.neighbors  # at most, and once more while they are put together
        return answer_bytes(inside, self.neighbors) + 2 * search_bytes(inside, width) + to_picks

    def block_work(self, problem: ProblemSize) -> BlockWork | None:
        """Return what the partitions, or the blocks of an exact search, come to."""
        division, width = self.division, problem.width
        if division is None:
            return search_work(problem.rows, width)
        inside = sum(division.sizes(problem.rows))
        flops = 2.0 * division.count * inside * min(inside, EXACT_ROWS) * width
        return BlockWork(division.count, partition_bytes(inside, width, self.neighbors), flops)


def facility_location_order(
    candidates: Candidates, params: FacilityLocationParams = FacilityLocationParams(), run: Run = Run()
) -> Choice:
    r"""Return the samples by how much each adds to ``sum_i max_{j in S} s_ij``: how well the chosen stand for all.

    ``s_ij = (1 + cos) / 2`` where j is i itself or one of its nearest ``neighbors``, else 0. The objective is monotone and
    submodular; the greedy answer is within 1 - 1/e of the best. With ``parts`` it is greedy within partitions of near samples, then
    among what these picked (see partitions.py): a partition sees the neighbors that are in it or in its halo.

    Args:
        candidates: the samples; of them ``features`` and ``kept``.
        params: see `FacilityLocationParams`. With N - 1 neighbors all pairs count.
        run: of it ``counts``, the largest of which is how many are ranked, and what `nearest_neighbors` and `pick_over_partitions`
            take.
    Returns:
        Choice of one ranking with gains that never rise; with ``parts`` also the figures ``objective``, ``edges`` (to what the partitions
        picked) and ``partitions``.
    Raises:
        InputError: no features at hand.
    Cost:
        The neighbors: 2 N^2 D flops up to 131,072 samples, about N^1.5 D beyond; then N neighbors log N. 12 N neighbors bytes,
        twice. Of a partition of M samples, its halo among them, as much with M for N.
    Source:
        Mirzasoleiman, Bilmes, Leskovec, ICML 2020 (CRAIG); lazy greedy of Minoux 1978. Deviation: similarities beyond the
        nearest neighbors count 0. Partitions: Mirzasoleiman, Karbasi, Sarkar, Krause, NIPS 2013 (GreeDi), arXiv:1411.0541; deviations
        as in `neighbor_confidence_order`.
    Example:
        >>> from prune_cli.methods.selection.contract import ArrayFeatures
        >>> rays = ArrayFeatures(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [-1.0, 0.0]], np.float32))
        >>> params = FacilityLocationParams(neighbors=3)
        >>> facility_location_order(Candidates(np.arange(4), features=rays), params, Run([2])).rankings[0].order_n.tolist()
        [1, 3]
    """
    kept_n, free = kept_and_free(candidates)
    division, count = params.division, max(run.counts)
    parted = None
    if division is not None:
        parted = pick_over_partitions(candidates, params.neighbors, division, count, run)
        graph, free = parted.edges, parted.picked
    else:
        rows_nd = rows_by_id(candidates, "facility_location", "cosine")
        near = nearest_neighbors(rows_nd, params.neighbors, run, metric="euclidean")
        del rows_nd
        graph = covers_of(*near)
        del near
    covered_n = covered_by(graph, np.flatnonzero(kept_n))
    before = float(covered_n.sum())
    picked_k, gains_k = pick_covering(graph, covered_n, free, count)
    choice = choice_of(candidates, picked_k, gains_k, run)
    if parted is None:
        return choice
    objectives = before + np.r_[0.0, np.cumsum(gains_k)]
    extras = tuple(Extra({}, {"objective": float(objectives[k]), **parted.figures}, parted.way) for k in run.counts)
    return Choice(choice.rankings, extras=extras)
