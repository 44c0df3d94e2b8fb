"""Nearest neighbors of every sample: exactly by blocked products, or approximately by an inverted file of FAISS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from prune_cli.core.arrays import conditioned
from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.rng import stream_seed
from prune_cli.engines.engine import Arrays, Block, BlockWork
from prune_cli.methods.devices import resolve_device, tensor_of
from prune_cli.methods.selection.contract import Features, Run, read_batches

Metric = Literal["cosine", "euclidean"]
EXACT_ROWS = 131_072
"""Up to this many samples all pairs are compared."""

_BLOCK_NUMBERS, _DEVICE_NUMBERS = 1 << 25, 1 << 29
"""Similarities in a block on a CPU, and on a device, which is sent all rows for it."""

_SPARE = 8

_LOOKED_AT, _ONE_DIRECTION, _SAME = 65_536, 1e-6, 1e-14
"""Rows whose directions are compared; mean squares from their mean below which float32 loses them, and rounding of equal ones."""


def nearest_neighbors(
    features_nd: np.ndarray, n_neighbors: int, run: Run = Run(), *, metric: Metric = "cosine", exact: bool | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest other samples of each sample, and how far they are.

    Args:
        features_nd: (N, D) float32, finite.
        n_neighbors: K, at most N - 1.
        run: of it ``device`` and ``hand_out`` for an exact search, ``seed`` and ``progress`` for another.
        metric: ``cosine`` (distance between the rows at length 1, so 0 to 2) or ``euclidean``.
        exact: compare all pairs; None: up to `EXACT_ROWS` samples. Otherwise an inverted file, which misses
            some of the neighbors; the seed draws the samples it is trained on, and its first centroids.
    Returns:
        (N, K) int32 positions, nearest first, and (N, K) float32 distances. Equal distances go by position.
    Cost:
        Exact: 2 N^2 D flops, blocks of 128 MiB. Otherwise about N^1.5 D.
    Source:
        Johnson, Douze, Jegou 2017, arXiv:1702.08734, for the inverted file.
    Example:
        >>> line = np.array([[0.0], [1.0], [3.0], [3.5]], np.float32)
        >>> nearest_neighbors(line, 1, metric="euclidean")[0].ravel().tolist()
        [1, 0, 3, 2]
    """
    n_samples = len(features_nd)
    n_neighbors = min(n_neighbors, n_samples - 1)
    if n_neighbors <= 0:
        return np.zeros((n_samples, 0), np.int32), np.zeros((n_samples, 0), np.float32)
    rows_nd, factor = (unit_rows(features_nd), 1.0) if metric == "cosine" else conditioned(features_nd)
    more = min(n_neighbors + _SPARE, n_samples - 1)  # rounding decides who of nearly equal ones is found: sort them out
    if exact if exact is not None else n_samples <= EXACT_ROWS:
        found = _exact(rows_nd, more, run)
    else:
        found = _inverted_file(rows_nd, more, run.seed, run.progress)
    near_nk, distances_nk = _nearest(rows_nd, found, n_neighbors)
    return near_nk, distances_nk if factor == 1.0 else (distances_nk / factor).astype(np.float32)


def refuse_one_direction(features: Features, method: str, cure: str) -> None:
    """Refuse vectors between which cosines say nothing in float32: all point the same way, to a thousandth of their length.

    Args:
        features: N vectors, of which the first 65,536 are looked at.
        method: what goes by their cosines.
        cure: what else to do than to subtract their mean.
    Raises:
        InputError: they do, and are not all the same.
    """
    count = min(features.shape[0], _LOOKED_AT)
    for _, rows in read_batches(features, _LOOKED_AT, np.arange(count)):
        unit = unit_rows(rows).astype(np.float64)
        apart = float(((unit - unit.mean(axis=0)) ** 2).sum(axis=1).mean())
        if _SAME < apart < _ONE_DIRECTION:
            raise InputError(
                f"{method} goes by the angles between vectors, and all point the same way (cosines of {1 - apart:.7f} on average): "
                "what tells them apart is lost in float32",
                f"subtract the mean of the vectors first{cure}",
            )
        return


def search_bytes(rows: int, width: int) -> int:
    """Return the bytes a search takes beside its answer: rows at length 1 and, beyond `EXACT_ROWS`, their inverted file."""
    return 4 * rows * width * (2 if rows > EXACT_ROWS else 1)


def answer_bytes(rows: int, n_neighbors: int) -> int:
    """Return the bytes of the answer of a search, and of what a method makes of it."""
    return 24 * rows * n_neighbors


