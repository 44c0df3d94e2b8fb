"""How good a selection looks to a linear classifier: ridge regression on it, accuracy on all samples, for many at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prune_cli.core.arrays import VectorBatch
from prune_cli.core.errors import NumericalError
from prune_cli.core.progress import Progress, silent
from prune_cli.engines.engine import Arrays, Block, BlockWork
from prune_cli.methods.devices import resolve_device, tensor_of
from prune_cli.methods.selection.contract import Run
from prune_cli.methods.selection.proxy.grams import Grams, accumulate
from prune_cli.methods.selection.proxy.samples import LabelledVectors, Subsets, block_rows, with_bias

if TYPE_CHECKING:
    import torch

_OUTPUT_NUMBERS = 1 << 22  # outputs that are computed together
_TIE = 1e-10  # outputs this close, relative to the lengths of features and weights, are a tie


def right_counts(
    samples: LabelledVectors, weights_wdc: torch.Tensor, bias: bool, run: Run, name: str = "proxy", judged_n: np.ndarray | None = None
) -> np.ndarray:
    """Return (W,) int64 samples that each of W classifiers gets right; see `count_right`.

    Args:
        samples: N samples.
        weights_wdc: (W, D, C) float64.
        bias: the last of the D is that of a feature that is 1 everywhere.
        run: of it ``device`` and ``hand_out``.
        name: what the names of its blocks begin with.
        judged_n: (N,) bool, the samples that count; None: all.
    """
    import torch

    n_subsets, width, n_classes = weights_wdc.shape
    weights32 = weights_wdc.permute(2, 0, 1).reshape(n_classes * n_subsets, width).to(torch.float32)
    shared = {
        "weights": weights_wdc.cpu().numpy(),
        "weights32": weights32.cpu().numpy(),
        "lengths": weights_wdc.norm(dim=1).amax(dim=1).cpu().numpy(),
    }
    blocks = []
    for number, batch in enumerate(samples.features.batches(block_rows(samples.width), samples.order_n)):
        flops = 2.0 * len(batch.positions) * weights_wdc.numel()
        nbytes = outputs_bytes(len(batch.positions), width, n_classes, n_subsets)
        gather = _labelled(batch, samples.codes_n, judged_n)
        blocks.append(Block(f"{name}: outputs {number}", {"bias": bias, "device": run.device}, gather, nbytes, flops))
    right_w = np.zeros(n_subsets, np.int64)
    for found in run.hand_out("proxy accuracy", f"{__name__}:count_right", blocks, shared=shared, in_threads=True):
        right_w += found["right"]
    return right_w


def outputs_bytes(n_rows: int, width: int, n_classes: int, n_subsets: int) -> int:
    """Return the memory of a block of so many rows, the weights of all classifiers among it."""
    weights, outputs = 12 * width * n_classes * n_subsets, 16 * max(_OUTPUT_NUMBERS, 256 * n_classes * n_subsets)
    return weights + outputs + 24 * n_rows * width


def _labelled(batch: VectorBatch, codes_n: np.ndarray, judged_n: np.ndarray | None = None) -> Callable[[], Arrays]:
    judged = {} if judged_n is None else {"judged": judged_n[batch.positions]}
    return lambda: {"rows": batch.read(), "codes": codes_n[batch.positions], **judged}


def count_right(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, np.ndarray]:
    """Return how many of some samples each of several classifiers gets right.

    Args:
        values: ``bias``, ``device``.
        arrays: ``rows`` (B, D) float32 and ``codes`` (B,) int64; ``judged`` (B,) bool, the samples that count, where not all do;
            ``weights`` (W, D, C) float64, the same as ``weights32`` (C W, D) float32, and ``lengths`` (W,), the largest length of a
            class's weights.
        progress: told nothing: a block is small.
    Returns:
        ``right`` (W,) int64.
    Cost:
        2 B D C W.
    """
    import torch

    device = resolve_device(values["device"])
    weights_wdc, weights32, lengths_w = (tensor_of(arrays[name]).to(device) for name in ("weights", "weights32", "lengths"))
    n_subsets, width, n_classes = weights_wdc.shape
    # Any order of summation in float32 errs by less than this, relative to the lengths; twice, for two outputs.
    unit = 2.0 * (width + 2) * 2.0**-24
    right = torch.zeros(n_subsets, dtype=torch.int64, device=device)
    counts = tensor_of(arrays["judged"]).to(device) if "judged" in arrays else None
    rows, codes_b = tensor_of(arrays["rows"]).to(device), tensor_of(arrays["codes"]).to(device)
    height = max(256, _OUTPUT_NUMBERS // (n_classes * n_subsets))
    for start in range(0, len(rows), height):
        block, codes = with_bias(rows[start : start + height], values["bias"]), codes_b[start : start + height]
        gap = _gap((weights32 @ block.T).view(n_classes, n_subsets, len(codes)), codes)
        block64 = block.to(torch.float64)
        bound = torch.outer(lengths_w, block64.norm(dim=1))
        if counts is not None:
            gap[:, ~counts[start : start + height]] = -torch.inf
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


def _gap(outputs_cwb: torch.Tensor, codes_b: torch.Tensor) -> torch.Tensor:
    """Return (w, B): the output of the label's class less the largest other one; the outputs are overwritten."""
    import torch

    samples = torch.arange(len(codes_b), device=codes_b.device)
    own_bw = outputs_cwb[codes_b, :, samples]
    outputs_cwb[codes_b, :, samples] = -torch.inf
    return own_bw.T - outputs_cwb.amax(dim=0)


