"""What a proxy is fitted to and judged by: labelled vectors, and how many of them are a block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prune_cli.methods.devices import tensor_of
from prune_cli.methods.selection.contract import Features

if TYPE_CHECKING:
    import torch

_BLOCK_NUMBERS = 1 << 23  # numbers in a block of features


@dataclass(frozen=True)
class LabelledVectors:
    """N samples.

    Args:
        features: N vectors of D numbers.
        codes_n: (N,) int64 class of each sample, 0 to C - 1.
        order_n: (N,) int64 order to read the vectors in where that can be: by cell.
    """

    features: Features
    codes_n: np.ndarray
    order_n: np.ndarray

    @property
    def width(self) -> int:
        """D."""
        return self.features.shape[1]

    @property
    def n_classes(self) -> int:
        """C."""
        return int(self.codes_n.max(initial=0)) + 1


def block_rows(width: int) -> int:
    """Return the rows of a block: enough that its sums are smaller than itself."""
    return max(_BLOCK_NUMBERS // width, 4 * width)


def with_bias(rows: torch.Tensor, bias: bool) -> torch.Tensor:
    """Return the rows, with a feature more that is 1 everywhere where that is wanted."""
    import torch

    return torch.cat([rows, rows.new_ones((len(rows), 1))], dim=1) if bias else rows


def one_hot(codes_b: np.ndarray, n_classes: int, device: torch.device) -> torch.Tensor:
    """Return (B, C) float64, 1 for the class of each sample."""
    import torch

    codes = tensor_of(codes_b).to(device)
    return torch.nn.functional.one_hot(codes, n_classes).to(torch.float64)
