"""How good a selection looks to a linear classifier: ridge regression on it, accuracy on all samples, for many at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prune_cli.core.errors import NumericalError
from prune_cli.core.parts import Part
from prune_cli.core.progress import Progress, silent
from prune_cli.engines.block import Arrays, Block, BlockWork
from prune_cli.engines.handout import MapBlocks, blocks_here
from prune_cli.methods.devices import resolve_device, tensor_of
from prune_cli.methods.selection.contract import Features

if TYPE_CHECKING:
    import torch

_BLOCK_NUMBERS = 1 << 23  # numbers in a block of features
_OUTPUT_NUMBERS = 1 << 22  # outputs that are computed together
_SORTED_NUMBERS = 1 << 25  # numbers of features in a file that are sorted at a time, at most
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
    map_blocks: MapBlocks | None = None,
    name: str = "proxy",
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
        progress: told of both passes, where no ``map_blocks`` is given.
        map_blocks: hands out blocks of both passes, some rows each; None: they run here.
        name: what their names begin with.
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
    hand_out = map_blocks or blocks_here(progress, resolve_device(device).type == "cpu")
    if order_n is None:
        order_n = np.argsort(subsets.cell_n, kind="stable")
    name = f"{name} of {'sorted' if features.ordered else 'stored'} rows"
    n_classes = int(codes_n.max(initial=0)) + 1
    grams = accumulate(features, codes_n, subsets, order_n, n_classes, bias, device, hand_out, name)
    n_subsets = len(subsets.member_wk)
    right_w = np.zeros(n_subsets, np.int64)
    together = max(1, _WEIGHT_BYTES // (8 * grams.width * n_classes))
    for start in range(0, n_subsets, together):
        part = slice(start, min(start + together, n_subsets))
        weights_wdc = grams.solve(part, ridge)
        right_w[part] = _count_right(
            features, codes_n, weights_wdc, order_n, bias, device, hand_out, f"{name}: {start}"
        )
    return right_w


def proxy_work(n_samples: int, width: int, n_classes: int, n_subsets: int) -> BlockWork:
    """Return what the blocks of so many subsets' classifiers come to, one for each cell's sums aside."""
    rows = min(n_samples, _block_rows(width))
    blocks = -(-n_samples // max(1, rows))
    sums = BlockWork(blocks, 16 * rows * width + 16 * (width + 1) ** 2, 2.0 * n_samples * width**2)
    group = min(n_subsets, max(1, _WEIGHT_BYTES // (8 * width * n_classes)))
    nbytes = _outputs_bytes(rows, width, n_classes, group)
    outputs = BlockWork(blocks * -(-n_subsets // group), nbytes, 2.0 * n_samples * width * n_classes * n_subsets)
    return sums + outputs


def sum_cells(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, np.ndarray]:
    """Return ``F'F`` and ``F'Y`` of the cells that some samples are in, summed over these.

    Args:
        values: ``n_classes``, ``bias``, ``device``.
        arrays: ``rows`` (B, D) float32, ``codes`` and ``cells`` (B,) int64, of samples by cell.
        progress: told nothing: a block is small.
    Returns:
        ``cells`` (K,) int64, ``ff`` (K, D, D) and ``fy`` (K, D, C) float64.
    Cost:
        2 B D^2.
    """
    import torch

    device, n_classes = resolve_device(values["device"]), values["n_classes"]
    rows = _with_bias(tensor_of(arrays["rows"]).to(device), values["bias"])
    edges = np.flatnonzero(np.diff(arrays["cells"], prepend=-1, append=-1))
    ff, fy = [], []
    for start, end in itertools.pairwise(edges):
        rows64 = rows[start:end].to(torch.float64)
        ff.append((rows64.T @ rows64).cpu().numpy())
        fy.append((rows64.T @ _one_hot(arrays["codes"][start:end], n_classes, device)).cpu().numpy())
    return {"cells": arrays["cells"][edges[:-1]], "ff": np.stack(ff), "fy": np.stack(fy)}


def count_right(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, np.ndarray]:
    """Return how many of some samples each of several classifiers gets right.

    Args:
        values: ``bias``, ``device``.
        arrays: ``rows`` (B, D) float32 and ``codes`` (B,) int64; ``weights`` (W, D, C) float64, the same as ``weights32`` (C W, D) float32,
            and ``lengths`` (W,), the largest length of a class's weights.
        progress: told nothing: a block is small.
    Returns:
        ``right`` (W,) int64.
    Cost:
        2 B D C W.
    """
    import torch

    device = resolve_device(values["device"])
    weights_wdc, weights32, lengths_w = (
        tensor_of(arrays[name]).to(device) for name in ("weights", "weights32", "lengths")
    )
    n_subsets, width, n_classes = weights_wdc.shape
    # Any order of summation in float32 errs by less than this, relative to the lengths; twice, for two outputs.
    unit = 2.0 * (width + 2) * 2.0**-24
    right = torch.zeros(n_subsets, dtype=torch.int64, device=device)
    rows, codes_b = tensor_of(arrays["rows"]).to(device), tensor_of(arrays["codes"]).to(device)
    height = max(256, _OUTPUT_NUMBERS // (n_classes * n_subsets))
    for start in range(0, len(rows), height):
        block, codes = _with_bias(rows[start : start + height], values["bias"]), codes_b[start : start + height]
        gap = _gap((weights32 @ block.T).view(n_classes, n_subsets, len(codes)), codes)
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
    return {"right": right.cpu().numpy()}


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
            rows, one_hot = self._small_rows(member_wk[w])
            if len(rows):
                a[place].addmm_(rows.T, rows)
                b[place].addmm_(rows.T, one_hot)
        if len(primal):
            a.diagonal(dim1=1, dim2=2).add_(ridge)
            weights[torch.from_numpy(primal).to(self.device)] = _solve(a, b)
        for w in np.flatnonzero(sizes_w < self.width):
            rows, one_hot = self._small_rows(member_wk[w])
            if len(rows):
                kernel = rows @ rows.T
                kernel.diagonal().add_(ridge)
                weights[w] = rows.T @ _solve(kernel[None], one_hot[None])[0]
        return weights

    def _small_rows(self, member_k: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        mine = np.flatnonzero(member_k[self.row_cells])
        rows = self.rows[torch.from_numpy(mine).to(self.device)].to(torch.float64)
        return rows, _one_hot(self.row_codes[mine], self.n_classes, self.device)


def accumulate(
    features: Features,
    codes_n: np.ndarray,
    subsets: Subsets,
    order_n: np.ndarray,
    n_classes: int,
    bias: bool,
    device: str,
    hand_out: MapBlocks,
    name: str = "proxy",
) -> Grams:
    """Return the sums of the cells; see `ridge_right_counts`."""
    grams = Grams(subsets, features.shape[1] + bias, n_classes, device)
    by_cell = _ByCell(features, subsets.cell_n, order_n, grams.slot_k)
    blocks = by_cell.blocks(codes_n, {"n_classes": n_classes, "bias": bias, "device": device}, f"{name}: sums")
    for sums in hand_out("proxy Gram matrices", f"{__name__}:sum_cells", blocks, in_threads=True):
        grams.add(sums)
    positions, rows_bd = by_cell.small_rows()
    if bias:
        rows_bd = np.concatenate([rows_bd, np.ones((len(rows_bd), 1), rows_bd.dtype)], axis=1)
    grams.keep(rows_bd, subsets.cell_n[positions], codes_n[positions])
    return grams


class _ByCell:
    """Vectors sorted by cell, of all samples or, where they stay in a file, of as many as are sorted at a time.

    Args:
        features: of N samples.
        cell_n: (N,) int64, -1 for samples of no cell.
        order_n: (N,) the samples by cell.
        slot_k: (K,) less than 0 for cells whose rows are kept in place of their sums.
    """

    def __init__(self, features: Features, cell_n: np.ndarray, order_n: np.ndarray, slot_k: np.ndarray) -> None:
        self._width, self._cell_n = features.shape[1], cell_n
        self._rows = _block_rows(self._width)
        together = self._rows
        if not features.ordered:  # so many that what is of one cell is about as large as its sums
            together = max(together, min(_SORTED_NUMBERS // self._width, 4 * len(slot_k) * self._width))
        self._parts = features.parts(together, order_n)
        self._large, self._small = [], []  # places in each part, by cell
        for part in self._parts:
            cells = cell_n[part.positions]
            places = np.argsort(cells, kind="stable")
            places = places[cells[places] >= 0]
            is_large = slot_k[cells[places]] >= 0
            self._large.append(places[is_large])
            self._small.append(places[~is_large])
        self._kept: dict[int, np.ndarray] = {}

    def blocks(self, codes_n: np.ndarray, values: dict[str, Any], name: str) -> list[Block]:
        """Return blocks of rows of large cells for `sum_cells`."""
        found = []
        for number, (part, large) in enumerate(zip(self._parts, self._large, strict=True)):
            for start in range(0, len(large), self._rows):
                places = large[start : start + self._rows]
                here = part.positions[places]
                n_rows, n_sums = len(here), len(np.unique(self._cell_n[here])) * (self._width + 1) ** 2
                found.append(
                    Block(
                        f"{name} {number}/{start}", values, self._gatherer(number, places, codes_n),
                        16 * n_rows * self._width + 16 * n_sums, 2.0 * n_rows * self._width**2,
                        kept=8 * n_sums <= 4 * n_rows * self._width,
                    )
                )  # fmt: skip
        return found

    def small_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the samples of small cells and their vectors; parts that no block was gathered from are read now."""
        for number, small in enumerate(self._small):
            if len(small) and number not in self._kept:
                self._read(number)
        numbers = sorted(self._kept)
        positions = [self._parts[n].positions[self._small[n]] for n in numbers]
        empty = np.zeros(0, np.int64), np.zeros((0, self._width), np.float32)
        return np.concatenate([empty[0], *positions]), np.concatenate([empty[1], *(self._kept[n] for n in numbers)])

    def _gatherer(self, number: int, places: np.ndarray, codes_n: np.ndarray) -> Callable[[], Arrays]:
        def gather() -> Arrays:
            here = self._parts[number].positions[places]
            rows = self._read(number)
            sorted_already = len(places) == len(rows) and bool((np.diff(places) == 1).all())
            return {
                "rows": rows if sorted_already else rows[places],
                "codes": codes_n[here],
                "cells": self._cell_n[here],
            }

        return gather

    def _read(self, number: int) -> np.ndarray:
        rows = self._parts[number].read()
        if len(self._small[number]) and number not in self._kept:
            self._kept[number] = rows[self._small[number]]
        return rows


