"""How good a selection looks to a linear classifier: ridge regression on it, accuracy on all samples, for many at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prune_cli.engines.block import BlockWork
from prune_cli.methods.selection.contract import Run
from prune_cli.methods.selection.proxy.grams import accumulate
from prune_cli.methods.selection.proxy.outputs import outputs_bytes, right_counts
from prune_cli.methods.selection.proxy.samples import LabelledVectors, block_rows
from prune_cli.methods.selection.proxy.subsets import Subsets

_WEIGHT_BYTES = 512 * 2**20  # weights of subsets whose outputs share a pass over the features


@dataclass(frozen=True)
class Proxy:
    """A linear classifier.

    Args:
        ridge: penalty of the squared weights, 0 or more.
        bias: add a feature that is 1 everywhere, penalised as the others.
        name: what the names of its blocks of work begin with.
    """

    ridge: float = 1.0
    bias: bool = False
    name: str = "proxy"


def ridge_right_counts(samples: LabelledVectors, subsets: Subsets, proxy: Proxy, run: Run) -> np.ndarray:
    r"""Return how many of ALL samples the ridge classifier of each subset gets right.

    ``W_S = (F_S' F_S + ridge I)^-1 F_S' Y_S`` with one-hot Y, class = largest output. The samples are cut in cells; each
    cell's ``F'F`` and ``F'Y`` are accumulated once, in float64, and a subset's are sums of its cells': nothing is
    subtracted, so no digits are lost. Subsets smaller than D are solved by ``F_S' (F_S F_S' + ridge I)^-1 Y_S`` from their
    rows. Outputs are float32 products; where the two largest are closer than rounding could have moved them, they are
    computed again in float64, so that every count is that of float64 arithmetic.

    Args:
        samples: N samples of C classes, whose vectors of D numbers are read twice.
        subsets: W subsets.
        proxy: the classifier.
        run: of it ``device``, where products run, and ``hand_out``, which gets blocks of both passes, some rows each.
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
    name = f"{proxy.name} of {'sorted' if samples.features.ordered else 'stored'} rows"
    grams = accumulate(samples, subsets, proxy.bias, run, name)
    right_w = np.zeros(len(subsets), np.int64)
    together = _subsets_together(grams.width, grams.n_classes)
    for start in range(0, len(subsets), together):
        part = slice(start, min(start + together, len(subsets)))
        weights_wdc = grams.solve(part, proxy.ridge)
        right_w[part] = right_counts(samples, weights_wdc, proxy.bias, run, f"{name}: {start}")
    return right_w


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
