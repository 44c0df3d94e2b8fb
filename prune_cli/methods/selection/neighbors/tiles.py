"""Tiles of similarities: products of some rows with others, and the pairs among them that are more alike than a threshold."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prune_cli.methods.devices import resolve_device, tensor_of
from prune_cli.methods.selection.neighbors.similarity import Similarity

if TYPE_CHECKING:
    import torch


@functools.cache
def compile_tile() -> tuple[Callable[..., Any], ...]:
    """Return ``count``, ``fill`` and ``copy``; see where they are called."""
    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def count(tile, half_r, half_c, threshold, own_r, both, of_rows, of_columns):  # type: ignore[no-untyped-def]
        for r in range(tile.shape[0]):
            base, found = 1 - half_r[r], 0
            for c in range(tile.shape[1]):
                tile[r, c] = base - half_c[c] + tile[r, c] / 2
            if own_r[r] >= 0:
                tile[r, own_r[r]] = -1
            for c in range(tile.shape[1]):
                found += tile[r, c] > threshold
            of_rows[r] = found
            if both:
                for c in range(tile.shape[1]):
                    of_columns[c] += tile[r, c] > threshold

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def fill(tile, threshold, both, next_column, columns, of_row, rows, of_column):  # type: ignore[no-untyped-def]
        at = 0
        for r in range(tile.shape[0]):
            for c in range(tile.shape[1]):
                value = tile[r, c]
                if value > threshold:
                    columns[at], of_row[at] = c, value
                    at += 1
                    if both:
                        to = next_column[c]
                        rows[to], of_column[to] = r, value
                        next_column[c] = to + 1

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def copy(counts_r, numbers, values, names, next_r, samples, similarities):  # type: ignore[no-untyped-def]
        at = 0
        for r in range(len(counts_r)):
            to = next_r[r]
            for _ in range(counts_r[r]):
                samples[to], similarities[to] = names[numbers[at]], values[at]
                to += 1
                at += 1
            next_r[r] = to

    return count, fill, copy


@dataclass(frozen=True)
class TileEdges:
    """The edges of some rows to a block: how many each row has, then to whom (numbers in the block), how near."""

    counts: np.ndarray
    numbers: np.ndarray
    values: np.ndarray


class Products:
    """Tiles of dot products on a device, each a product of its own: the same bits however many run at a time."""

    def __init__(self, similarity: Similarity) -> None:
        import torch

        self.device = resolve_device(similarity.device)
        self.rows, self.half_n = tensor_of(similarity.rows_nd).to(self.device), similarity.half_n
        self.dtype = self.rows.dtype
        self.computed_in = torch.bfloat16 if similarity.half_precision else self.dtype

    def dots(self, a: slice | np.ndarray, b: slice) -> torch.Tensor:
        """Return the dot products of some rows with others."""
        return (self.rows[a].to(self.computed_in) @ self.rows[b].to(self.computed_in).T).to(self.dtype)

    def edges(self, a: slice | np.ndarray, b: slice, threshold: float, both: bool) -> tuple[TileEdges, TileEdges]:
        """Return the edges from samples a to block b, and with ``both`` those from b to a."""
        rows = np.arange(len(self.half_n))[a]
        own_r = np.where((rows >= b.start) & (rows < b.stop), rows - b.start, -1)
        if self.device.type == "cpu":
            return self._edges_cpu(rows, a, b, threshold, own_r, both)
        return self._edges_gpu(rows, a, b, threshold, own_r, both)

    def _edges_cpu(
        self, rows: np.ndarray, a: slice | np.ndarray, b: slice, threshold: float, own_r: np.ndarray, both: bool
    ) -> tuple[TileEdges, TileEdges]:
        count, fill, _ = compile_tile()
        tile = self.dots(a, b).numpy()
        of_rows, of_columns = np.zeros(tile.shape[0], np.int64), np.zeros(tile.shape[1] if both else 0, np.int64)
        limit = tile.dtype.type(threshold)
        count(tile, self.half_n[rows], self.half_n[b], limit, own_r, both, of_rows, of_columns)
        found = int(of_rows.sum())
        back = found if both else 0
        numbers, values = np.empty(found, np.int32), np.empty(found, tile.dtype)
        numbers_back, values_back = np.empty(back, np.int32), np.empty(back, tile.dtype)
        fill(tile, limit, both, np.cumsum(of_columns) - of_columns, numbers, values, numbers_back, values_back)
        return TileEdges(of_rows, numbers, values), TileEdges(of_columns, numbers_back, values_back)

    def _edges_gpu(
        self, rows: np.ndarray, a: slice | np.ndarray, b: slice, threshold: float, own_r: np.ndarray, both: bool
    ) -> tuple[TileEdges, TileEdges]:
        import torch

        half_r, half_c = (tensor_of(self.half_n[part]).to(self.device) for part in (rows, b))
        tile = (1 - half_r)[:, None] - half_c + self.dots(a, b) / 2
        mine = np.flatnonzero(own_r >= 0)
        tile[torch.from_numpy(mine).to(self.device), torch.from_numpy(own_r[mine]).to(self.device)] = -1.0
        pieces = []
        for values in (tile, tile.T if both else tile[:0]):
            near = values > threshold
            numbers = near.nonzero(as_tuple=True)[1].to(torch.int32)
            pieces.append(TileEdges(near.sum(dim=1).cpu().numpy(), numbers.cpu().numpy(), values[near].cpu().numpy()))
        return pieces[0], pieces[1]
