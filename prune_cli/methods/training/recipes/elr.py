"""Early-learning regularisation: what a network predicted of a sample before, on average, holds it back from a wrong label."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prune_cli.core.params import param
from prune_cli.methods.training.data.inputs import TrainingSet
from prune_cli.methods.training.loop.contract import Change, Forward, StepSamples
from prune_cli.methods.training.recipes.job import TrainedModel, TrainingJob
from prune_cli.methods.training.recipes.relabeling import RelabelParams, SampleLearner, mixing, relabeled
from prune_cli.methods.training.recipes.sgd import run_recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_cli.methods.training.networks.network import Network

_LEAST = 1e-4  # probabilities are kept from 0 and 1 by this much


@dataclass(frozen=True)
class ElrParams(RelabelParams):
    """Parameters of ``elr``."""

    beta: float = param(0.7, "how much of the target stays at every presentation", low=0.0, high=0.9999)
    strength: float = param(3.0, "weight of the regularisation (the paper's lambda)", low=0.0)


@dataclass(frozen=True)
class ElrPlusParams(ElrParams):
    """Parameters of ``elr_plus``."""

    mixup: float = param(1.0, "alpha of the Beta distribution two samples are mixed by; 0: not mixed", low=0.0)
    averaging: float = param(0.997, "how much of the averaged weights stays at every step", low=0.0, high=0.99999)


def elr_target(target_bc: Tensor, probs_bc: Tensor, beta: float) -> Tensor:
    """Return ``beta t + (1 - beta) p``, p kept from 0 and 1 and scaled to sum 1."""
    held = probs_bc.detach().clamp(_LEAST, 1 - _LEAST)
    return beta * target_bc + (1 - beta) * held / held.sum(dim=1, keepdim=True)


def elr_losses(logits_bc: Tensor, labels_bc: Tensor, target_bc: Tensor, strength: float) -> Tensor:
    """Return ``CE(y, p) + strength log(1 - t . p)``, p kept from 0 and 1; labels are distributions, (B, C)."""
    probs_bc = logits_bc.softmax(1).clamp(_LEAST, 1 - _LEAST)
    cross_entropy_b = -(labels_bc * logits_bc.log_softmax(1)).sum(1)
    return cross_entropy_b + strength * (1 - (target_bc * probs_bc).sum(1)).log()


class EarlyLearning(SampleLearner):
    """ELR: a target of every sample, from the network's own predictions."""

    def __init__(self, data: TrainingSet, params: ElrParams, device: torch.device) -> None:
        import torch

        super().__init__()
        self.targets_kmc = torch.zeros((self.n_networks, len(data), data.n_classes), device=device)
        self._params = params

    def losses(self, turn: int, forward: Forward, samples: StepSamples) -> tuple[Tensor, Tensor]:
        """Return the logits and the losses against the targets as these predictions leave them."""
        import torch.nn.functional as F

        logits_bc = forward(turn, samples.views[0])
        target_bc = self._target(turn, samples.positions_b, logits_bc.softmax(1))
        labels_bc = F.one_hot(samples.labels_b, logits_bc.shape[1]).to(logits_bc.dtype)
        return logits_bc, elr_losses(logits_bc, labels_bc, target_bc, self._params.strength)

    def _target(self, turn: int, positions_b: Tensor, probs_bc: Tensor) -> Tensor:
        target_bc = elr_target(self.targets_kmc[turn, positions_b], probs_bc, self._params.beta)
        self.noted.append((positions_b, target_bc))
        return target_bc

    def learn(self, turn: int, *noted: Any) -> None:
        positions_b, target_bc = noted
        self.targets_kmc[turn, positions_b] = target_bc

    def arrays(self) -> Mapping[str, Tensor]:
        return {"targets": self.targets_kmc}


