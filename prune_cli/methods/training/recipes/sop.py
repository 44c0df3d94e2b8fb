"""SOP+: sparse over-parameterisation. Every sample has numbers of its own that take up a wrong label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prune_cli.core.params import param
from prune_cli.core.rng import generator
from prune_cli.methods.training.data.augment import AugmentName
from prune_cli.methods.training.data.inputs import TrainingSet
from prune_cli.methods.training.loop.contract import Forward, StepSamples
from prune_cli.methods.training.recipes.job import TrainedModel, TrainingJob
from prune_cli.methods.training.recipes.relabeling import RelabelParams, SampleLearner, relabeled
from prune_cli.methods.training.recipes.sgd import run_recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_START = 1e-8  # standard deviation of the first u and v
_LEAST = 1e-4  # the smallest probability a logarithm is taken of


@dataclass(frozen=True)
class SopParams(RelabelParams):
    """Parameters of ``sop``."""

    lr_u: float = param(10.0, "learning rate of u, which makes the given label likelier", low=0.0)
    lr_v: float = param(100.0, "learning rate of v, which makes the other classes less likely", low=0.0)
    consistency: float = param(0.9, "weight of the divergence between two augmentations; 0: one augmentation", low=0.0)
    balance: float = param(0.1, "weight of the divergence of the batch's mean prediction from uniform", low=0.0)


class SparseOverParameterization(SampleLearner):
    """The loss of SOP+, and u and v of every sample.

    Args:
        seed: draws the first u and v, by rank.
        device: where they are.
    """

    def __init__(self, data: TrainingSet, params: SopParams, seed: int, device: torch.device) -> None:
        import torch

        super().__init__()
        draws = generator(seed, "sop").normal(0.0, _START, size=(data.n_ranks, 1 + data.n_classes))[data.ranks_m]
        self.u_m1 = torch.from_numpy(draws[:, :1]).to(device, torch.float32).contiguous()
        self.v_mc = torch.from_numpy(draws[:, 1:]).to(device, torch.float32).contiguous()
        self._params = params

    def losses(self, turn: int, forward: Forward, samples: StepSamples) -> tuple[Tensor, Tensor]:
        """Return the logits of the first view and the losses; u and v of these samples wait for their gradients."""
        u_b1 = self.u_m1[samples.positions_b].requires_grad_()
        v_bc = self.v_mc[samples.positions_b].requires_grad_()
        self.noted.append((samples.positions_b, u_b1, v_bc))
        logits = _together(forward, turn, samples.views)
        params = self._params
        return logits[0], sop_losses(logits, samples.labels_b, u_b1, v_bc, params.consistency, params.balance)

    def learn(self, turn: int, *noted: Any) -> None:
        """Take a step of plain SGD in u and v."""
        positions_b, u_b1, v_bc = noted
        self.u_m1.index_add_(0, positions_b, u_b1.grad, alpha=-self._params.lr_u)
        self.v_mc.index_add_(0, positions_b, v_bc.grad, alpha=-self._params.lr_v)

    def arrays(self) -> Mapping[str, Tensor]:
        """Return u and v."""
        return {"u": self.u_m1, "v": self.v_mc}


def _together(forward: Forward, turn: int, views: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the logits of each view, of one batch of all: they share the statistics of batch normalisation."""
    import torch

    return (forward(turn, views[0]),) if len(views) == 1 else forward(turn, torch.cat(list(views))).chunk(len(views))


def sop_losses(logits: tuple[Tensor, ...], labels_b: Tensor, u_b1: Tensor, v_bc: Tensor, consistency: float, balance: float) -> Tensor:
    r"""Return the losses of SOP+.

    With y the one-hot label, p the softmax, ``s = u^2 y - v^2 (1 - y)``: the cross-entropy of ``p + u^2 y - v^2 (1 - y)`` (v held,
    at least 1e-4, scaled to sum 1); the squared error of ``h + s`` against y, h the one-hot prediction (held); with a second view
    ``consistency KL(p || p')`` (p held); ``balance`` times the cross-entropy against uniform of the mean, over the batch, of what the
    first term takes the logarithm of.

    Args:
        logits: one or two views, each (B, C) float32.
        labels_b: (B,) int64.
        consistency, balance: weights.
    Returns:
        (B,), whose mean is minimised.
    """
    import torch.nn.functional as F

    n_classes = logits[0].shape[1]
    y_bc = F.one_hot(labels_b, n_classes).to(logits[0].dtype)
    p_bc = logits[0].softmax(1)
    toward_bc, away_bc = (u_b1.square() * y_bc).clamp(0, 1), (v_bc.square() * (1 - y_bc)).clamp(0, 1)
    q_bc = (p_bc + toward_bc - away_bc.detach()).clamp_min(_LEAST)
    q_bc = q_bc / q_bc.sum(dim=1, keepdim=True)
    losses_b = -q_bc.gather(1, labels_b[:, None])[:, 0].log()
    hard_bc = F.one_hot(logits[0].detach().argmax(1), n_classes).to(y_bc)
    losses_b = losses_b + (hard_bc + toward_bc - away_bc - y_bc).square().sum(1)
    if len(logits) > 1 and consistency:
        held_bc = p_bc.detach()
        losses_b = losses_b + consistency * F.kl_div(logits[1].log_softmax(1), held_bc, reduction="none").sum(1)
    if balance:
        losses_b = losses_b - balance * q_bc.mean(0).clamp(_LEAST, 1.0).log().mean()
    return losses_b


def _weak_and_strong(data: TrainingSet, params: SopParams) -> tuple[AugmentName, AugmentName]:
    """Return the augmentations of two views: the recipe's, and the strong one for pictures that it fits."""
    pictures = len(data.input_shape) == 3 and data.input_shape[2] in {1, 3}
    return params.augment, "strong" if pictures else params.augment


def train_sop(job: TrainingJob, params: SopParams) -> TrainedModel:
    r"""Return a network trained with SOP+ on labels that may be wrong, and the labels it would give.

    Every sample has u (a number) and v (one for each class), which start near 0 and are trained with it: ``u^2`` on the given label and
    ``-v^2`` on the others are added to the prediction, so that a wrong label is taken up by them and not by the network.

    Args:
        job: what is trained on what, see `TrainingJob`.
    Returns:
        The network, and relabels: ``p_clean`` is its probability of the given label.
    Raises:
        InputError, NumericalError, InterruptedRun: as `run_recipe`.
    Cost:
        Two forward and backward passes a presentation (one without consistency); 4 (C + 1) bytes a sample.
    Source:
        Liu, Zhu, Qu, You, ICML 2022, arXiv:2202.14026; both views go through the network as one batch, as in the authors' code.
        Deviation: the second view is RandAugment and Cutout.
    """
    learned = run_recipe(
        "sop",
        job,
        params,
        lambda device, networks: SparseOverParameterization(job.data, params, job.runtime.seed, device),
        views=_weak_and_strong(job.data, params) if params.consistency else None,
    )
    return relabeled(learned, job, params, learned.probs(learned.networks[0]))
