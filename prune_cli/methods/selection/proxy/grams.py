"""Sums over cells: ``F'F`` and ``F'Y``, and the ridge classifiers of subsets that are solved from them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from prune_cli.core.errors import NumericalError
from prune_cli.core.progress import Progress, silent
from prune_cli.engines.engine import Arrays, Block
from prune_cli.methods.devices import resolve_device, tensor_of
from prune_cli.methods.selection.contract import Run
from prune_cli.methods.selection.proxy.samples import LabelledVectors, Subsets, block_rows, one_hot, with_bias

if TYPE_CHECKING:
    import torch

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
            return {"rows": rows if sorted_already else rows[places], "codes": self._codes_n[here], "cells": self._cell_n[here]}

        return gather

    def _read(self, number: int) -> np.ndarray:
        rows = self._batches[number].read()
        if len(self._small[number]) and number not in self._kept:
            self._kept[number] = rows[self._small[number]]
        return rows


_GRAM_BYTES = 256 * 2**20  # Gram matrices that are solved together


def accumulate(samples: LabelledVectors, subsets: Subsets, bias: bool, run: Run, name: str = "proxy") -> Grams:
    """Return the sums of the cells; see `proxy_accuracies`.

    Args:
        samples: N samples.
        subsets: W subsets.
        bias: add a feature that is 1 everywhere.
        run: of it ``device`` and ``hand_out``.
        name: what the names of its blocks begin with.
    """
    grams = Grams(subsets, samples.width + bias, samples.n_classes, run.device)
    by_cell = VectorsByCell(samples, subsets.cell_n, grams.slot_k)
    values = {"n_classes": samples.n_classes, "bias": bias, "device": run.device}
    blocks = by_cell.blocks(values, f"{name}: sums")
    for sums in run.hand_out("proxy Gram matrices", f"{__name__}:sum_cells", blocks, in_threads=True):
        grams.add(sums)
    positions, rows_bd = by_cell.small_rows()
    if bias:
        rows_bd = np.concatenate([rows_bd, np.ones((len(rows_bd), 1), rows_bd.dtype)], axis=1)
    grams.keep(rows_bd, subsets.cell_n[positions], samples.codes_n[positions])
    return grams


def sum_cells(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, np.ndarray]:
    """Return ``F'F`` and ``F'Y`` of the cells that some samples are in, summed over these.

    Args:
        values: ``n_classes``, ``bias``, ``device``.
        arrays: ``rows`` (B, D) float32, ``codes`` and ``cells`` (B,) int64, of samples by cell.
    Returns:
        ``cells`` (K,) int64, ``ff`` (K, D, D) and ``fy`` (K, D, C) float64.
    Cost:
        2 B D^2.
    """
    import torch

    device, n_classes = resolve_device(values["device"]), values["n_classes"]
    rows = with_bias(tensor_of(arrays["rows"]).to(device), values["bias"])
    edges = np.flatnonzero(np.diff(arrays["cells"], prepend=-1, append=-1))
    ff, fy = [], []
    for start, end in itertools.pairwise(edges):
        rows64 = rows[start:end].to(torch.float64)
        ff.append((rows64.T @ rows64).cpu().numpy())
        fy.append((rows64.T @ one_hot(arrays["codes"][start:end], n_classes, device)).cpu().numpy())
    return {"cells": arrays["cells"][edges[:-1]], "ff": np.stack(ff), "fy": np.stack(fy)}


class Grams:
    """``F'F`` and ``F'Y`` of the large cells, and the rows of the small ones; what subsets are solved from.

    Args:
        subsets: W subsets of K cells.
        width: D, the bias included.
        n_classes: C.
        device: where subsets are solved.
    """

    def __init__(self, subsets: Subsets, width: int, n_classes: int, device: str) -> None:
        import torch

        self.device = resolve_device(device)
        self.subsets, self.width, self.n_classes = subsets, width, n_classes
        sizes_k = subsets.cell_sizes()
        self.sizes_w = subsets.sizes()
        self.large = np.flatnonzero(sizes_k >= width)
        self.slot_k = np.full(len(sizes_k), -1)
        self.slot_k[self.large] = np.arange(len(self.large))
        kind = {"dtype": torch.float64, "device": self.device}
        self.ff = torch.zeros((len(self.large), width, width), **kind)  # type: ignore[call-overload]
        self.fy = torch.zeros((len(self.large), width, n_classes), **kind)  # type: ignore[call-overload]
        self.rows = torch.zeros((0, width), device=self.device)
        self.row_cells = self.row_codes = np.zeros(0, np.int64)

    def add(self, sums: Arrays) -> None:
        """Add what `sum_cells` returned of some samples."""
        for cell, ff, fy in zip(sums["cells"], sums["ff"], sums["fy"], strict=True):
            self.ff[self.slot_k[cell]] += tensor_of(ff).to(self.device)
            self.fy[self.slot_k[cell]] += tensor_of(fy).to(self.device)

    def keep(self, rows_bd: np.ndarray, cells_b: np.ndarray, codes_b: np.ndarray) -> None:
        """Keep the rows of the small cells, by cell."""
        by_cell = np.argsort(cells_b, kind="stable")
        self.rows = tensor_of(rows_bd[by_cell]).to(self.device)
        self.row_cells, self.row_codes = cells_b[by_cell], codes_b[by_cell]

    def total(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``F'F`` (D, D) and ``F'Y`` (D, C) float64 of all samples that are in some subset."""
        import torch

        rows = self.rows.to(torch.float64)
        labels = one_hot(self.row_codes, self.n_classes, self.device)
        return self.ff.sum(dim=0) + rows.T @ rows, self.fy.sum(dim=0) + rows.T @ labels

    def penalties(self, ridge: float, relative: bool, bias: bool) -> torch.Tensor:
        """Return (D,) float64 what is added to the diagonal of ``F'F``.

        Relative: the ridge times the mean squared length of the samples, without the bias, whose own penalty is the ridge: a common factor
        of the vectors then changes no output.
        """
        import torch

        found = torch.full((self.width,), ridge, dtype=torch.float64, device=self.device)
        count = int(self.subsets.cell_sizes().sum())
        if relative and count:
            squares = self.total()[0].diagonal()
            found[: self.width - bias] *= squares[: self.width - bias].sum() / count
        return found

    def solve(self, part: slice, penalties_d: torch.Tensor) -> torch.Tensor:
        """Return (w, D, C) float64 weights of some of the subsets."""
        import torch

        together = max(1, _GRAM_BYTES // (8 * self.width**2))
        starts = range(part.start, part.stop, together)
        return torch.cat([self._solve(slice(s, min(s + together, part.stop)), penalties_d) for s in starts])

    def _solve(self, part: slice, penalties_d: torch.Tensor) -> torch.Tensor:
        import torch

        member_wk = self.subsets.member_wk[part]
        sizes_w = self.sizes_w[part]
        picked = torch.from_numpy(member_wk[:, self.large].astype(np.float64)).to(self.device)
        weights = torch.zeros((len(member_wk), self.width, self.n_classes), dtype=torch.float64, device=self.device)
        primal = np.flatnonzero(sizes_w >= self.width)
        a = (picked[primal] @ self.ff.flatten(1)).unflatten(1, (self.width, self.width))
        b = (picked[primal] @ self.fy.flatten(1)).unflatten(1, (self.width, self.n_classes))
        for place, w in enumerate(primal):
            rows, labels = self._small_rows(member_wk[w])
            if len(rows):
                a[place].addmm_(rows.T, rows)
                b[place].addmm_(rows.T, labels)
        if len(primal):
            a.diagonal(dim1=1, dim2=2).add_(penalties_d)
            weights[torch.from_numpy(primal).to(self.device)] = _solve(a, b)
        least = penalties_d.amin()  # F P^-1 F' + I has the same answer as F F' + ridge I where all penalties are the ridge
        shares_d = least / penalties_d if least > 0 else torch.ones_like(penalties_d)
        for w in np.flatnonzero(sizes_w < self.width):
            rows, labels = self._small_rows(member_wk[w])
            if len(rows):
                shared = rows * shares_d
                kernel = shared @ rows.T
                kernel.diagonal().add_(least)
                weights[w] = shared.T @ _solve(kernel[None], labels[None])[0]
        return weights

    def _small_rows(self, member_k: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        mine = np.flatnonzero(member_k[self.row_cells])
        rows = self.rows[torch.from_numpy(mine).to(self.device)].to(torch.float64)
        return rows, one_hot(self.row_codes[mine], self.n_classes, self.device)


def _solve(a_wdd: torch.Tensor, b_wdc: torch.Tensor) -> torch.Tensor:
    import torch

    factor, info = torch.linalg.cholesky_ex(a_wdd)
    if bool((info != 0).any()):
        raise NumericalError("the proxy's Gram matrix is singular", "pass a larger ridge, as -p ridge=1")
    return torch.cholesky_solve(b_wdc, factor)
