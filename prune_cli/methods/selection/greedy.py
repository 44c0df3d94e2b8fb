"""Greedy selection: over a heap of upper bounds, and in two rounds (GreeDi), within partitions first, then among what these picked."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_cli.core.params import param
from prune_cli.core.rng import stream_seed
from prune_cli.methods.partition import Region, two_means_parts
from prune_cli.methods.selection.contract import Candidates, Features, Run, read_batches
from prune_cli.methods.selection.neighbors.tiles import Edges


@functools.cache
def compile_heap() -> tuple[Any, Any]:
    """Return ``sift(heap, size, keys, at)`` and ``build(heap, keys)``: the largest key on top, of equals the least position."""
    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def sift(heap, size, keys, at):  # type: ignore[no-untyped-def]
        moved = heap[at]
        while True:
            child = 2 * at + 1
            if child >= size:
                break
            if child + 1 < size:
                a, b = heap[child], heap[child + 1]
                if keys[b] > keys[a] or (keys[b] == keys[a] and b < a):
                    child += 1
            below = heap[child]
            if keys[moved] > keys[below] or (keys[moved] == keys[below] and moved < below):
                break
            heap[at] = below
            at = child
        heap[at] = moved

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def build(heap, keys):  # type: ignore[no-untyped-def]
        for at in range(len(heap) // 2 - 1, -1, -1):
            sift(heap, len(heap), keys, at)

    return sift, build


@dataclass(frozen=True)
class Division:
    """Partitions of near samples that are picked from on their own at first.

    Args:
        overlap: samples of others that count in a partition, a share of its own for each level of cuts.
        oversample: how many times its share of the budget a partition picks.
    """

    count: int
    overlap: float
    oversample: float

    def sizes(self, n_samples: int) -> tuple[int, int]:
        """Return how many samples a partition has of its own, and about how many its halo has."""
        own = -(-n_samples // self.count)
        return own, min(n_samples - own, round(self.overlap * np.log2(self.count) * own))

    def words(self, n_samples: int) -> str:
        """Return in words how so many samples are cut, for ``--plan``."""
        own, halo = self.sizes(n_samples)
        return (
            f"{self.count} partitions of about {own:,} rows, each with about {halo:,} more of others near it; each picks "
            f"{self.oversample:g} times its share of the budget, then one greedy run over what they picked"
        )


class Partitioned:
    """Parameters of a method that can go by partitions: the fields are made by `parts_param` and the two after it."""

    parts: int | None
    overlap: float
    oversample: float

    @property
    def division(self) -> Division | None:
        """How samples are cut; None: they are not."""
        if self.parts is None or self.parts == 1:
            return None
        return Division(self.parts, self.overlap, self.oversample)


def parts_param() -> Any:
    """Return the field ``parts``."""
    help = "partitions of near samples that are picked from on their own at first; none: all samples at once"
    return param(None, help, low=1)


def overlap_param() -> Any:
    """Return the field ``overlap``."""
    help = "with parts, samples of others that count in a partition, a share of its own for each level of cuts"
    return param(0.1, help, low=0.0, high=1.0)


def oversample_param() -> Any:
    """Return the field ``oversample``."""
    return param(2.0, "with parts, how many times its share of the budget a partition picks", low=1.0)


_BLOCK_NUMBERS = 1 << 20  # numbers of a block of features


class _Directions:
    """The vectors of samples numbered by ascending id, as a tree of two-means asks for them.

    Each product is computed from its own row alone: the same bits in whatever blocks the rows come.
    """

    def __init__(self, features: Features, by_id: np.ndarray, unit: bool) -> None:
        self._features, self._by_id, self._unit = features, by_id, unit

    def some(self, positions: np.ndarray) -> np.ndarray:
        rows_bd = gather(self._features, self._by_id[positions])
        if not self._unit:
            return rows_bd
        lengths = np.linalg.norm(rows_bd.astype(np.float64), axis=1, keepdims=True)
        unit: np.ndarray = (rows_bd / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
        return unit

    def along(self, positions: np.ndarray, direction_d: np.ndarray) -> np.ndarray:
        found = np.empty(len(positions))
        for here, block in _read(self._features, self._by_id[positions]):
            rows_bd = block.astype(np.float64)
            products = np.einsum("bd,d->b", rows_bd, direction_d)
            if self._unit:
                lengths = np.sqrt(np.einsum("bd,bd->b", rows_bd, rows_bd))
                products /= np.where(lengths > 0, lengths, 1.0)
            found[here] = products
        return found


def gather(features: Features, positions: np.ndarray) -> np.ndarray:
    """Return (B, D) float32 vectors of some samples, in the order given, from memory or from a file."""
    rows_bd = np.empty((len(positions), features.shape[1]), np.float32)
    for here, block in _read(features, positions):
        rows_bd[here] = block
    return rows_bd


def _read(features: Features, positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places among some positions and their vectors; a file yields its other rows too, and they are left out."""
    place_n = np.full(features.shape[0], -1, np.int64)
    place_n[positions] = np.arange(len(positions))
    for here, block in read_batches(features, max(1, _BLOCK_NUMBERS // features.shape[1]), positions):
        meant = place_n[here] >= 0
        yield (place_n[here], block) if meant.all() else (place_n[here[meant]], block[meant])


def cut(candidates: Candidates, features: Features, division: Division, run: Run, *, unit: bool = True) -> list[Region]:
    """Return the samples, numbered by ascending id, in partitions of near ones with their halos.

    Args:
        candidates: N samples.
        division: how many partitions, but no more than leave each two samples, and how large their halos are.
        run: of it ``seed``, which draws the rows that centres are fitted to, and ``progress``.
        unit: whether near means in direction.
    Cost:
        As `two_means_parts`; features in a file are read twice for each of count - 1 cuts.
    """
    directions = _Directions(features, candidates.order_n, unit)
    n_samples, seed = len(candidates), stream_seed(run.seed, "select", "partitions")
    n_parts = max(1, min(division.count, n_samples // 2))
    return two_means_parts(directions, np.arange(n_samples), n_parts, seed, 0, run.progress, division.overlap)


def arrays_of(candidates: Candidates, features: Features, region: Region) -> dict[str, np.ndarray]:
    """Return what every partition's block has: ``features`` (M, D) float32 of its members, ``kept`` and ``core`` (M,) bool."""
    rows = candidates.order_n[region.members]
    core = np.isin(region.members, region.core, assume_unique=True)
    return {"features": gather(features, rows), "kept": candidates.kept[rows], "core": core}


def shares(regions: Sequence[Region], codes_n: np.ndarray, wanted_c: np.ndarray, oversample: float) -> np.ndarray:
    """Return (P, C) int64 how many of each class each partition picks: its share of those wanted times a factor, at most all.

    Args:
        regions: P partitions.
        codes_n: (N,) int64 class of each sample; -1 for those that cannot be picked.
        wanted_c: (C,) int64 how many of each class the answer has.
        oversample: 1 or more.
    Example:
        >>> halves = [Region(np.array([0, 1, 2]), np.array([3])), Region(np.array([3]), np.array([0]))]
        >>> shares(halves, np.array([0, 0, 1, 0]), np.array([2, 1]), 1.0).tolist()
        [[2, 1], [1, 0]]
    """
    found = []
    for region in regions:
        codes = codes_n[region.core]
        found.append(np.bincount(codes[codes >= 0], minlength=len(wanted_c)))
    sizes_pc = np.stack(found)
    # A little less than the quotient: what is a whole number is not raised by rounding.
    share = np.ceil(oversample * wanted_c * sizes_pc / np.maximum(sizes_pc.sum(axis=0), 1) - 1e-9)
    result: np.ndarray = np.minimum(sizes_pc, share.astype(np.int64))
    return result


def taken_by_turns(sizes_c: np.ndarray, count: int) -> np.ndarray:
    """Return (C,) int64 how many of each class are among so many picks when classes take turns, rounded up.

    As many of each until the first is empty, and on until one has given more than 1.5 times what that one had; what is picked after
    that goes by gain, and is taken here to be in proportion to what is left.

    Example:
        >>> taken_by_turns(np.array([2, 9, 9]), 8).tolist(), taken_by_turns(np.array([2, 9, 9]), 12).tolist()
        ([2, 3, 3], [2, 5, 5])
    """
    there = sizes_c[sizes_c > 0]
    if not len(there):
        return np.zeros(len(sizes_c), np.int64)
    low, high = 0, int(1.5 * there.min()) + 1
    while low < high:
        level = (low + high) // 2
        low, high = (low, level) if np.minimum(sizes_c, level).sum() >= count else (level + 1, high)
    taken_c = np.minimum(sizes_c, low)
    rest, left_c = count - int(taken_c.sum()), sizes_c - taken_c
    if rest > 0:
        taken_c = taken_c + np.minimum(left_c, -(-rest * left_c // max(1, int(left_c.sum()))))
    result: np.ndarray = taken_c
    return result


@dataclass(frozen=True)
class SecondRound:
    """What the second round goes over. Samples are numbered by ascending id.

    Args:
        edges: from all samples to what the partitions picked; rows of other samples are empty.
        picked: (F,) int64 what they picked, ascending.
        figures: ``edges`` and ``partitions``.
        way: how it was found, in words.
    """

    edges: Edges
    picked: np.ndarray
    figures: dict[str, float]
    way: str


def second_round(regions: Sequence[Region], answers: list[dict[str, np.ndarray]], picks: Sequence[np.ndarray]) -> SecondRound:
    """Return what the second round goes over; the edges are taken out of the answers.

    Args:
        regions: P partitions.
        answers: of each, ``owners`` (K,) numbers among its members, ``counts`` (K,) edges of each, ``samples`` and
            ``similarities`` of these one after the other.
        picks: of each, the numbers of those that it picked.
    """
    picked = np.sort(np.concatenate([r.members[mine] for r, mine in zip(regions, picks, strict=True)]))
    found = sum(int(answer["counts"].sum()) for answer in answers)
    way = (
        f"{len(regions)} partitions, {len(picked):,} picks in all, then one greedy run over these; edges are those from all samples to them"
    )
    figures = {"edges": float(found), "partitions": float(len(regions))}
    return SecondRound(_joined(regions, answers), picked, figures, way)


def _joined(regions: Sequence[Region], answers: list[dict[str, np.ndarray]]) -> Edges:
    """Return the edges of all partitions by the numbers of all samples."""
    n_samples = sum(len(region.core) for region in regions)
    total = sum(len(answer["samples"]) for answer in answers)
    begin_n, end_n = np.zeros(n_samples, np.int64), np.zeros(n_samples, np.int64)
    samples_e, similarities_e = np.empty(total, np.int32), np.empty(total, answers[0]["similarities"].dtype)
    used = 0
    for region, answer in zip(regions, answers, strict=True):
        members, counts = region.members, answer["counts"]
        owners, samples = members[answer["owners"]], answer.pop("samples")
        end_n[owners] = used + np.cumsum(counts)
        begin_n[owners] = end_n[owners] - counts
        part = slice(used, used + len(samples))
        samples_e[part], similarities_e[part] = members[samples], answer.pop("similarities")
        used = part.stop
    return Edges(begin_n, end_n, samples_e, similarities_e)
