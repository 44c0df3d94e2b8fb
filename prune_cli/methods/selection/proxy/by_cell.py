"""Vectors sorted by cell, so that a block has few cells and their sums are small beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from prune_cli.engines.block import Arrays, Block
from prune_cli.methods.selection.proxy.samples import LabelledVectors, block_rows

_SORTED_NUMBERS = 1 << 25  # numbers of features in a file that are sorted at a time, at most


class VectorsByCell:
    """Vectors sorted by cell, of all samples or, where they stay in a file, of as many as are sorted at a time.

    Args:
        samples: N samples.
        cell_n: (N,) int64, -1 for samples of no cell.
        slot_k: (K,) less than 0 for cells whose rows are kept in place of their sums.
    """

    def __init__(self, samples: LabelledVectors, cell_n: np.ndarray, slot_k: np.ndarray) -> None:
        self._width, self._cell_n, self._codes_n = samples.width, cell_n, samples.codes_n
        self._rows = block_rows(self._width)
        together = self._rows
        if not samples.features.ordered:  # so many that what is of one cell is about as large as its sums
            together = max(together, min(_SORTED_NUMBERS // self._width, 4 * len(slot_k) * self._width))
        self._batches = samples.features.batches(together, samples.order_n)
        self._large, self._small = [], []  # places in each batch, by cell
        for batch in self._batches:
            cells = cell_n[batch.positions]
            places = np.argsort(cells, kind="stable")
            places = places[cells[places] >= 0]
            is_large = slot_k[cells[places]] >= 0
            self._large.append(places[is_large])
            self._small.append(places[~is_large])
        self._kept: dict[int, np.ndarray] = {}

    def blocks(self, values: dict[str, Any], name: str) -> list[Block]:
        """Return blocks of rows of large cells for `sum_cells`."""
        found = []
        for number, (batch, large) in enumerate(zip(self._batches, self._large, strict=True)):
            for start in range(0, len(large), self._rows):
                places = large[start : start + self._rows]
                here = batch.positions[places]
                n_rows, n_sums = len(here), len(np.unique(self._cell_n[here])) * (self._width + 1) ** 2
                found.append(
                    Block(
                        f"{name} {number}/{start}", values, self._gatherer(number, places),
                        16 * n_rows * self._width + 16 * n_sums, 2.0 * n_rows * self._width**2,
                        kept=8 * n_sums <= 4 * n_rows * self._width,
                    )
                )  # fmt: skip
        return found

    def small_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the samples of small cells and their vectors; batches that no block was gathered from are read now."""
        for number, small in enumerate(self._small):
            if len(small) and number not in self._kept:
                self._read(number)
        numbers = sorted(self._kept)
        positions = [self._batches[n].positions[self._small[n]] for n in numbers]
        empty = np.zeros(0, np.int64), np.zeros((0, self._width), np.float32)
        return np.concatenate([empty[0], *positions]), np.concatenate([empty[1], *(self._kept[n] for n in numbers)])

    def _gatherer(self, number: int, places: np.ndarray) -> Callable[[], Arrays]:
        def gather() -> Arrays:
            here = self._batches[number].positions[places]
            rows = self._read(number)
            sorted_already = len(places) == len(rows) and bool((np.diff(places) == 1).all())
            return {
                "rows": rows if sorted_already else rows[places],
                "codes": self._codes_n[here],
                "cells": self._cell_n[here],
            }

        return gather

    def _read(self, number: int) -> np.ndarray:
        rows = self._batches[number].read()
        if len(self._small[number]) and number not in self._kept:
            self._kept[number] = rows[self._small[number]]
        return rows