class EarlyLearningPlus(EarlyLearning):
    """ELR+: two networks, each held back by what the other one's averaged weights predict; samples are mixed in pairs.

    Args:
        networks: the two; their averages start as they are.
    """

    n_networks = 2

    def __init__(self, data: TrainingSet, params: ElrPlusParams, device: torch.device, networks: Sequence[Network], seed: int) -> None:
        super().__init__(data, params, device)
        self._plus, self._networks, self._seed = params, networks, seed
        self._stays = 0.0
        self.averages = [copy.deepcopy(network).requires_grad_(False) for network in networks]

    def losses(self, turn: int, forward: Forward, samples: StepSamples) -> tuple[Tensor, Tensor]:
        """Return the logits of the mixed samples and their losses, labels and targets mixed alike."""
        import torch.nn.functional as F

        view_b = samples.views[0]
        self._stays = min(self._plus.averaging, (samples.step + 1) / (samples.step + 10))
        guess_bc = forward(1 - turn, view_b, guess=True, copy=self.averages[1 - turn]).softmax(1)
        target_bc = self._target(turn, samples.positions_b, guess_bc)
        labels_bc = F.one_hot(samples.labels_b, guess_bc.shape[1]).to(guess_bc.dtype)
        share, partner_b = mixing(self._seed, samples.step, turn, len(view_b), self._plus.mixup, view_b.device)
        mixed_b = share * view_b + (1 - share) * view_b[partner_b]
        logits_bc = forward(turn, mixed_b)
        labels_bc = share * labels_bc + (1 - share) * labels_bc[partner_b]
        target_bc = share * target_bc + (1 - share) * target_bc[partner_b]
        return logits_bc, elr_losses(logits_bc, labels_bc, target_bc, self._params.strength)

    def update(self, turn: int) -> None:
        """Keep the targets, and move the averaged weights."""
        super().update(turn)
        average, network = self.averages[turn].state_dict(), self._networks[turn].state_dict()
        for name, tensor in average.items():
            if tensor.is_floating_point():
                tensor.lerp_(network[name], 1 - self._stays)
            else:
                tensor.copy_(network[name])

    def reshape(self, turn: int, change: Change) -> None:
        """Make the averaged weights as small as the network."""
        change(self.averages[turn], None)

    def arrays(self) -> Mapping[str, Tensor]:
        """Return the targets and the averaged weights."""
        averaged = {
            f"average{k}/{name}": tensor for k, average in enumerate(self.averages) for name, tensor in average.state_dict().items()
        }
        return {**super().arrays(), **averaged}


def train_elr(job: TrainingJob, params: ElrParams) -> TrainedModel:
    r"""Return a network trained with early-learning regularisation on labels that may be wrong, and the labels it would give.

    Args:
        job: what is trained on what, see `TrainingJob`.
    Returns:
        The network, and relabels: ``p_clean`` is its probability of the given label.
    Raises:
        InputError, NumericalError, InterruptedRun: as `run_recipe`.
    Cost:
        That of standard training, and 4 C bytes a sample.
    Source:
        Liu, Niles-Weed, Razavian, Fernandez-Granda, NeurIPS 2020, arXiv:2007.00151: CIFAR-10 beta .7, lambda 3.
    """
    learned = run_recipe("elr", job, params, lambda device, networks: EarlyLearning(job.data, params, device))
    return relabeled(learned, job, params, learned.probs(learned.networks[0]))


def train_elr_plus(job: TrainingJob, params: ElrPlusParams) -> TrainedModel:
    r"""Return the averaged weights of one of two networks that hold each other back (ELR+), and the labels both would give.

    Args:
        job: what is trained on what, see `TrainingJob`; the record is the first network's, on mixed samples.
    Returns:
        The first network's averaged weights, and relabels by the mean of both.
    Raises:
        InputError, NumericalError, InterruptedRun: as `run_recipe`.
    Cost:
        Two networks, each with a forward pass of the other's average: 2.7 times standard training; 8 C bytes a sample.
    Source:
        Liu, Niles-Weed, Razavian, Fernandez-Granda, NeurIPS 2020, arXiv:2007.00151. Deviations: both networks see the batches
        in one order; the average follows faster in the first steps, ``min(averaging, (t + 1) / (t + 10))``.
    """
    learned = run_recipe(
        "elr_plus",
        job,
        params,
        lambda device, networks: EarlyLearningPlus(job.data, params, device, networks, job.runtime.seed),
        n_networks=EarlyLearningPlus.n_networks,
    )
    averages = learned.learner.averages
    first, second = (learned.probs(average, k) for k, average in enumerate(averages))
    return relabeled(learned, job, params, (first + second) / 2, network=averages[0])