_WEIGHT_BYTES = 512 * 2**20  # weights of subsets whose outputs share a pass over the features


RIDGE = 0.05
"""Penalty of the squared weights in units of the mean squared length of the vectors, where nobody says another."""


@dataclass(frozen=True)
class Proxy:
    """A linear classifier.

    Args:
        ridge: penalty of the squared weights, 0 or more.
        bias: add a feature that is 1 everywhere, penalised as the others.
        name: what the names of its blocks of work begin with.
        relative: the ridge is in units of the mean squared length of the vectors.
        confirmed: judge it by the samples whose label the others predict, instead of by all.
    """

    ridge: float = 1.0
    bias: bool = False
    name: str = "proxy"
    relative: bool = False
    confirmed: bool = False


def proxy_accuracies(samples: LabelledVectors, subset_lists: Sequence[Subsets], proxy: Proxy, run: Run) -> list[np.ndarray]:
    r"""Return the share of samples that the ridge classifier of each subset gets right.

    ``W_S = (F_S' F_S + ridge I)^-1 F_S' Y_S`` with one-hot Y, class = largest output. The samples are cut in cells; each
    cell's ``F'F`` and ``F'Y`` are accumulated once, in float64, and a subset's are sums of its cells': nothing is
    subtracted, so no digits are lost. Subsets smaller than D are solved by ``F_S' (F_S F_S' + ridge I)^-1 Y_S`` from their
    rows. Outputs are float32 products; where the two largest are closer than rounding could have moved them, they are
    computed again in float64, so that every count is that of float64 arithmetic.

    Args:
        samples: N samples of C classes, whose vectors of D numbers are read twice for each list, and once more with ``confirmed``.
        subset_lists: lists of subsets, each with cells of its own, the first of which holds all samples in its cells.
        proxy: the classifier, and by which samples it is judged.
        run: of it ``device``, where products run, and ``hand_out``, which gets blocks of all passes, some rows each.
    Returns:
        For each list (W,) float64, 0 to 1. A tie of the label's class with another is not right.
    Raises:
        NumericalError: a subset's Gram matrix is singular, with a ridge of 0.
    Cost:
        For each list one pass of N D^2 for the cells, W (D^3 / 3 + K D^2) for the solutions, 2 N D C W for the outputs. K matrices of
        D x D float64, less where cells are smaller than D. With ``confirmed`` 2 N D^2 more.
    Source:
        The proxy of Choi, Ki, Chung, ICML 2024, arXiv:2406.03057. Deviations: cells in place of one fit a window; it may be judged by
        confirmed samples alone (see `confirmed_samples`).
    """
    name = f"{proxy.name} of {'sorted' if samples.features.ordered else 'stored'} rows"
    judged_n: np.ndarray | None = None
    found = []
    for number, subsets in enumerate(subset_lists):
        named = name if number == 0 else f"{name}, list {number}"
        grams = accumulate(samples, subsets, proxy.bias, run, named)
        penalties_d = grams.penalties(proxy.ridge, proxy.relative, proxy.bias)
        if proxy.confirmed and number == 0:
            judged_n = confirmed_samples(samples, grams, penalties_d, proxy.bias, run, named)
        right_w = np.zeros(len(subsets), np.int64)
        together = _subsets_together(grams.width, grams.n_classes)
        for start in range(0, len(subsets), together):
            part = slice(start, min(start + together, len(subsets)))
            weights_wdc = grams.solve(part, penalties_d)
            right_w[part] = right_counts(samples, weights_wdc, proxy.bias, run, f"{named}: {start}", judged_n)
        found.append(right_w / max(1, samples.features.shape[0] if judged_n is None else int(judged_n.sum())))
    return found


