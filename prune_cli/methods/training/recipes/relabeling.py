"""What recipes for wrong labels share: numbers kept of every sample, and the labels that a network would give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.params import param
from prune_cli.core.rng import generator
from prune_cli.methods.training.loop.contract import Learner
from prune_cli.methods.training.recipes.job import Relabels, TrainedModel, TrainingJob
from prune_cli.methods.training.recipes.sgd import Learned, SgdParams

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_cli.methods.training.networks.network import Network


@dataclass(frozen=True)
class RelabelParams(SgdParams):
    """Parameters that every recipe that re-labels has."""

    change_above: float = param(0.5, "probability another class must exceed to be the new label", low=0.5, high=1.0)


class SampleLearner(Learner):
    """A learner that knows something of every sample: `losses` notes it, and it counts once the network has taken its step."""

    def __init__(self) -> None:
        self.noted: list[tuple[Any, ...]] = []

    def learn(self, turn: int, *noted: Any) -> None:
        """Take in what one call of `losses` noted."""
        raise NotImplementedError

    def update(self, turn: int) -> None:
        """Take in what was noted."""
        for noted in self.noted:
            self.learn(turn, *noted)
        self.noted.clear()

    def restart(self) -> None:
        """Forget what was noted."""
        self.noted.clear()


def mixing(seed: int, step: int, turn: int, size: int, alpha: float, device: torch.device) -> tuple[float, Tensor]:
    """Return the share of each sample, one half or more, and its partner; a share of 1 where alpha is 0."""
    import torch

    draw = generator(seed, "mixup", step, turn)
    share = float(draw.beta(alpha, alpha)) if alpha > 0 else 1.0
    partner_b = torch.from_numpy(draw.permutation(size).astype(np.int64)).to(device)
    return max(share, 1 - share), partner_b


def relabel(
    probs_mc: NDArray[np.float64], labels_m: NDArray[np.int64], change_above: float = 0.5, p_clean_m: NDArray[np.float64] | None = None
) -> Relabels:
    """Return the labels that probabilities speak for: another one where it is likely enough, and the given one is not likely.

    Args:
        probs_mc: (M, C) rows that sum to 1.
        labels_m: (M,) given labels.
        change_above: what the probability of another class must exceed.
        p_clean_m: (M,) how likely they are right; None: their probability.
    Example:
        >>> found = relabel(np.array([[0.2, 0.7, 0.1], [0.3, 0.4, 0.3]]), np.array([0, 0]))
        >>> found.codes_m.tolist(), found.p_clean_m.tolist(), found.confidence_m.tolist()
        ([1, 0], [0.2, 0.3], [0.7, 0.4])
    """
    of_label = probs_mc[np.arange(len(labels_m)), labels_m]
    p_clean = of_label if p_clean_m is None else p_clean_m
    best, confidence = probs_mc.argmax(axis=1), probs_mc.max(axis=1)
    return Relabels(np.where((confidence > change_above) & (p_clean < 0.5), best, labels_m), p_clean, confidence)


def relabeled(
    learned: Learned[Any],
    job: TrainingJob,
    params: RelabelParams,
    probs_mc: NDArray[np.float64],
    *,
    network: Network | None = None,
    p_clean_m: NDArray[np.float64] | None = None,
) -> TrainedModel:
    """Return a trained network with the labels that probabilities speak for.

    Args:
        probs_mc, p_clean_m: see `relabel`.
        network: which one; None for the first.
    """
    from prune_cli.methods.training.networks.network import export_tensors

    relabels = relabel(probs_mc, job.data.labels_m, params.change_above, p_clean_m)
    return TrainedModel(export_tensors(network or learned.networks[0]), learned.model, relabels)
