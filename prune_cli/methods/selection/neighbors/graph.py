"""The graph of all pairs of samples more alike than a threshold, by tiles of products; all tiles, or those of cells near each other."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_cli.core.progress import Progress, silent
from prune_cli.core.rng import generator, stream_seed
from prune_cli.engines.engine import Arrays, Block, BlockWork
from prune_cli.engines.handout import MapBlocks
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.selection.contract import Run
from prune_cli.methods.selection.neighbors.tiles import Edges, Products, Similarity, TileEdges, compile_tile, edge_bytes

_CHUNK = 8192


@dataclass(frozen=True)
class Cells:
    """Samples grouped around centroids, and which groups are near each other.

    Args:
        order_n: (N,) int64 samples by cell.
        edges: (K + 1,) int64 where each cell begins in that order.
        near_kp: (K, P) int64 the cells nearest to each cell, itself first.
    """

    order_n: np.ndarray
    edges: np.ndarray
    near_kp: np.ndarray

    def pairs(self) -> list[Sequence[int]]:
        """Return for each cell those not before it that are near it, or that it is near: every pair once."""
        n_cells = len(self.near_kp)
        a, b = np.repeat(np.arange(n_cells), self.near_kp.shape[1]), self.near_kp.ravel()
        low, high = np.minimum(a, b), np.maximum(a, b)
        both = np.unique(low * n_cells + high)
        low, high = both // n_cells, both % n_cells
        split = np.searchsorted(low, np.arange(n_cells + 1))
        return [high[split[c] : split[c + 1]].tolist() for c in range(n_cells)]


def make_cells(similarity: Similarity, probes: int, seed: int, progress: Progress = silent) -> Cells:
    """Return cells of about sqrt(N) / 2 samples around centroids of k-means, each with its nearest ones.

    Args:
        similarity: N samples.
        probes: how many cells each cell is compared with, itself among them.
        seed: draws the samples k-means is trained on, and its first centroids.
    Source:
        The inverted file of Jegou, Douze, Schmid, TPAMI 2011, with both sides of a pair taken from cells.
    """
    import faiss
    import torch

    n_samples, width = similarity.rows_nd.shape
    n_cells = max(1, int(2 * np.sqrt(n_samples)))
    rows_nd = np.ascontiguousarray(similarity.rows_nd, np.float32)
    draw = generator(seed, "select", "cells").permutation(n_samples)[: 64 * n_cells]
    kmeans = faiss.Kmeans(
        width, n_cells, niter=10, seed=stream_seed(seed, "select", "centroids") % 2**31, max_points_per_centroid=64,
        min_points_per_centroid=1,
    )  # fmt: skip
    kmeans.train(rows_nd[np.sort(draw)])
    centroids = torch.from_numpy(kmeans.centroids)
    half = centroids.square().sum(dim=1) / 2
    cell_n = np.empty(n_samples, np.int64)
    for start in range(0, n_samples, _CHUNK):
        part = torch.from_numpy(rows_nd[start : start + _CHUNK])
        cell_n[start : start + len(part)] = (part @ centroids.T - half).argmax(dim=1).numpy()
        progress("cells", min(n_samples, start + len(part)), n_samples)
    order_n = np.argsort(cell_n, kind="stable")
    edges = np.searchsorted(cell_n[order_n], np.arange(n_cells + 1))
    between = half[:, None] + half - centroids @ centroids.T
    between.fill_diagonal_(-1.0)
    near_kp = between.topk(min(probes, n_cells), dim=1, largest=False).indices.numpy()
    return Cells(order_n, edges, near_kp)


_TILE_ROWS = 1024
_PAIRS_HERE, _PAIRS_THERE, _PAIRS_DEVICE = 1 << 24, 1 << 26, 1 << 28
"""Pairs of a block, all of which may be edges: few for threads, more where they are sent, and most for a device, which is sent all rows."""

_PAIR_BYTES = 24  # two edges of 12 bytes


def build_graph(
    similarity: Similarity, threshold: float, run: Run = Run(), *, max_bytes: int | None = None, cells: Cells | None = None
) -> Edges | None:
    """Return every pair with a similarity above the threshold, or None where these take more bytes than allowed.

    Args:
        similarity: N samples.
        threshold: strict.
        run: of it ``hand_out``, which gets the blocks, to each of which all rows are sent.
        max_bytes: of the edges of both directions.
        cells: compare only samples of cells that are near each other; None: all pairs.
    Cost:
        N^2 D flops: each pair once. 8 bytes an edge and direction (12 in float64), and of the tiles whose other side has
        not come yet as much again at most.
    """
    n_samples = len(similarity)
    if cells is None:
        edges = np.append(np.arange(0, n_samples, _TILE_ROWS), n_samples)
        order_n: np.ndarray | None = None
        pairs: list[Sequence[int]] = [range(a, len(edges) - 1) for a in range(len(edges) - 1)]
    else:
        edges, order_n, pairs = cells.edges, cells.order_n, cells.pairs()
    blocks = [slice(int(edges[a]), int(edges[a + 1])) for a in range(len(edges) - 1)]
    dtype = similarity.rows_nd.dtype
    room = n_samples * max(0, n_samples - 1)
    if max_bytes is not None:
        room = min(room, max_bytes // edge_bytes(dtype))
    samples, similarities = np.empty(room, np.int32), np.empty(room, dtype)  # pages are taken as they are written
    begin_n, end_n = np.zeros(n_samples, np.int64), np.zeros(n_samples, np.int64)
    waiting: dict[int, list[tuple[int, TileEdges]]] = collections.defaultdict(list)
    used = held = 0
    everyone = np.arange(n_samples) if order_n is None else order_n
    copy = compile_tile()[2]
    by_cell = similarity if order_n is None else similarity.take(order_n)
    tiles = [(a, b) for a, others in enumerate(pairs) for b in others]
    found = _tiles_of(by_cell, threshold, blocks, tiles, run.hand_out)
    for (a, b), (own, back) in zip(tiles, found, strict=True):
        waiting[a].append((b, own))
        if a != b:
            waiting[b].append((a, back))
        held += len(own.values) + len(back.values)
        if used + held > room:
            return None
        if b != pairs[a][-1]:
            continue
        pieces = waiting.pop(a)
        counts = np.sum([piece.counts for _, piece in pieces], axis=0)
        ends = used + np.cumsum(counts)
        begin_n[everyone[blocks[a]]], end_n[everyone[blocks[a]]] = ends - counts, ends
        next_r = ends - counts
        for other, piece in pieces:
            copy(piece.counts, piece.numbers, piece.values, everyone[blocks[other]], next_r, samples, similarities)
            held -= len(piece.values)
        used = int(ends[-1]) if len(ends) else used
    return Edges(begin_n, end_n, samples[:used], similarities[:used])


def graph_work(n_samples: int, width: int, probes: int | None) -> BlockWork:
    """Return what the blocks of a graph come to: of all pairs, or (about) of those in cells of which each is compared with some."""
    if probes is None:
        flops = float(n_samples) ** 2 * width
    else:  # 2 sqrt(N) cells of sqrt(N) / 2; three quarters of the pairs of near cells are met from one side alone
        flops = min(0.75 * probes * float(n_samples) ** 1.5 * width, float(n_samples) ** 2 * width)
    blocks = math.ceil(flops / (2.0 * width * _PAIRS_THERE))
    return BlockWork(blocks, _PAIR_BYTES * min(n_samples**2, _PAIRS_THERE) + 4 * n_samples * width, flops)


def _tiles_of(
    similarity: Similarity, threshold: float, slices: Sequence[slice], tiles: Sequence[tuple[int, int]], hand_out: MapBlocks
) -> Iterator[tuple[TileEdges, TileEdges]]:
    """Yield the edges of every tile, those back too where its sides are not the same."""
    on_cpu = resolve_device(similarity.device).type == "cpu"
    wanted = _PAIRS_THERE if hand_out.elsewhere else _PAIRS_HERE if on_cpu else _PAIRS_DEVICE
    pairs_t = np.array([_rows(slices[a]) * _rows(slices[b]) for a, b in tiles], np.int64)
    number_t = np.cumsum(pairs_t) // wanted
    of_blocks = np.split(np.arange(len(tiles)), np.flatnonzero(np.diff(number_t)) + 1) if len(tiles) else []
    blocks = []
    for mine in of_blocks:
        sides = [[slices[side].start, slices[side].stop] for t in mine for side in tiles[t]]
        values = {"threshold": threshold, "tiles": sides, "device": similarity.device, "half_precision": similarity.half_precision}
        name, pairs = f"edges of tiles {mine[0]}-{mine[-1]}", int(pairs_t[mine].sum())
        flops = 2.0 * similarity.rows_nd.shape[1] * pairs
        blocks.append(Block(name, values, dict, _PAIR_BYTES * pairs, flops, kept=hand_out.elsewhere))
    shared = {"rows": similarity.rows_nd, "half": similarity.half_n}
    answers = hand_out("neighbors", f"{__name__}:edges_of_tiles", blocks, shared=shared, in_threads=True)
    for mine, answer in zip(of_blocks, answers, strict=True):
        at = [0, 0]  # in the counts and in the edges
        for t in mine:
            a, b = tiles[t]
            own = _take_piece(answer, at, _rows(slices[a]))
            yield own, _take_piece(answer, at, _rows(slices[b]) if a != b else 0)


def edges_of_tiles(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, np.ndarray]:
    """Return the edges of some tiles, those back too where the sides of a tile differ.

    Args:
        values: ``threshold``, ``device``, ``half_precision``; ``tiles``, the first row and the one after the last of both sides of each.
        arrays: ``rows`` and ``half`` of all samples, as `Similarity` has them.
    Returns:
        ``counts`` int64 of the edges of every row of a side, and ``numbers`` int32 (within the other side) and ``similarities`` of these.
    """
    similarity = Similarity(arrays["rows"], arrays["half"], values["device"], values["half_precision"])
    products, found = Products(similarity), list[TileEdges]()
    sides = [slice(*side) for side in values["tiles"]]
    for a, b in zip(sides[::2], sides[1::2], strict=True):
        found.extend(products.edges(a, b, values["threshold"], both=a != b))
    return {
        "counts": np.concatenate([piece.counts for piece in found]),
        "numbers": np.concatenate([piece.numbers for piece in found]),
        "similarities": np.concatenate([piece.values for piece in found]),
    }


def _take_piece(answer: Arrays, at: list[int], n_rows: int) -> TileEdges:
    """Return the next piece of a block's answer, and move on behind it."""
    counts = answer["counts"][at[0] : at[0] + n_rows]
    start, end = at[1], at[1] + int(counts.sum())
    at[:] = at[0] + n_rows, end
    return TileEdges(counts, answer["numbers"][start:end], answer["similarities"][start:end])


def _rows(side: slice) -> int:
    return int(side.stop - side.start)