def _count_right(
    features: Features,
    codes_n: np.ndarray,
    weights_wdc: torch.Tensor,
    order_n: np.ndarray,
    bias: bool,
    device: str,
    hand_out: MapBlocks,
    name: str,
) -> np.ndarray:
    """Return (w,) int64 samples each of the classifiers gets right."""
    import torch

    n_subsets, width, n_classes = weights_wdc.shape
    weights32 = weights_wdc.permute(2, 0, 1).reshape(n_classes * n_subsets, width).to(torch.float32)
    shared = {
        "weights": weights_wdc.cpu().numpy(),
        "weights32": weights32.cpu().numpy(),
        "lengths": weights_wdc.norm(dim=1).amax(dim=1).cpu().numpy(),
    }
    blocks = []
    for number, part in enumerate(features.parts(_block_rows(features.shape[1]), order_n)):
        flops = 2.0 * len(part.positions) * weights_wdc.numel()
        nbytes = _outputs_bytes(len(part.positions), width, n_classes, n_subsets)
        gather = _labelled(part, codes_n)
        blocks.append(Block(f"{name}: outputs {number}", {"bias": bias, "device": device}, gather, nbytes, flops))
    right_w = np.zeros(n_subsets, np.int64)
    for found in hand_out("proxy accuracy", f"{__name__}:count_right", blocks, shared=shared, in_threads=True):
        right_w += found["right"]
    return right_w


