"""Networks for vectors, which take flattened pictures as well.

This module imports torch, so it is imported inside functions only.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from prune_cli.methods.training.networks.network import Network


class LinearNetwork(Network):
    """Softmax regression: the embedding is the input itself, flattened."""

    def __init__(self, n_inputs: int, n_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(n_inputs, n_classes)

    def features(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)


class MultilayerPerceptron(Network):
    """Two hidden ReLU layers of one width, on vectors or flattened pictures."""

    def __init__(self, n_inputs: int, width: int, n_classes: int) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(n_inputs, width)
        self.hidden2 = nn.Linear(width, width)
        self.head = nn.Linear(width, n_classes)

    def features(self, inputs: Tensor) -> Tensor:
        return F.relu(self.hidden2(F.relu(self.hidden1(inputs.flatten(1)))))