def confirmed_samples(samples: LabelledVectors, grams: Grams, penalties_d: torch.Tensor, bias: bool, run: Run, name: str) -> np.ndarray:
    """Return (N,) bool, the samples whose label a ridge classifier fitted to all others predicts; all, where it predicts none.

    With ``A = F'F + ridge I``, ``h_i = f_i' A^-1 f_i`` and outputs ``o_i = f_i' A^-1 F'Y``, that of the classifier without sample i is
    ``(o_i - h_i Y_i) / (1 - h_i)``: one factorisation serves all.

    Raises:
        NumericalError: A is singular, with a ridge of 0.
    """
    import torch

    a_dd, b_dc = grams.total()
    a_dd.diagonal().add_(penalties_d)
    factor, info = torch.linalg.cholesky_ex(a_dd)
    if int(info):
        raise NumericalError("the proxy's Gram matrix is singular", "pass a larger ridge, as -p ridge=0.01")
    shared = {
        "root": torch.linalg.solve_triangular(factor, torch.eye(len(factor), dtype=factor.dtype, device=factor.device), upper=False)
        .cpu()
        .numpy(),
        "weights": torch.cholesky_solve(b_dc, factor).cpu().numpy(),
    }
    values = {"bias": bias, "device": run.device}
    batches = samples.features.batches(block_rows(samples.width), samples.order_n)
    blocks = [
        Block(
            f"{name}: confirmed {number}",
            values,
            _labelled(batch, samples.codes_n),
            16 * len(batch.positions) * grams.width,
            2.0 * len(batch.positions) * grams.width**2,
        )
        for number, batch in enumerate(batches)
    ]
    confirmed_n = np.zeros(samples.features.shape[0], bool)
    answers = run.hand_out("confirmed samples", f"{__name__}:leave_one_out", blocks, shared=shared, in_threads=True)
    for batch, answer in zip(batches, answers, strict=True):
        confirmed_n[batch.positions] = answer["confirmed"]
    return confirmed_n if confirmed_n.any() else ~confirmed_n


def leave_one_out(values: Mapping[str, Any], arrays: Arrays, progress: Progress = silent) -> dict[str, np.ndarray]:
    """Return which of some samples have a label that the classifier without them gives the largest output.

    Args:
        values: ``bias``, ``device``.
        arrays: ``rows`` (B, D) float32 and ``codes`` (B,) int64; ``root`` (D, D) the inverse of the Cholesky factor of A, ``weights``
            (D, C) float64.
    Returns:
        ``confirmed`` (B,) bool.
    Cost:
        2 B D^2, in float64.
    """
    import torch

    device = resolve_device(values["device"])
    rows = with_bias(tensor_of(arrays["rows"]).to(device), values["bias"]).to(torch.float64)
    root, weights = (tensor_of(arrays[name]).to(device) for name in ("root", "weights"))
    own_b = (rows @ root.T).square().sum(dim=1)
    outputs_bc, codes = rows @ weights, tensor_of(arrays["codes"]).to(device)[:, None]
    given_b = outputs_bc.gather(1, codes)[:, 0] - own_b
    others_b = outputs_bc.scatter(1, codes, -torch.inf).amax(dim=1)
    return {"confirmed": (given_b > others_b).cpu().numpy()}


def confirming_work(n_samples: int, width: int) -> BlockWork:
    """Return what the blocks of `confirmed_samples` come to."""
    rows = min(n_samples, block_rows(width))
    return BlockWork(-(-n_samples // max(1, rows)), 24 * rows * width, 2.0 * n_samples * width**2)


def proxy_work(n_samples: int, width: int, n_classes: int, n_subsets: int) -> BlockWork:
    """Return what the blocks of so many subsets' classifiers come to, one for each cell's sums aside."""
    rows = min(n_samples, block_rows(width))
    blocks = -(-n_samples // max(1, rows))
    sums = BlockWork(blocks, 16 * rows * width + 16 * (width + 1) ** 2, 2.0 * n_samples * width**2)
    group = min(n_subsets, _subsets_together(width, n_classes))
    nbytes = outputs_bytes(rows, width, n_classes, group)
    outputs = BlockWork(blocks * -(-n_subsets // group), nbytes, 2.0 * n_samples * width * n_classes * n_subsets)
    return sums + outputs


def _subsets_together(width: int, n_classes: int) -> int:
    return max(1, _WEIGHT_BYTES // (8 * width * n_classes))