def _outputs_bytes(n_rows: int, width: int, n_classes: int, n_subsets: int) -> int:
    weights, outputs = 12 * width * n_classes * n_subsets, 16 * max(_OUTPUT_NUMBERS, 256 * n_classes * n_subsets)
    return weights + outputs + 24 * n_rows * width


def _labelled(part: Part, codes_n: np.ndarray) -> Callable[[], Arrays]:
    return lambda: {"rows": part.read(), "codes": codes_n[part.positions]}


def _block_rows(width: int) -> int:
    """Return the rows of a block: enough that its sums are smaller than itself."""
    return max(_BLOCK_NUMBERS // width, 4 * width)


def _solve(a_wdd: torch.Tensor, b_wdc: torch.Tensor) -> torch.Tensor:
    import torch

    factor, info = torch.linalg.cholesky_ex(a_wdd)
    if bool((info != 0).any()):
        raise NumericalError("the proxy's Gram matrix is singular", "pass a larger ridge, as -p ridge=1")
    return torch.cholesky_solve(b_wdc, factor)


def _with_bias(rows: torch.Tensor, bias: bool) -> torch.Tensor:
    import torch

    return torch.cat([rows, rows.new_ones((len(rows), 1))], dim=1) if bias else rows


def _one_hot(codes_b: np.ndarray, n_classes: int, device: torch.device) -> torch.Tensor:
    import torch

    codes = tensor_of(codes_b).to(device)
    return torch.nn.functional.one_hot(codes, n_classes).to(torch.float64)


def _gap(outputs_cwb: torch.Tensor, codes_b: torch.Tensor) -> torch.Tensor:
    """Return (w, B): the output of the label's class less the largest other one; the outputs are overwritten."""
    import torch

    samples = torch.arange(len(codes_b), device=codes_b.device)
    own_bw = outputs_cwb[codes_b, :, samples]
    outputs_cwb[codes_b, :, samples] = -torch.inf
    return own_bw.T - outputs_cwb.amax(dim=0)