def search_work(rows: int, width: int) -> BlockWork | None:
    """Return what the blocks of a search come to, None where it is not exact and has none."""
    if rows > EXACT_ROWS:
        return None
    blocks = -(-(rows**2) // _BLOCK_NUMBERS)
    return BlockWork(blocks, 5 * _BLOCK_NUMBERS + 4 * rows * width, 2.0 * rows**2 * width)


def unit_rows(features_nd: np.ndarray) -> np.ndarray:
    """Return the rows at length 1, float32; a row of zeros stays."""
    rows = np.array(features_nd, np.float32)
    for start in range(0, len(rows), 65_536):
        part = rows[start : start + 65_536]
        lengths = np.linalg.norm(part.astype(np.float64), axis=1, keepdims=True)
        part /= np.where(lengths > 0, lengths, 1.0).astype(np.float32)
    return rows


def _exact(rows_nd: np.ndarray, n_neighbors: int, run: Run) -> np.ndarray:
    n_samples, width = rows_nd.shape
    hand_out = run.hand_out
    on_cpu = resolve_device(run.device).type == "cpu" and not hand_out.elsewhere
    height = max(1, (_BLOCK_NUMBERS if on_cpu else _DEVICE_NUMBERS) // n_samples)
    blocks = []
    for start in range(0, n_samples, height):
        rows = min(height, n_samples - start)
        values = {"start": start, "stop": start + rows, "neighbors": n_neighbors, "device": run.device}
        name, flops = f"neighbors of rows {start}-{start + rows}", 2.0 * rows * n_samples * width
        blocks.append(Block(name, values, dict, 5 * rows * n_samples, flops))
    found = hand_out("neighbors", f"{__name__}:nearest_of_rows", blocks, shared={"rows": rows_nd}, in_threads=True)
    return np.concatenate([answer["found"] for answer in found])


def nearest_of_rows(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, np.ndarray]:
    """Return who is nearest to some rows of all.

    Args:
        values: ``start`` and ``stop`` of the rows, ``neighbors`` K, ``device``.
        arrays: ``rows`` (N, D) float32.
    Returns:
        ``found`` (B, K) int32, in any order where distances are nearly the same.
    Cost:
        2 B N D flops.
    """
    import torch

    device, height = resolve_device(values["device"]), max(1, _BLOCK_NUMBERS // len(arrays["rows"]))
    rows = tensor_of(arrays["rows"]).to(device)
    half_squares = rows.square().sum(dim=1) / 2
    found = []
    for start in range(values["start"], values["stop"], height):
        near = torch.addmm(half_squares, rows[start : min(start + height, values["stop"])], rows.T, beta=-1.0)  # larger = nearer
        own = torch.arange(start, start + len(near), device=device)
        near[own - start, own] = -torch.inf
        found.append(near.topk(values["neighbors"], dim=1).indices.to(torch.int32).cpu().numpy())
    return {"found": np.concatenate(found)}


def _inverted_file(rows_nd: np.ndarray, n_neighbors: int, seed: int, progress: Progress) -> np.ndarray:
    import faiss

    n_samples, width = rows_nd.shape
    lists = int(4 * np.sqrt(n_samples))
    quantizer = faiss.IndexFlatL2(width)
    index = faiss.IndexIVFFlat(quantizer, width, lists)
    index.cp.seed = stream_seed(seed, "neighbors") % 2**31
    index.cp.niter = 10
    index.cp.max_points_per_centroid = 64
    index.train(rows_nd)
    index.add(rows_nd)
    index.nprobe = max(8, lists // 64)
    found = np.empty((n_samples, n_neighbors), np.int32)
    height = 65_536
    for start in range(0, n_samples, height):
        _, near = index.search(rows_nd[start : start + height], n_neighbors + 1)
        own = np.arange(start, start + len(near))
        near[near == own[:, None]] = -1
        # The sample itself and what a short list left empty go to the end; then the first K are the neighbors.
        order = np.argsort(near < 0, axis=1, kind="stable")[:, :n_neighbors]
        near = np.take_along_axis(near, order, axis=1)
        near[near < 0] = -1
        found[start : start + len(near)] = np.where(near < 0, own[:, None], near)
        progress("neighbors", start + len(near), n_samples)
    return found


def _nearest(rows_nd: np.ndarray, found_nm: np.ndarray, n_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest of those found, by distances computed from differences in float64, and the distances."""
    near = np.empty((len(rows_nd), n_neighbors), np.int32)
    distances = np.empty(near.shape, np.float32)
    height = max(1, (1 << 22) // (rows_nd.shape[1] * found_nm.shape[1]))
    for start in range(0, len(rows_nd), height):
        part = slice(start, start + height)
        away = (rows_nd[found_nm[part]] - rows_nd[part, None]).astype(np.float64)
        length = np.sqrt(np.einsum("bkd,bkd->bk", away, away))
        order = np.lexsort((found_nm[part], length))[:, :n_neighbors]
        near[part] = np.take_along_axis(found_nm[part], order, axis=1)
        distances[part] = np.take_along_axis(length, order, axis=1)
    return near, distances
