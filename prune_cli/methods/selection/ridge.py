"""How good a selection looks to a linear classifier: ridge regression on it, accuracy on all samples, for many at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prune_cli.core.errors import NumericalError
from prune_cli.core.progress import Progress, silent
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.selection.candidates import Features

if TYPE_CHECKING:
    import torch

_BLOCK_NUMBERS = 1 << 24  # numbers in a block of features, and in a block of outputs
_GRAM_BYTES = 256 * 2**20  # Gram matrices that are solved together
_WEIGHT_BYTES = 512 * 2**20  # weights of subsets whose outputs share a pass over the features
_TIE = 1e-10  # outputs this close, relative to the lengths of features and weights, are a tie


@dataclass(frozen=True)
class Subsets:
    """Subsets of the samples, as unions of cells that do not overlap.

    Args:
        cell_n: (N,) int64 cell of each sample, -1 for samples that are in no subset.
        member_wk: (W, K) bool, the cells that each of the W subsets is made of.
    """

    cell_n: np.ndarray
    member_wk: np.ndarray

    def sizes(self) -> np.ndarray:
        """Return (W,) int64 samples in each subset."""
        sizes: np.ndarray = self.member_wk.astype(np.int64) @ self.cell_sizes()
        return sizes

    def cell_sizes(self) -> np.ndarray:
        """Return (K,) int64 samples in each cell."""
        return np.bincount(self.cell_n[self.cell_n >= 0], minlength=self.member_wk.shape[1])


def subsets_of(member_wn: np.ndarray) -> Subsets:
    """Return subsets given sample by sample: samples that are in the same ones share a cell.

    Args:
        member_wn: (W, N) bool.
    Example:
        >>> found = subsets_of(np.array([[True, True, False], [True, True, True]]))
        >>> len(np.unique(found.cell_n)), found.sizes().tolist()
        (2, [2, 3])
    """
    packed = np.packbits(member_wn, axis=0).T
    rows = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, cell_n = np.unique(rows, return_index=True, return_inverse=True)
    return Subsets(cell_n.astype(np.int64), member_wn[:, first])


def ridge_right_counts(
    features: Features,
    codes_n: np.ndarray,
    subsets: Subsets,
    *,
    order_n: np.ndarray | None = None,
    ridge: float = 1.0,
    bias: bool = False,
    device: str = "auto",
    progress: Progress = silent,
) -> np.ndarray:
    r"""Return how many of ALL samples the ridge classifier of each subset gets right.

    ``W_S = (F_S' F_S + ridge I)^-1 F_S' Y_S`` with one-hot Y, class = largest output. The samples are cut in cells; each
    cell's ``F'F`` and ``F'Y`` are accumulated once, in float64, and a subset's are sums of its cells': nothing is
    subtracted, so no digits are lost. Subsets smaller than D are solved by ``F_S' (F_S F_S' + ridge I)^-1 Y_S`` from their
    rows. Outputs are float32 products; where the two largest are closer than rounding could have moved them, they are
    computed again in float64, so that every count is that of float64 arithmetic.

    Args:
        features: N vectors of D numbers; read twice.
        codes_n: (N,) int64 class of each sample, 0 to C - 1.
        subsets: W subsets.
        order_n: (N,) int64 order to read the features in, by cell where it can be; None: as they come.
        ridge: 0 or more.
        bias: add a feature that is 1 everywhere, penalised as the others.
        device: where the products run.
        progress: told of both passes.
    Returns:
        (W,) int64. A tie of the label's class with another is not right.
    Raises:
        NumericalError: a subset's Gram matrix is singular, with a ridge of 0.
    Cost:
        One pass of N D^2 for the cells, W (D^3 / 3 + K D^2) for the solutions, 2 N D C W for the outputs. K matrices of D x D
        float64, less where cells are smaller than D.
    Source:
        The proxy of Choi, Ki, Chung, ICML 2024, arXiv:2406.03057. Deviation: cells in place of one fit a window.
    """
    if order_n is None:
        order_n = np.argsort(subsets.cell_n, kind="stable")
    grams = _accumulate(features, codes_n, subsets, order_n, bias, device, progress)
    n_subsets = len(subsets.member_wk)
    right_w = np.zeros(n_subsets, np.int64)
    together = max(1, _WEIGHT_BYTES // (8 * grams.width * grams.n_classes))
    for start in range(0, n_subsets, together):
        part = slice(start, min(start + together, n_subsets))
        weights_wdc = grams.solve(part, ridge)
        right_w[part] = _count_right(features, codes_n, weights_wdc, order_n, bias, part, n_subsets, progress)
    return right_w


def _blocks(features: Features, order_n: np.ndarray, bias: bool, rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for positions, rows_bd in features.blocks(rows, order_n):
        if bias:
            rows_bd = np.concatenate([rows_bd, np.ones((len(rows_bd), 1), rows_bd.dtype)], axis=1)
        yield positions, rows_bd


class _Grams:
    """``F'F`` and ``F'Y`` of the large cells, and the rows of the small ones."""

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
        self.rows: list[torch.Tensor] = []
        self.row_cells: list[np.ndarray] = []
        self.row_codes: list[np.ndarray] = []

    def add(self, cell: int, rows_bd: torch.Tensor, codes_b: np.ndarray) -> None:
        import torch

        slot = int(self.slot_k[cell])
        if slot < 0:
            self.rows.append(rows_bd)
            self.row_cells.append(np.full(len(codes_b), cell))
            self.row_codes.append(codes_b)
            return
        rows64 = rows_bd.to(torch.float64)
        self.ff[slot].addmm_(rows64.T, rows64)
        self.fy[slot].addmm_(rows64.T, self._one_hot(codes_b))

    def _one_hot(self, codes_b: np.ndarray) -> torch.Tensor:
        import torch

        codes = torch.from_numpy(codes_b).to(self.device)
        return torch.nn.functional.one_hot(codes, self.n_classes).to(torch.float64)

    def finish(self) -> None:
        """Put the rows of the small cells together, by cell."""
        import torch

        if self.rows:
            cells = np.concatenate(self.row_cells)
            by_cell = np.argsort(cells, kind="stable")
            rows = torch.cat(self.rows)
            self.rows = [rows[torch.from_numpy(by_cell).to(self.device)]]
            self.row_cells = [cells[by_cell]]
            self.row_codes = [np.concatenate(self.row_codes)[by_cell]]

    def solve(self, part: slice, ridge: float) -> torch.Tensor:
        """Return (w, D, C) float64 weights of some of the subsets."""
        import torch

        together = max(1, _GRAM_BYTES // (8 * self.width**2))
        starts = range(part.start, part.stop, together)
        return torch.cat([self._solve(slice(s, min(s + together, part.stop)), ridge) for s in starts])

    def _solve(self, part: slice, ridge: float) -> torch.Tensor:
        import torch

        member_wk = self.subsets.member_wk[part]
        sizes_w = self.sizes_w[part]
        picked = torch.from_numpy(member_wk[:, self.large].astype(np.float64)).to(self.device)
        weights = torch.zeros((len(member_wk), self.width, self.n_classes), dtype=torch.float64, device=self.device)
        primal = np.flatnonzero(sizes_w >= self.width)
        a = (picked[primal] @ self.ff.flatten(1)).unflatten(1, (self.width, self.width))
        b = (picked[primal] @ self.fy.flatten(1)).unflatten(1, (self.width, self.n_classes))
        for place, w in enumerate(primal):
            rows, codes = self._small_rows(member_wk[w])
            if len(codes):
                a[place].addmm_(rows.T, rows)
                b[place].addmm_(rows.T, self._one_hot(codes))
        if len(primal):
            a.diagonal(dim1=1, dim2=2).add_(ridge)
            weights[torch.from_numpy(primal).to(self.device)] = _solve(a, b)
        for w in np.flatnonzero(sizes_w < self.width):
            rows, codes = self._small_rows(member_wk[w])
            if len(codes):
                kernel = rows @ rows.T
                kernel.diagonal().add_(ridge)
                weights[w] = rows.T @ _solve(kernel[None], self._one_hot(codes)[None])[0]
        return weights

    def _small_rows(self, member_k: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        import torch

        if not self.rows:
            return torch.zeros((0, self.width), dtype=torch.float64), np.zeros(0, np.int64)
        mine = np.flatnonzero(member_k[self.row_cells[0]])
        return self.rows[0][torch.from_numpy(mine).to(self.device)].to(torch.float64), self.row_codes[0][mine]


def _solve(a_wdd: torch.Tensor, b_wdc: torch.Tensor) -> torch.Tensor:
    import torch

    factor, info = torch.linalg.cholesky_ex(a_wdd)
    if bool((info != 0).any()):
        raise NumericalError("the proxy's Gram matrix is singular", "pass a larger ridge, as -p ridge=1")
    return torch.cholesky_solve(b_wdc, factor)


def _accumulate(
    features: Features,
    codes_n: np.ndarray,
    subsets: Subsets,
    order_n: np.ndarray,
    bias: bool,
    device: str,
    progress: Progress,
) -> _Grams:
    import torch

    width, n_classes = features.shape[1] + bias, int(codes_n.max()) + 1
    grams = _Grams(subsets, width, n_classes, device)
    done, rows = 0, max(1024, _BLOCK_NUMBERS // width)
    for positions, rows_bd in _blocks(features, order_n, bias, rows):
        cells = subsets.cell_n[positions]
        if (np.diff(cells) < 0).any():
            by_cell = np.argsort(cells, kind="stable")
            positions, rows_bd, cells = positions[by_cell], rows_bd[by_cell], cells[by_cell]
        codes_b = codes_n[positions]
        block = torch.from_numpy(rows_bd).to(grams.device)
        edges = np.flatnonzero(np.r_[True, cells[1:] != cells[:-1], True])
        for start, end in itertools.pairwise(edges):
            if cells[start] >= 0:
                grams.add(int(cells[start]), block[start:end], codes_b[start:end])
        done += len(positions)
        progress("proxy Gram matrices", done, len(order_n))
    grams.finish()
    return grams


def _count_right(
    features: Features,
    codes_n: np.ndarray,
    weights_wdc: torch.Tensor,
    order_n: np.ndarray,
    bias: bool,
    part: slice,
    of: int,
    progress: Progress,
) -> np.ndarray:
    """Return (w,) int64 samples each of the classifiers gets right."""
    import torch

    n_subsets, width, n_classes = weights_wdc.shape
    device = weights_wdc.device
    weights32 = weights_wdc.permute(2, 0, 1).reshape(n_classes * n_subsets, width).to(torch.float32)
    lengths_w = weights_wdc.norm(dim=1).amax(dim=1)  # the longest class weight of each
    # Any order of summation in float32 errs by less than this, relative to the lengths; twice, for two outputs.
    unit = 2.0 * (width + 2) * 2.0**-24
    right = torch.zeros(n_subsets, dtype=torch.int64, device=device)
    rows, done = max(256, _BLOCK_NUMBERS // max(width, n_classes * n_subsets)), 0
    for positions, rows_bd in _blocks(features, order_n, bias, rows):
        block = torch.from_numpy(rows_bd).to(device)
        codes = torch.from_numpy(codes_n[positions]).to(device)
        outputs_cwb = (weights32 @ block.T.to(torch.float32)).view(n_classes, n_subsets, len(positions))
        gap = _gap(outputs_cwb, codes)
        block64 = block.to(torch.float64)
        bound = torch.outer(lengths_w, block64.norm(dim=1))
        unsure = gap.abs() <= bound * unit
        right += ((gap > 0) & ~unsure).sum(dim=1)
        which, samples = unsure.nonzero(as_tuple=True)
        if len(which):
            edges = torch.searchsorted(which, torch.arange(n_subsets + 1, device=device)).tolist()
            for w in torch.unique(which).tolist():
                mine = samples[edges[w] : edges[w + 1]]
                exact_cb = (block64[mine] @ weights_wdc[w]).T.contiguous()
                exact_gap = _gap(exact_cb[:, None, :], codes[mine])[0]
                right[w] += (exact_gap > bound[w, mine] * _TIE).sum()
        done += len(positions)
        share = part.start + (part.stop - part.start) * done / len(order_n)
        progress("proxy accuracy", math.floor(100 * share / of), 100)
    return right.cpu().numpy()


def _gap(outputs_cwb: torch.Tensor, codes_b: torch.Tensor) -> torch.Tensor:
    """Return (w, B): the output of the label's class less the largest other one; the outputs are overwritten."""
    import torch

    samples = torch.arange(len(codes_b), device=codes_b.device)
    own_bw = outputs_cwb[codes_b, :, samples]
    outputs_cwb[codes_b, :, samples] = -torch.inf
    return own_bw.T - outputs_cwb.amax(dim=0)
